"""Events: follow them as they come, and forget them when they are old."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, NamedTuple

from portside.operations.tag_history import format_time
from portside.spec.errors import RegistryError, TooManyRequests
from portside.stores.events import Event, EventStore

PAGE = 1000
"""Events that are read or forgotten at once."""

INTERVAL = 0.5
"""Seconds between two looks for new events, of one process for all of its streams."""

HEARTBEAT = 15.0
"""Seconds without an event after which a stream says that it is still there: less than proxies wait
for a server that says nothing."""

RECENT = 1000
"""Events that are in memory for all streams; one that is farther behind reads them itself."""

SHARE = 4
"""One reader may have one of so many streams, so that nobody takes all of them."""

UNTIL_STREAMS_END = 60
"""Seconds after which a client may look whether another stream has ended."""

Step = Callable[[], AbstractAsyncContextManager[None]]
"""Makes the block within which one page is forgotten; it may wait at its end."""

log = logging.getLogger(__name__)


class EventPage(NamedTuple):
    """Events in their order, and the position behind them; none where there is nothing new."""

    events: list[Event]
    position: int


class EventFeed:
    """The events as they come, for at most `most` streams of one process, a quarter for one reader.

    One task reads them for all streams, while there are any. The streams end when `is_stopping`.
    """

    def __init__(
        self, store: EventStore, *, most: int, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._store = store
        self._most = most
        self._is_stopping = is_stopping
        self._most_of_one = max(1, most // SHARE)
        self._streams = Counter[str]()
        self._beginning = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        # Those after the position `_start` up to `_position`.
        self._recent: deque[Event] = deque()
        self._start = self._position = 0

    async def read(self, after: int) -> AsyncGenerator[EventPage, None]:
        """Yield the events that there are after a position, an empty page first."""
        yield EventPage([], after)
        while events := await self._read(after):
            after = events[-1].id
            yield EventPage(events, after)

    async def follow(
        self, after: int | None, *, reader: str = ""
    ) -> AsyncGenerator[EventPage, None]:
        """Yield events after a position, by default those from now on, as they come.

        `reader` is whose stream it is. The first page is empty, and so is one where a heartbeat is
        due. Raises TooManyRequests before the first one.
        """
        self._require_room(reader)
        self._streams[reader] += 1
        try:
            await self._begin()
            position = self._position if after is None else after
            yield EventPage([], position)
            while not self._is_stopping():
                news = self._news
                events = await self._next(position)
                if events:
                    position = events[-1].id
                    yield EventPage(events, position)
                elif not await _happens(news):
                    yield EventPage([], position)
        finally:
            self._streams -= Counter((reader,))
            if not self._streams:
                await self._end()

    def _require_room(self, reader: str) -> None:
        """Raise TooManyRequests if there are enough streams, of all readers or of this one."""
        if self._streams.total() >= self._most:
            many = f"{self._most} event streams are open"
        elif self._streams[reader] >= self._most_of_one:
            many = f"{self._most_of_one} event streams of this client are open"
        else:
            return
        raise TooManyRequests(UNTIL_STREAMS_END, f"{many}; end one, or try later")

    async def _read(self, after: int) -> list[Event]:
        return await self._store.read_events(after, limit=PAGE)

    async def _next(self, after: int) -> list[Event]:
        if after < self._start:
            return await self._read(after)
        return [event for event in self._recent if event.id > after]

    async def _begin(self) -> None:
        async with self._beginning:
            if self._reading is None:
                self._start = self._position = await self._store.last_event()
                self._recent.clear()
                self._reading = asyncio.ensure_future(self._read_on())

    async def _read_on(self) -> None:
        """Read new events at intervals, and wake the streams up, until cancelled."""
        while True:
            events: list[Event] = []
            try:
                events = await self._read(self._position)
            except RegistryError as error:
                log.warning("cannot read new events: %s", error)
            if events:
                self._recent.extend(events)
                self._position = events[-1].id
                while len(self._recent) > RECENT:
                    self._start = self._recent.popleft().id
            if events or self._is_stopping():
                news, self._news = self._news, asyncio.Event()
                news.set()
            if len(events) < PAGE:
                await asyncio.sleep(INTERVAL)

    async def _end(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def _happens(news: asyncio.Event) -> bool:
    """Wait for an event, or until a heartbeat is due; return whether it happened."""
    try:
        async with asyncio.timeout(HEARTBEAT):
            return await news.wait()
    except TimeoutError:
        return False


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


def document_of(event: Event) -> dict[str, Any]:
    """Return an event as a document: as commands print it, and webhooks are sent it."""
    by = event.by
    return {
        "id": event.id,
        "time": format_time(event.time),
        "action": event.action,
        "repository": event.repository or None,
        "reference": event.reference or None,
        "digest": event.digest or None,
        "media_type": event.media_type or None,
        "size": event.size,
        "identity": by.name or None,
        "request": by.request or None,
        "address": by.address or None,
        "agent": by.agent or None,
        "host": by.host or None,
        "method": by.method or None,
        "details": event.details,
    }
