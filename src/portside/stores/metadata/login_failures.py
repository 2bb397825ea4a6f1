"""Failed attempts to authenticate, stored where every process sees them."""

from __future__ import annotations

import hashlib

from portside.stores.access import MOST_RECORDED, NO_LIMITS, FailureLimits
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.metadata.engine import Noun, Transaction, require_row
from portside.stores.metadata.events import record_events

MAX_INDEXED = 255
"""Characters. What an index of PostgreSQL holds must be well below 2700 bytes."""

_COUNT_ALL = "SELECT count(*) FROM login_failures WHERE source = $1 AND failed >= $2"
_COUNT_NAME = """
    SELECT count(*) FROM login_failures WHERE source = $1 AND name = $2 AND failed >= $3
"""
_ADD = "INSERT INTO login_failures (source, name, failed, recorded) VALUES ($1, $2, $3, $4)"
# One failure is counted after the other, so that one of them is the first, and one reaches a limit.
_LOCK = "SELECT 1 FROM access_state FOR NO KEY UPDATE"
_COUNTED = f"""
    SELECT
        (SELECT COUNT(*) FROM login_failures WHERE source = $1 AND name = $2 AND failed >= $3),
        (SELECT COUNT(*) FROM login_failures WHERE source = $1 AND failed >= $3),
        NOT read_only AND NOT EXISTS (
            SELECT 1 FROM login_failures
            WHERE source = $1 AND name = $2 AND failed >= $3 AND recorded
        ) AND {MOST_RECORDED} > (
            SELECT COUNT(*) FROM (
                SELECT 1 FROM login_failures WHERE failed >= $3 AND recorded LIMIT {MOST_RECORDED}
            ) AS others
        ),
        NOT read_only
    FROM registry
"""  # noqa: S608  # put together of constants
# Two nodes that forget the same rows would wait for one another: the second skips them.
_FORGET = """
    DELETE FROM login_failures WHERE id IN (
        SELECT id FROM login_failures WHERE failed < $1 FOR NO KEY UPDATE SKIP LOCKED
    )
"""


_UNKNOWN = {"name": "unknown"}
"""What events say instead of a name that no identity has: some people type their password there."""


class LoginFailures(Noun):
    """The failures of the AccessStore; of names, which are whatever a client sent, only digests."""

    async def count_failures(self, source: str, name: str | None, since: int) -> int:
        """Count rows by an index; there are never more than attempts that were let through."""
        if name is None:
            row = await self._database.find(_COUNT_ALL, _countable(source), since)
        else:
            row = await self._database.find(_COUNT_NAME, *_key(source, name), since)
        count: int = require_row(row)[0]
        return count

    async def add_failure(
        self,
        source: str,
        name: str,
        *,
        forget_before: int,
        is_known: bool = True,
        limits: FailureLimits = NO_LIMITS,
        by: Actor = NOBODY,
    ) -> None:
        """Count, add a row, and delete old ones."""
        key = _key(source, name)
        reference, details = (_countable(name), None) if is_known else ("", _UNKNOWN)
        failed = NewEvent(EventAction.LOGIN_FAILED, reference=reference, details=details)
        limited = failed._replace(action=EventAction.LOGIN_LIMITED)

        async def job(transaction: Transaction) -> None:
            await transaction.find(_LOCK)
            row = require_row(await transaction.find(_COUNTED, *key, forget_before))
            of_name, of_source, is_due, may_record = row
            await transaction.execute(_FORGET, forget_before)
            await transaction.execute(_ADD, *key, transaction.now, bool(is_due))
            events = [failed] if is_due else []
            if may_record and of_name + 1 == limits.of_name:
                events.append(limited)
            if may_record and of_source + 1 == limits.of_source:
                events.append(NewEvent(EventAction.LOGIN_LIMITED))
            if events:
                await record_events(transaction, by, events)

        await self._database.write(job)


def _key(source: str, name: str) -> tuple[str, str]:
    return _countable(source), _digest(f"{source}\0{name}")


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _countable(text: str) -> str:
    """Return what can be stored and indexed for any text; short ones stay readable."""
    try:
        is_storable = len(text) <= MAX_INDEXED and b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        is_storable = False
    return text if is_storable else _digest(text)
