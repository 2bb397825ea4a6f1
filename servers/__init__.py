"""Real servers that tests and the benchmark start: on the loopback, empty, and thrown away."""

from __future__ import annotations


class ServerMissing(Exception):
    """A program is not installed; the message says which, and what installs it."""
