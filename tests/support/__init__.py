"""What the tests share: a running registry, content to push, and a client for the wire."""
