"""Failed attempts to authenticate, in PostgreSQL, where every node sees them."""

from __future__ import annotations

from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.postgres.texts import countable
from portside.stores.metadata.postgres.transactions import Transaction

_COUNT_ALL = "SELECT count(*) FROM login_failures WHERE source = $1 AND failed >= $2"
_COUNT_NAME = """
    SELECT count(*) FROM login_failures WHERE source = $1 AND failed >= $2 AND name = $3
"""
_ADD = "INSERT INTO login_failures (source, name, failed) VALUES ($1, $2, $3)"

# Two nodes that forget the same rows would wait for one another: the second leaves them alone.
_FORGET = """
    DELETE FROM login_failures WHERE id IN (
        SELECT id FROM login_failures WHERE failed < $1 FOR UPDATE SKIP LOCKED
    )
"""


class PostgresLoginFailures:
    """The failures of the AccessStore over PostgreSQL; names are whatever somebody sent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count_failures(self, source: str, name: str | None, since: int) -> int:
        """Count rows by an index; there are never more than were let through."""
        if name is None:
            row = await self._database.find(_COUNT_ALL, countable(source), since)
        else:
            row = await self._database.find(_COUNT_NAME, countable(source), since, countable(name))
        return row[0] if row is not None else 0

    async def add_failure(self, source: str, name: str, *, forget_before: int) -> None:
        """Add a row, and drop old ones."""

        async def job(transaction: Transaction) -> None:
            await transaction.execute(_FORGET, forget_before)
            await transaction.execute(_ADD, countable(source), countable(name), transaction.now)

        await self._database.write(job)
