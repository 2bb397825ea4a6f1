"""What every setting says of itself, and the bounds that several share."""

from __future__ import annotations

from typing import Any

from msgspec import Meta

DAY = 24 * 3600
"""Seconds: nobody who is asked to wait for longer is there any more."""

TEN_YEARS = 3650 * DAY
"""Seconds: longer than anything is kept, and short enough to be reckoned with in microseconds."""

LARGEST = 2**63 - 1
"""What file systems and SQLite count bytes with."""

ROOM = 1 << 30
"""Bytes: what one request can be let take of the memory of most machines."""


def described(description: str, unit: str, **bounds: Any) -> Meta:
    """Annotate a setting with what a person needs to know of it."""
    return Meta(description=description, extra={"unit": unit}, **bounds)
