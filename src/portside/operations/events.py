"""Events: read them as they come, and forget them when they are old."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from portside.stores.events import EventStore

PAGE = 1000
"""Events that are read or forgotten at once."""

Step = Callable[[], AbstractAsyncContextManager[None]]
"""Makes the block within which one page is forgotten; it may wait at its end."""


async def trim_events(events: EventStore, until: int, *, step: Step = nullcontext) -> int:
    """Forget the events from a time (microseconds since 1970) or before it; return how many.

    Requests have their turn between two pages.
    """
    gone = 0
    while True:
        async with step():
            forgotten = await events.trim_events(until, limit=PAGE)
        gone += forgotten
        if forgotten < PAGE:
            return gone
