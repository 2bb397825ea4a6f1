"""What operators are told by numbers: how requests, stores and background tasks do."""
