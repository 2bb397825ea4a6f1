"""The read-only switch in SQLite.

Triggers refuse what it forbids (`schema/0003_standing.sql`). Setting it is a write like others,
which take turns: those before it are committed, and those behind it are refused.
"""

from __future__ import annotations

from typing import Any

from portside.stores.metadata.database import Database
from portside.stores.metadata.writer import Transaction
from portside.stores.switching import Standing

_GET = "SELECT identity, copy_of, read_only, storage FROM registry"
_SET = "UPDATE registry SET read_only = 1"
_LIFT = "UPDATE registry SET read_only = 0, copy_of = NULL"
_NOTE_STORAGE = "UPDATE registry SET storage = ? WHERE storage IS NULL"


class SqliteSwitch:
    """The SwitchableMetadata over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self) -> Standing:
        """Read the row."""
        return _standing(self._database.one(_GET))

    async def set_read_only(self, *, read_only: bool) -> Standing:
        """Write the row."""

        def job(transaction: Transaction) -> Standing:
            before = read_standing(transaction)
            transaction.execute(_SET if read_only else _LIFT)
            return before

        return await self._database.write(job)

    async def note_storage(self, storage: str) -> None:
        """Write the row if nothing stands there."""
        await self._database.write(
            lambda transaction: transaction.execute(_NOTE_STORAGE, (storage,)) and None
        )


def read_standing(transaction: Transaction) -> Standing:
    """Read the row within a transaction."""
    return _standing(transaction.execute(_GET).fetchone())


def _standing(row: Any) -> Standing:
    identity, copy_of, read_only, storage = row
    return Standing(identity, copy_of, bool(read_only), storage)
