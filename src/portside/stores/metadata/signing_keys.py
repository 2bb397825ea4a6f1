"""Signing keys."""

from __future__ import annotations

from portside.stores.access import SigningKey
from portside.stores.metadata.access_state import AccessNoun
from portside.stores.metadata.engine import Transaction

_LIST = "SELECT id, private, created FROM signing_keys ORDER BY created DESC, id"
_ANY = "SELECT 1 FROM signing_keys LIMIT 1"
_ADD = "INSERT INTO signing_keys (id, private, created) VALUES ($1, $2, $3)"
_REMOVE = "DELETE FROM signing_keys WHERE id = ANY ($1)"


class SigningKeys(AccessNoun):
    """The signing keys of the AccessStore."""

    async def list_keys(self) -> list[SigningKey]:
        """Read all keys."""
        return [SigningKey(*row) for row in await self._database.find_all(_LIST)]

    async def add_key(self, key: SigningKey, *, only_first: bool = False) -> bool:
        """Add a row; of processes that start together only one adds the first key."""

        async def job(transaction: Transaction) -> bool:
            if only_first and await transaction.find(_ANY) is not None:
                return False
            await transaction.execute(_ADD, key.id, key.private, key.created)
            await self._note_change(transaction)
            return True

        return await self._change(job)

    async def remove_keys(self, ids: list[str]) -> None:
        """Delete rows."""

        async def job(transaction: Transaction) -> None:
            if await transaction.execute(_REMOVE, ids):
                await self._note_change(transaction)

        await self._change(job)
