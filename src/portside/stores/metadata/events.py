"""The events: recorded in the transactions of the changes, and read in their order.

Ids are assigned when a row is inserted, which a transaction that changes a repository does with the
row of the repository locked. So within a repository, ids are in the order of the changes.

PostgreSQL assigns them before the transactions commit, in whatever order these do so: a reader may
see an id before a lower one. It sees then that numbers are missing, and waits until those that were
writing events at that time have ended. A number that is still missing was rolled back or forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from portside.spec.pagination import Page
from portside.stores.actors import LONGEST, Actor
from portside.stores.events import EVERYTHING, Event, EventFilter, NewEvent
from portside.stores.metadata.engine import Database, Noun, Transaction, require_row
from portside.stores.metadata.schema.steps import TABLES

EVENTS = TABLES["events"]

_COLUMNS = ", ".join(column.name for column in EVENTS.columns)
# ruff: noqa: S608  # statements are put together of constants
READ = f"SELECT {_COLUMNS} FROM events WHERE id > $1 ORDER BY id LIMIT $2"
LAST = "SELECT COALESCE(MAX(id), 0) FROM events"
_LOCK = "SELECT 1 FROM access_state FOR NO KEY UPDATE"
_ALL_IDS = 2**63 - 1
LIST = f"""
    SELECT {_COLUMNS} FROM events
    WHERE id < $1 AND at >= $2 AND at < $3
        AND (CAST($4 AS TEXT) IS NULL OR identity = $4)
        AND (CAST($5 AS TEXT) IS NULL OR request = $5)
        AND action >= $6 AND action < $7
    ORDER BY id DESC
    LIMIT $8
"""
# The condition is that of the index events_of_access.
LAST_OF_ACCESS = """
    SELECT digest FROM events
    WHERE action = $1 AND reference = $2 AND repository = ''
    ORDER BY id DESC
    LIMIT 1
"""
# A webhook that is paused, or left the rules file, does not keep events from being forgotten.
TRIM = """
    DELETE FROM events
    WHERE at <= $1 AND id < (SELECT MAX(id) FROM events)
        AND id IN (SELECT id FROM events ORDER BY id LIMIT $2)
        AND NOT EXISTS (
            SELECT 1 FROM webhooks w
            WHERE w.position < events.id AND NOT w.paused AND w.left_at IS NULL
        )
"""


MOST_WAITING = 1000
"""Positions at which readers wait; when there are more, all begin to wait anew."""


class Events(Noun):
    """The EventStore."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        # By the position at which events are missing: the first id behind, and who may add them.
        self._waiting: dict[int, tuple[int, frozenset[str]]] = {}

    async def record_event(self, event: NewEvent, by: Actor, *, once: bool = False) -> None:
        """Add a row, if need be after a look while nobody else can."""

        async def job(transaction: Transaction) -> None:
            if once:
                await transaction.find(_LOCK)
                key = (event.action.value, event.reference)
                last = await transaction.find(LAST_OF_ACCESS, *key)
                if last is not None and last[0] == event.digest:
                    return
            await record_events(transaction, by, [event])

        await self._database.write(job)

    async def list_events(
        self, wanted: EventFilter = EVERYTHING, *, before: int | None = None, limit: int
    ) -> Page[Event]:
        """Read one page by the index of the ids."""
        texts = (wanted.identity, wanted.request, *wanted.actions)
        if not all(map(self._database.can_store, filter(None, texts))):
            return Page([], more=False)
        bounds = [
            _ALL_IDS if before is None else min(before, _ALL_IDS),
            _bounded(wanted.since, 0),
            _bounded(wanted.until, _ALL_IDS),
        ]
        ranges = [text for part in wanted.names or () for text in part]
        placed = " OR ".join(
            f"(repository >= ${number} AND repository < ${number + 1})"
            for number in range(9, 9 + len(ranges), 2)
        )
        # No range is none of the repositories.
        condition = "" if wanted.names is None else f"AND ({placed or 'FALSE'})"
        sql = LIST.replace("ORDER BY", f"{condition} ORDER BY")
        rows = await self._database.find_all(sql, *bounds, *texts, limit + 1, *ranges)
        return Page([_event(row) for row in rows[:limit]], more=0 < limit < len(rows))

    async def read_events(self, after: int, *, limit: int) -> list[Event]:
        """Read up to the first id that is missing, unless it is known that it stays so."""
        rows = await self._database.find_all(READ, after, limit)
        if rows and rows[0][0] != after + 1:
            first: int = rows[0][0]
            writers = await self._database.writers_of(EVENTS)
            waiting = self._waiting.pop(after, None)
            if waiting is not None:
                first = waiting[0]
                writers &= waiting[1]
            if writers:
                if len(self._waiting) >= MOST_WAITING:
                    self._waiting.clear()
                self._waiting[after] = (first, writers)
                return []
            # What those writers were to commit is committed by now.
            rows = await self._database.find_all(READ, after, limit)
            after = first - 1
        complete = []
        for row in rows:
            if row[0] > after + 1:
                break
            after = max(after, row[0])
            complete.append(_event(row))
        return complete

    async def last_event(self) -> int:
        """Read the end of the index of the ids."""
        last: int = require_row(await self._database.find(LAST))[0]
        return last

    async def trim_events(self, until: int, *, limit: int) -> int:
        """Delete rows at the beginning of the index of the ids."""
        return await self._database.execute(TRIM, until, limit)


def _bounded(time: int | None, default: int) -> int:
    return default if time is None else max(0, min(time, _ALL_IDS))


async def record_events(transaction: Transaction, by: Actor, events: Sequence[NewEvent]) -> None:
    """Record what a transaction changes, with one statement."""
    rows = [event_row(transaction.now, by, event) for event in events]
    await transaction.insert_many(EVENTS, rows)


def event_row(now: int, by: Actor, event: NewEvent) -> tuple[Any, ...]:
    """Return the columns of an event but for its id."""
    details = msgspec.json.encode(event.details).decode() if event.details else ""
    return (
        now,
        event.action.value,
        event.repository,
        event.reference,
        event.digest,
        event.media_type,
        event.size,
        *map(_storable, by),
        details,
    )


def _storable(text: str) -> str:
    """Return what can be stored of a text that a client chose."""
    if text.isascii() and len(text) <= LONGEST and "\0" not in text:
        return text
    return text[:LONGEST].replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _event(row: Any) -> Event:
    number, time, action, repository, reference, digest, media_type, size, *by, details = row
    return Event(
        id=number,
        time=time,
        action=action,
        repository=repository,
        reference=reference,
        digest=digest,
        media_type=media_type,
        size=size,
        by=Actor(*by),
        details=msgspec.json.decode(details) if details else {},
    )
