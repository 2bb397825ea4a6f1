"""Failed attempts to authenticate, stored where every process sees them."""

from __future__ import annotations

import hashlib

from portside.stores.metadata.engine import Noun, Transaction, require_row

MAX_INDEXED = 255
"""Characters. What an index of PostgreSQL holds must be well below 2700 bytes."""

_COUNT_ALL = "SELECT count(*) FROM login_failures WHERE source = $1 AND failed >= $2"
_COUNT_NAME = """
    SELECT count(*) FROM login_failures WHERE source = $1 AND name = $2 AND failed >= $3
"""
_ADD = "INSERT INTO login_failures (source, name, failed) VALUES ($1, $2, $3)"
# Two nodes that forget the same rows would wait for one another: the second skips them.
_FORGET = """
    DELETE FROM login_failures WHERE id IN (
        SELECT id FROM login_failures WHERE failed < $1 FOR NO KEY UPDATE SKIP LOCKED
    )
"""


class LoginFailures(Noun):
    """The failures of the AccessStore; names are whatever a client sent."""

    async def count_failures(self, source: str, name: str | None, since: int) -> int:
        """Count rows by an index; there are never more than attempts that were let through."""
        if name is None:
            row = await self._database.find(_COUNT_ALL, _countable(source), since)
        else:
            named = (_countable(source), _countable(name))
            row = await self._database.find(_COUNT_NAME, *named, since)
        count: int = require_row(row)[0]
        return count

    async def add_failure(self, source: str, name: str, *, forget_before: int) -> None:
        """Add a row, and delete old ones."""

        async def job(transaction: Transaction) -> None:
            await transaction.execute(_FORGET, forget_before)
            row = (_countable(source), _countable(name), transaction.now)
            await transaction.execute(_ADD, *row)

        await self._database.write(job)


def _countable(text: str) -> str:
    """Return what can be stored and indexed for any text; short ones stay readable."""
    try:
        is_storable = len(text) <= MAX_INDEXED and b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        is_storable = False
    if is_storable:
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
