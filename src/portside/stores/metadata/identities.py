"""Users and tokens in SQLite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from portside.stores.access import IdentityKind, StoredIdentity
from portside.stores.metadata.access_state import SqliteAccessState
from portside.stores.metadata.rows import identities_from_rows
from portside.stores.metadata.writer import Transaction

_COLUMNS = """
    SELECT i.name, i.kind, i.created, i.enabled, i.expires, i.scope_map,
           p.number, p.hash, p.created
    FROM identities i LEFT JOIN passwords p ON p.identity = i.name
"""
_GET = f"{_COLUMNS} WHERE i.name = ? ORDER BY p.number"
_LIST = f"{_COLUMNS} WHERE i.kind = ? ORDER BY i.name, p.number"
_SCOPE_MAP = "SELECT 1 FROM scope_maps WHERE name = ?"
_ADD = """
    INSERT INTO identities (name, kind, created, enabled, expires, scope_map)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_CHANGE = "UPDATE identities SET enabled = ?, expires = ?, scope_map = ? WHERE name = ?"
_REMOVE = "DELETE FROM identities WHERE name = ? AND kind = ?"
_DROP_PASSWORDS = "DELETE FROM passwords WHERE identity = ?"
_ADD_PASSWORD = "INSERT INTO passwords (identity, number, hash, created) VALUES (?, ?, ?, ?)"  # noqa: S105


class SqliteIdentities(SqliteAccessState):
    """The identities of the AccessStore over SQLite."""

    async def get_identity(self, name: str) -> StoredIdentity | None:
        """Read an identity with its passwords in one query."""
        return next(identities_from_rows(self._database.list(_GET, (name,))), None)

    async def list_identities(self, kind: IdentityKind) -> list[StoredIdentity]:
        """Read all identities of a kind."""
        return list(identities_from_rows(self._database.list(_LIST, (str(kind),))))

    async def add_identity(self, identity: StoredIdentity) -> bool:
        """Add rows; the first identity closes the registry."""

        def job(transaction: Transaction) -> bool:
            if not _has_scope_map(transaction, identity):
                return False
            row = (identity.name, str(identity.kind), identity.created, *_changeable(identity))
            if transaction.execute(_ADD, row).rowcount == 0:
                return False
            _add_passwords(transaction, identity)
            self._close_registry(transaction)
            self._note_change(transaction)
            return True

        return await self._database.write(job)

    async def change_identity(
        self, name: str, kind: IdentityKind, change: Callable[[StoredIdentity], StoredIdentity]
    ) -> StoredIdentity | None:
        """Read, change and write within one transaction."""

        def job(transaction: Transaction) -> StoredIdentity | None:
            found = next(identities_from_rows(transaction.execute(_GET, (name,))), None)
            if found is None or found.kind is not kind:
                return None
            changed = replace(change(found), name=name, kind=kind, created=found.created)
            if not _has_scope_map(transaction, changed):
                return None
            transaction.execute(_CHANGE, (*_changeable(changed), name))
            transaction.execute(_DROP_PASSWORDS, (name,))
            _add_passwords(transaction, changed)
            self._note_change(transaction)
            return changed

        return await self._database.write(job)

    async def remove_identity(self, name: str, kind: IdentityKind) -> bool:
        """Drop rows; passwords go with their identity."""

        def job(transaction: Transaction) -> bool:
            if transaction.execute(_REMOVE, (name, str(kind))).rowcount == 0:
                return False
            self._note_change(transaction)
            return True

        return await self._database.write(job)


def _changeable(identity: StoredIdentity) -> tuple[Any, ...]:
    return (int(identity.enabled), identity.expires, identity.scope_map)


def _has_scope_map(transaction: Transaction, identity: StoredIdentity) -> bool:
    if identity.scope_map is None:
        return True
    return transaction.execute(_SCOPE_MAP, (identity.scope_map,)).fetchone() is not None


def _add_passwords(transaction: Transaction, identity: StoredIdentity) -> None:
    for password in identity.passwords:
        row = (identity.name, password.number, password.hash, password.created)
        transaction.execute(_ADD_PASSWORD, row)
