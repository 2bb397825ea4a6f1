"""Users and tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from msgspec.structs import replace

from portside.stores.access import IdentityKind, StoredIdentity, StoredPassword
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.metadata.access_state import AccessNoun
from portside.stores.metadata.engine import Transaction
from portside.stores.metadata.schema.steps import TABLES

_COLUMNS = """
    SELECT i.name, i.kind, i.created, i.enabled, i.expires, i.scope_map,
           p.number, p.hash, p.created
    FROM identities i LEFT JOIN passwords p ON p.identity = i.name
"""
_GET = f"{_COLUMNS} WHERE i.name = $1 ORDER BY p.number"
_LIST = f"{_COLUMNS} WHERE i.kind = $1 ORDER BY i.name, p.number"
# The index passwords_by_cost has these very expressions.
SLOWEST = """
    SELECT hash FROM passwords WHERE substr(hash, 2, 1) = '2'
    ORDER BY substr(hash, 5, 2) DESC LIMIT 1
"""
_CLOSED = "SELECT 1 FROM access_state WHERE closed"
_SCOPE_MAP = "SELECT 1 FROM scope_maps WHERE name = $1"
_ADD = """
    INSERT INTO identities (name, kind, created, enabled, expires, scope_map)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""
_CHANGE = "UPDATE identities SET enabled = $1, expires = $2, scope_map = $3 WHERE name = $4"
_REMOVE = "DELETE FROM identities WHERE name = $1 AND kind = $2"
_REMOVE_PASSWORDS = "DELETE FROM passwords WHERE identity = $1"


_ADDED = {
    IdentityKind.USER: EventAction.USER_ADDED,
    IdentityKind.TOKEN: EventAction.TOKEN_ADDED,
}
_CHANGED = {
    IdentityKind.USER: EventAction.USER_CHANGED,
    IdentityKind.TOKEN: EventAction.TOKEN_CHANGED,
}
_REMOVED = {
    IdentityKind.USER: EventAction.USER_REMOVED,
    IdentityKind.TOKEN: EventAction.TOKEN_REMOVED,
}


class Identities(AccessNoun):
    """The identities of the AccessStore."""

    async def get_identity(self, name: str) -> StoredIdentity | None:
        """Read an identity with its passwords in one query."""
        if not self._database.can_store(name):
            return None
        return next(_identities(await self._database.find_all(_GET, name)), None)

    async def list_identities(self, kind: IdentityKind) -> list[StoredIdentity]:
        """Read all identities of a kind."""
        return list(_identities(await self._database.find_all(_LIST, str(kind))))

    async def slowest_hash(self) -> str | None:
        """Read one row by an index."""
        row = await self._database.find(SLOWEST)
        return None if row is None else row[0]

    async def add_identity(
        self, identity: StoredIdentity, *, only_first: bool = False, by: Actor = NOBODY
    ) -> bool:
        """Add rows; the first identity closes the registry."""

        async def job(transaction: Transaction) -> bool:
            if only_first and await transaction.find(_CLOSED) is not None:
                return False
            if not await _has_scope_map(transaction, identity):
                return False
            row = (identity.name, str(identity.kind), identity.created, *_changeable(identity))
            if await transaction.execute(_ADD, *row) == 0:
                return False
            await _add_passwords(transaction, identity)
            await self._close_registry(transaction)
            details = _scope_and_end(identity) or None
            added = NewEvent(_ADDED[identity.kind], reference=identity.name, details=details)
            await self._note_change(transaction, by, added)
            return True

        return await self._change(job)

    async def change_identity(
        self,
        name: str,
        kind: IdentityKind,
        change: Callable[[StoredIdentity], StoredIdentity],
        *,
        by: Actor = NOBODY,
    ) -> StoredIdentity | None:
        """Read, change and write within one transaction."""

        async def job(transaction: Transaction) -> StoredIdentity | None:
            found = next(_identities(await transaction.find_all(_GET, name)), None)
            if found is None or found.kind is not kind:
                return None
            changed = replace(change(found), name=name, kind=kind, created=found.created)
            if not await _has_scope_map(transaction, changed):
                return None
            await transaction.execute(_CHANGE, *_changeable(changed), name)
            await transaction.execute(_REMOVE_PASSWORDS, name)
            await _add_passwords(transaction, changed)
            details = _differences(found, changed)
            event = NewEvent(_CHANGED[kind], reference=name, details=details)
            await self._note_change(transaction, by, event)
            return changed

        return await self._change(job) if self._database.can_store(name) else None

    async def remove_identity(self, name: str, kind: IdentityKind, *, by: Actor = NOBODY) -> bool:
        """Delete the row; passwords go with it."""

        async def job(transaction: Transaction) -> bool:
            if await transaction.execute(_REMOVE, name, str(kind)) == 0:
                return False
            await self._note_change(transaction, by, NewEvent(_REMOVED[kind], reference=name))
            return True

        return self._database.can_store(name) and await self._change(job)


def _scope_and_end(identity: StoredIdentity) -> dict[str, Any]:
    """Return what an event says of a new token."""
    found = {"scope_map": identity.scope_map, "expires": identity.expires}
    return {name: value for name, value in found.items() if value is not None}


def _differences(before: StoredIdentity, after: StoredIdentity) -> dict[str, Any]:
    """Return what an event says of a change; of a password, only its number."""
    found = {
        name: getattr(after, name)
        for name in ("enabled", "expires", "scope_map")
        if getattr(after, name) != getattr(before, name)
    }
    known = {password.hash for password in before.passwords}
    replaced = [password.number for password in after.passwords if password.hash not in known]
    return {**found, "passwords": replaced} if replaced else found


def _identities(rows: Iterable[Any]) -> Iterator[StoredIdentity]:
    """Make one identity of the rows with its name: one for each password."""
    for key, group in groupby(rows, key=lambda row: tuple(row[:6])):
        name, kind, created, enabled, expires, scope_map = key
        passwords = tuple(StoredPassword(*row[6:]) for row in group if row[6] is not None)
        yield StoredIdentity(
            name, IdentityKind(kind), created, bool(enabled), expires, scope_map, passwords
        )


def _changeable(identity: StoredIdentity) -> tuple[Any, ...]:
    return (identity.enabled, identity.expires, identity.scope_map)


async def _has_scope_map(transaction: Transaction, identity: StoredIdentity) -> bool:
    if identity.scope_map is None:
        return True
    return await transaction.find(_SCOPE_MAP, identity.scope_map) is not None


async def _add_passwords(transaction: Transaction, identity: StoredIdentity) -> None:
    rows = [
        (identity.name, password.number, password.hash, password.created)
        for password in identity.passwords
    ]
    await transaction.insert_many(TABLES["passwords"], rows)
