"""Failed attempts to authenticate, in SQLite, where every process sees them."""

from __future__ import annotations

from portside.stores.metadata.database import Database
from portside.stores.metadata.writer import Transaction

_COUNT_ALL = "SELECT count(*) FROM login_failures WHERE source = ? AND failed >= ?"
_COUNT_NAME = "SELECT count(*) FROM login_failures WHERE source = ? AND name = ? AND failed >= ?"
_ADD = "INSERT INTO login_failures (source, name, failed) VALUES (?, ?, ?)"
_FORGET = "DELETE FROM login_failures WHERE failed < ?"


class SqliteLoginFailures:
    """The failures of the AccessStore over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count_failures(self, source: str, name: str | None, since: int) -> int:
        """Count rows by an index; there are never more than were let through."""
        count: int
        if name is None:
            (count,) = self._database.one(_COUNT_ALL, (source, since))
        else:
            (count,) = self._database.one(_COUNT_NAME, (source, name, since))
        return count

    async def add_failure(self, source: str, name: str, *, forget_before: int) -> None:
        """Add a row, and drop old ones."""

        def job(transaction: Transaction) -> None:
            transaction.execute(_FORGET, (forget_before,))
            transaction.execute(_ADD, (source, name, transaction.now))

        await self._database.write(job)
