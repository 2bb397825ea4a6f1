"""What can go wrong with a measurement."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot go on; the message is one line for the person who started it."""
