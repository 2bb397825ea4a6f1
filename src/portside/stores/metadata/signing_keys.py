"""Signing keys."""

from __future__ import annotations

from portside.stores.access import SigningKey
from portside.stores.actors import REGISTRY, Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.metadata.access_state import AccessNoun
from portside.stores.metadata.engine import Transaction

_LIST = "SELECT id, private, created FROM signing_keys ORDER BY created DESC, id"
_ANY = "SELECT 1 FROM signing_keys LIMIT 1"
_ADD = "INSERT INTO signing_keys (id, private, created) VALUES ($1, $2, $3)"
_REMOVE = "DELETE FROM signing_keys WHERE id = ANY ($1) RETURNING id"


class SigningKeys(AccessNoun):
    """The signing keys of the AccessStore."""

    async def list_keys(self) -> list[SigningKey]:
        """Read all keys."""
        return [SigningKey(*row) for row in await self._database.find_all(_LIST)]

    async def add_key(
        self, key: SigningKey, *, only_first: bool = False, by: Actor = REGISTRY
    ) -> bool:
        """Add a row; of processes that start together only one adds the first key."""

        async def job(transaction: Transaction) -> bool:
            if only_first and await transaction.find(_ANY) is not None:
                return False
            await transaction.execute(_ADD, key.id, key.private, key.created)
            added = NewEvent(EventAction.KEY_ADDED, reference=key.id)
            await self._note_change(transaction, by, added)
            return True

        return await self._change(job)

    async def remove_keys(self, ids: list[str], *, by: Actor = REGISTRY) -> None:
        """Delete rows."""

        async def job(transaction: Transaction) -> None:
            removed = [name for (name,) in await transaction.find_all(_REMOVE, ids)]
            if removed:
                events = [NewEvent(EventAction.KEY_REMOVED, reference=name) for name in removed]
                await self._note_change(transaction, by, *events)

        await self._change(job)
