"""Webhooks and their deliveries.

Of the deliveries of a webhook in one repository that are waiting, the first one has a time at which
it is due, and the others have none: however many wait, what is due next is read from one place of
an index. Everything that adds, ends or moves deliveries locks the row of the webhook first, so that
no two of them leave a repository without one that is due.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from portside.spec.pagination import Page
from portside.stores.events import Event
from portside.stores.metadata.engine import Noun, Transaction, require_row
from portside.stores.metadata.events import LAST
from portside.stores.webhooks import Delivery, DeliveryState, Reading, WebhookState

# ruff: noqa: S608  # statements are put together of constants

_ADD = """
    INSERT INTO webhooks (name, position, resumed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_STAY = "UPDATE webhooks SET left_at = NULL WHERE name = ANY ($1) AND left_at IS NOT NULL"
_LEAVE = "UPDATE webhooks SET left_at = $2 WHERE name = $1 AND left_at IS NULL"
LIST = """
    SELECT name, position, paused, resumed, left_at, waiting, dead, delivered, failing
    FROM webhooks ORDER BY name
"""
_PAUSE = """
    UPDATE webhooks SET
        paused = TRUE
    WHERE name = $1
"""
_RESUME = """
    UPDATE webhooks SET resumed = CASE WHEN paused THEN $2 ELSE resumed END, paused = FALSE
    WHERE name = $1
"""
_LOCK = "SELECT 1 FROM webhooks WHERE name = $1 FOR NO KEY UPDATE"
_READ = """
    UPDATE webhooks SET position = $3, waiting = waiting + $4
    WHERE name = $1 AND position = $2 AND NOT paused
"""
_COUNT = "UPDATE webhooks SET waiting = waiting + $2, dead = dead + $3 WHERE name = $1"
_NOTE_DELIVERED = "UPDATE webhooks SET delivered = $2, failing = NULL WHERE name = $1"
_NOTE_FAILED = "UPDATE webhooks SET failing = $2 WHERE name = $1 AND failing IS NULL"
_FORGET = "DELETE FROM webhooks WHERE name = $1 AND left_at <= $2 AND waiting = 0 AND dead = 0"
_HAS_LEFT = "SELECT 1 FROM webhooks WHERE name = $1 AND left_at <= $2 FOR NO KEY UPDATE"

_DELIVER = """
    INSERT INTO deliveries (webhook, state, event, repository, id, since, due, content)
    VALUES (
        $1, 'waiting', $2, $3, $4, $5,
        CASE
            WHEN EXISTS (
                SELECT 1 FROM deliveries
                WHERE webhook = $1 AND repository = $3 AND state = 'waiting'
            ) THEN NULL ELSE CAST($6 AS BIGINT)
        END,
        $7
    )
"""
_COLUMNS = "webhook, id, content, state, since, due, attempts, failing, error"
DUE = f"""
    SELECT {_COLUMNS} FROM deliveries
    WHERE webhook = $1 AND due <= $2
    ORDER BY due, event
    LIMIT $3
"""
OLDEST = """
    SELECT since FROM deliveries WHERE webhook = $1 AND state = 'waiting' ORDER BY event LIMIT 1
"""
DELIVERIES = f"""
    SELECT {_COLUMNS} FROM deliveries
    WHERE webhook = $1 AND state = $2 AND event > $3
    ORDER BY event
    LIMIT $4
"""
FIRST = """
    SELECT event, repository, since FROM deliveries
    WHERE webhook = $1 AND state = $2
    ORDER BY event
    LIMIT $3
"""
_OF_EVENTS = """
    SELECT event, repository, since FROM deliveries
    WHERE webhook = $1 AND state = $2 AND event = ANY ($3)
"""
_END = "DELETE FROM deliveries WHERE webhook = $1 AND state = $2 AND event = ANY ($3)"
_POSTPONE = """
    UPDATE deliveries SET
        attempts = attempts + 1, error = $4, failing = COALESCE(failing, $5),
        due = CASE WHEN due IS NULL THEN NULL ELSE CAST($3 AS BIGINT) END
    WHERE webhook = $1 AND state = 'waiting' AND event = $2
"""
_BURY = """
    UPDATE deliveries SET state = 'dead', due = NULL
    WHERE webhook = $1 AND state = 'waiting' AND event = ANY ($2)
"""
_NOTE_LAST = """
    UPDATE deliveries SET attempts = attempts + 1, error = $3, failing = COALESCE(failing, $4)
    WHERE webhook = $1 AND state = 'waiting' AND event = $2
"""
_NOTE_OLD = """
    UPDATE deliveries SET error = $3
    WHERE webhook = $1 AND state = 'dead' AND event = ANY ($2) AND error = ''
"""
_RETRY = """
    UPDATE deliveries SET state = 'waiting', attempts = 0, failing = NULL, since = $3
    WHERE webhook = $1 AND state = 'dead' AND event = ANY ($2)
"""
_FIRST_OF_REPOSITORY = """
    SELECT MIN(event) FROM deliveries
    WHERE webhook = $1 AND repository = $2 AND state = 'waiting'
"""
# One row by its key, however many wait.
WAIT_BEHIND = "UPDATE deliveries SET due = NULL WHERE webhook = $1 AND state = $2 AND event = $3"
BE_DUE = f"""
    UPDATE deliveries SET due = $3
    WHERE webhook = $1 AND repository = $2 AND state = 'waiting' AND due IS NULL
        AND event = ({_FIRST_OF_REPOSITORY})
"""
_HASTEN = "UPDATE deliveries SET due = $3 WHERE webhook = $1 AND due > $2"

NOT_TRIED = "it was waiting for too long"
"""The error of a delivery that is dead without an attempt."""


class Webhooks(Noun):
    """The WebhookStore."""

    async def add_webhooks(self, names: Sequence[str]) -> None:
        """Look first: a server with the same rules starts without a write."""
        known = {state.name for state in await self.list_webhooks()}
        if not known.issuperset(names):
            await self._database.write(lambda transaction: _add(transaction, names))

    async def note_webhooks(self, names: Sequence[str]) -> None:
        """Look first, as this is called again and again."""
        states = await self.list_webhooks()
        gone = [it.name for it in states if it.left_at is None and it.name not in names]
        if not gone and {it.name for it in states if it.left_at is None} == {*names}:
            return

        async def job(transaction: Transaction) -> None:
            await _add(transaction, names)
            await transaction.execute(_STAY, list(names))
            await transaction.execute_each(_LEAVE, [(name, transaction.now) for name in gone])

        await self._database.write(job)

    async def list_webhooks(self) -> list[WebhookState]:
        """Read a few rows."""
        rows = await self._database.find_all(LIST)
        return [WebhookState(row[0], row[1], bool(row[2]), *row[3:]) for row in rows]

    async def pause_webhook(self, name: str, *, paused: bool) -> bool:
        """Change the row; what is paused twice stays so."""
        if paused:
            return await self._database.execute(_PAUSE, name) > 0
        return await self._database.execute(_RESUME, name, self._database.clock()) > 0

    async def forget_webhook(self, name: str, before: int, *, limit: int) -> bool:
        """Delete deliveries as long as there are any, and then the row."""

        async def job(transaction: Transaction) -> bool:
            if await transaction.find(_HAS_LEFT, name, before) is None:
                return True
            for state in DeliveryState:
                rows = await transaction.find_all(FIRST, name, state, limit)
                if rows:
                    await _remove(transaction, name, state, [row[0] for row in rows])
                    return False
            return await transaction.execute(_FORGET, name, before) > 0

        return await self._database.write(job)

    async def read_for_webhooks(self, readings: Sequence[Reading]) -> None:
        """Move positions in the order of the names, as others lock these rows one by one."""

        async def job(transaction: Transaction) -> None:
            for webhook, start, stop, wanted in sorted(readings):
                if await transaction.execute(_READ, webhook, start, stop, len(wanted)):
                    rows = [_row(webhook, event, transaction.now) for event in wanted]
                    await transaction.execute_each(_DELIVER, rows)

        await self._database.write(job)

    async def due_deliveries(self, webhook: str, *, limit: int) -> list[Delivery]:
        """Read the beginning of the index of what is due."""
        now = self._database.clock()
        return [_delivery(row) for row in await self._database.find_all(DUE, webhook, now, limit)]

    async def oldest_delivery(self, webhook: str) -> int | None:
        """Read one row."""
        row = await self._database.find(OLDEST, webhook)
        return None if row is None else row[0]

    async def end_delivery(self, delivery: Delivery) -> None:
        """Delete it, also if it was retried or given up while it was being sent."""
        webhook, event = delivery.webhook, delivery.event

        async def job(transaction: Transaction) -> None:
            await transaction.find(_LOCK, webhook)
            for state in DeliveryState:
                await _remove(transaction, webhook, state, [event.id])
            await _settle(transaction, webhook, [event.repository])
            await transaction.execute(_NOTE_DELIVERED, webhook, transaction.now)

        await self._database.write(job)

    async def postpone_delivery(self, delivery: Delivery, due: int, error: str) -> None:
        """Change its row; one that is behind another one now stays without a time."""
        webhook, event = delivery.webhook, delivery.event

        async def job(transaction: Transaction) -> None:
            await transaction.find(_LOCK, webhook)
            await transaction.execute(_POSTPONE, webhook, event.id, due, error, transaction.now)
            await transaction.execute(_NOTE_FAILED, webhook, transaction.now)

        await self._database.write(job)

    async def bury_delivery(self, delivery: Delivery, error: str) -> None:
        """Change its state."""
        webhook, event = delivery.webhook, delivery.event

        async def job(transaction: Transaction) -> None:
            await transaction.find(_LOCK, webhook)
            await transaction.execute(_NOTE_LAST, webhook, event.id, error, transaction.now)
            await _bury(transaction, webhook, [event.id])
            await _settle(transaction, webhook, [event.repository])
            await transaction.execute(_NOTE_FAILED, webhook, transaction.now)

        await self._database.write(job)

    async def bury_old_deliveries(self, webhook: str, before: int, *, limit: int) -> int:
        """Read the first ones, and change the states of those that are old."""

        async def job(transaction: Transaction) -> int:
            await transaction.find(_LOCK, webhook)
            rows = await transaction.find_all(FIRST, webhook, DeliveryState.WAITING, limit)
            old = [row for row in rows if row[2] <= before]
            events = [row[0] for row in old]
            await _bury(transaction, webhook, events)
            await transaction.execute(_NOTE_OLD, webhook, events, NOT_TRIED)
            await _settle(transaction, webhook, {row[1] for row in old})
            return len(old)

        return await self._database.write(job)

    async def hasten_deliveries(self, webhook: str, after: int) -> None:
        """Change the end of the index of what is due."""
        await self._database.execute(_HASTEN, webhook, after, self._database.clock())

    async def list_deliveries(
        self, webhook: str, state: DeliveryState, *, after: int = 0, limit: int
    ) -> Page[Delivery]:
        """Read one page by the primary key."""
        if not self._database.can_store(webhook):
            return Page([], more=False)
        rows = await self._database.find_all(DELIVERIES, webhook, state, after, limit + 1)
        return Page([_delivery(row) for row in rows[:limit]], more=0 < limit < len(rows))

    async def retry_deliveries(self, webhook: str, events: Sequence[int]) -> int:
        """Change states; in each repository, the first one is due and others wait behind it."""

        async def job(transaction: Transaction) -> int:
            await transaction.find(_LOCK, webhook)
            wanted = list(events)
            rows = await transaction.find_all(_OF_EVENTS, webhook, DeliveryState.DEAD, wanted)
            firsts: dict[str, int] = {}
            for event, repository, _ in rows:
                firsts[repository] = min(event, firsts.get(repository, event))
            for repository, event in firsts.items():
                (due,) = require_row(
                    await transaction.find(_FIRST_OF_REPOSITORY, webhook, repository)
                )
                if due is not None and event < due:
                    await transaction.execute(WAIT_BEHIND, webhook, DeliveryState.WAITING, due)
            await transaction.execute(_RETRY, webhook, wanted, transaction.now)
            await transaction.execute(_COUNT, webhook, len(rows), -len(rows))
            await _settle(transaction, webhook, firsts)
            return len(rows)

        return await self._database.write(job)

    async def forget_dead_deliveries(self, webhook: str, before: int, *, limit: int) -> int:
        """Read the first ones, and delete those that are old."""

        async def job(transaction: Transaction) -> int:
            await transaction.find(_LOCK, webhook)
            rows = await transaction.find_all(FIRST, webhook, DeliveryState.DEAD, limit)
            old = [row[0] for row in rows if row[2] <= before]
            await _remove(transaction, webhook, DeliveryState.DEAD, old)
            return len(old)

        return await self._database.write(job)


async def _add(transaction: Transaction, names: Iterable[str]) -> None:
    position = require_row(await transaction.find(LAST))[0]
    rows = [(name, position, transaction.now) for name in sorted(names)]
    await transaction.execute_each(_ADD, rows)


async def _remove(
    transaction: Transaction, webhook: str, state: DeliveryState, events: list[int]
) -> None:
    """Delete deliveries in a state, and count them no more."""
    removed = await transaction.execute(_END, webhook, state, events)
    if removed:
        is_waiting = state is DeliveryState.WAITING
        counts = (-removed, 0) if is_waiting else (0, -removed)
        await transaction.execute(_COUNT, webhook, *counts)


async def _bury(transaction: Transaction, webhook: str, events: list[int]) -> None:
    buried = await transaction.execute(_BURY, webhook, events)
    await transaction.execute(_COUNT, webhook, -buried, buried)


async def _settle(transaction: Transaction, webhook: str, repositories: Iterable[str]) -> None:
    """Make the first delivery that waits due, in each of the repositories."""
    rows = [(webhook, repository) for repository in repositories]
    await transaction.execute_each(BE_DUE, [(*row, transaction.now) for row in rows])


def _row(webhook: str, event: Event, now: int) -> tuple[Any, ...]:
    """Return the parameters of a new delivery."""
    content = msgspec.json.encode(event).decode()
    return webhook, event.id, event.repository, secrets.token_hex(16), event.time, now, content


def _delivery(row: Any) -> Delivery:
    webhook, number, content, state, *others = row
    event = msgspec.json.decode(content, type=Event)
    return Delivery(webhook, number, event, DeliveryState(state), *others)
