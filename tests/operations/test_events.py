"""The feed of events: one reader for all streams of a process, whatever these do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, closing
from pathlib import Path

import pytest

from portside.operations import events
from portside.operations.events import EventFeed, EventPage
from portside.spec.errors import TooManyRequests
from portside.stores.actors import NOBODY
from portside.stores.events import Event, EventAction, NewEvent
from portside.stores.metadata.store import Metadata
from support.sqlite import open_database

NOTED = NewEvent(EventAction.RULES_RELOADED)


class CountedStore(Metadata):
    """A store that counts how often its events are read."""

    reads = 0

    async def read_events(self, after: int, *, limit: int) -> list[Event]:
        """Count, and read."""
        self.reads += 1
        return await super().read_events(after, limit=limit)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "INTERVAL", 0.001)
    monkeypatch.setattr(events, "RECENT", 3)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CountedStore]:
    """Make an empty store."""
    with closing(await open_database(tmp_path, clock=lambda: 1)) as database:
        yield CountedStore(database)


async def note(store: Metadata, count: int = 1) -> None:
    """Record events."""
    for _ in range(count):
        await store.record_event(NOTED, NOBODY)


async def take(stream: AsyncIterator[EventPage], count: int) -> list[int]:
    """Return the ids of the next events of a stream."""
    found: list[int] = []
    while len(found) < count:
        found += [event.id for event in (await anext(stream)).events]
    return found


async def test_streams_begin_where_they_are_asked_to(store: CountedStore) -> None:
    """At an id, or now; every event comes once, in order, however many there are."""
    feed = EventFeed(store, most=9)
    await note(store, 5)
    async with aclosing(feed.follow(None)) as late, aclosing(feed.follow(2)) as early:
        assert (await anext(late), await anext(early)) == (([], 5), ([], 2))
        await note(store, 5)
        assert await take(late, 5) == [6, 7, 8, 9, 10]
        assert await take(early, 8) == [3, 4, 5, 6, 7, 8, 9, 10]


async def test_a_slow_reader(store: CountedStore) -> None:
    """One that falls behind keeps nothing in memory, delays nobody, and misses nothing."""
    feed = EventFeed(store, most=9)
    async with aclosing(feed.follow(None)) as slow, aclosing(feed.follow(None)) as quick:
        await anext(slow)
        await anext(quick)
        for number in range(1, 9):
            await note(store)
            assert await take(quick, 1) == [number]
        before = store.reads
        assert await take(slow, 8) == list(range(1, 9))
        assert store.reads > before, "what is old was in memory"


async def test_one_reader_for_all(store: CountedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More streams are not more reads of the store, and none is read for nobody."""
    monkeypatch.setattr(events, "INTERVAL", 3600)
    feed = EventFeed(store, most=99)
    before = asyncio.all_tasks()
    assert store.reads == 0
    streams = [feed.follow(None) for _ in range(20)]
    for stream in streams:
        assert await anext(stream) == ([], 0)
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    assert store.reads == 1
    for task, stream in zip(waiting, streams, strict=True):
        task.cancel()
        await asyncio.wait([task])
        await stream.aclose()
    assert asyncio.all_tasks() == before


async def test_a_limit(store: CountedStore) -> None:
    """One stream more than allowed is refused, until another one ends."""
    feed = EventFeed(store, most=1)
    async with aclosing(feed.follow(None)) as first:
        await anext(first)
        with pytest.raises(TooManyRequests):
            await anext(feed.follow(None))
    async with aclosing(feed.follow(None)) as second:
        assert await anext(second) == ([], 0)


async def test_a_share(store: CountedStore) -> None:
    """A quarter of the streams is for one reader; others are not refused for its sake."""
    feed = EventFeed(store, most=8)
    async with AsyncExitStack() as opened:

        async def follow(reader: str) -> AsyncGenerator[EventPage, None]:
            stream = await opened.enter_async_context(aclosing(feed.follow(0, reader=reader)))
            await anext(stream)
            return stream

        first = await follow("greedy")
        await follow("greedy")
        with pytest.raises(TooManyRequests):
            await follow("greedy")
        await follow("modest")
        await first.aclose()
        await follow("greedy")


async def test_heartbeats(store: CountedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream without events says at intervals that it is there."""
    monkeypatch.setattr(events, "HEARTBEAT", 0.001)
    async with aclosing(EventFeed(store, most=1).follow(None)) as stream:
        for _ in range(3):
            assert await anext(stream) == ([], 0)


async def test_the_end(store: CountedStore) -> None:
    """All streams end when the process does."""
    stopping = asyncio.Event()
    feed = EventFeed(store, most=9, is_stopping=stopping.is_set)
    stream = feed.follow(None)
    assert await anext(stream) == ([], 0)
    stopping.set()
    assert [page async for page in stream] == []
