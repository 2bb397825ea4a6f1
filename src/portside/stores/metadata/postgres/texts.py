"""Texts that PostgreSQL cannot hold, and so has never stored: with a NUL, or beyond UTF-8."""

from __future__ import annotations

import hashlib

MAX_INDEXED = 255
"""Characters. What an index holds must be well below 2700 bytes."""


def is_storable(text: str) -> bool:
    """Tell whether a text can be equal to a stored one."""
    try:
        return b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        return False


def before_nul(text: str) -> str:
    """Give a text that exactly the same stored texts are greater than, byte by byte.

    Where both go on behind it, what is stored goes on with something greater than NUL.
    """
    return text.partition("\0")[0]


def countable(text: str) -> str:
    """Give what can be stored and indexed for any text, to count by; short ones stay readable."""
    if len(text) > MAX_INDEXED or not is_storable(text):
        return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return text
