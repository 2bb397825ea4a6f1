"""Signing keys in SQLite."""

from __future__ import annotations

from portside.stores.access import SigningKey
from portside.stores.metadata.access_state import SqliteAccessState
from portside.stores.metadata.writer import Transaction

_LIST = "SELECT id, private, created FROM signing_keys ORDER BY created DESC, id"
_ANY = "SELECT 1 FROM signing_keys LIMIT 1"
_ADD = "INSERT INTO signing_keys (id, private, created) VALUES (?, ?, ?)"
_REMOVE = "DELETE FROM signing_keys WHERE id = ?"


class SqliteSigningKeys(SqliteAccessState):
    """The signing keys of the AccessStore over SQLite."""

    async def list_keys(self) -> list[SigningKey]:
        """Read all keys."""
        return [SigningKey(*row) for row in self._database.list(_LIST)]

    async def add_key(self, key: SigningKey, *, only_first: bool = False) -> bool:
        """Add a row; of workers that start together only one adds the first key."""

        def job(transaction: Transaction) -> bool:
            if only_first and transaction.execute(_ANY).fetchone() is not None:
                return False
            transaction.execute(_ADD, (key.id, key.private, key.created))
            self._note_change(transaction)
            return True

        return await self._database.write(job)

    async def remove_keys(self, ids: list[str]) -> None:
        """Drop rows."""

        def job(transaction: Transaction) -> None:
            gone = sum(transaction.execute(_REMOVE, (key,)).rowcount for key in ids)
            if gone:
                self._note_change(transaction)

        await self._database.write(job)
