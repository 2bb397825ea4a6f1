"""What operators are told of requests, stores and background tasks: metrics and traces."""
