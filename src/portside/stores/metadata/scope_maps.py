"""Scope maps in SQLite."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from portside.spec.actions import ordered
from portside.stores.access import ScopeMap
from portside.stores.metadata.access_state import SqliteAccessState
from portside.stores.metadata.rows import scope_maps_from_rows
from portside.stores.metadata.writer import Transaction

_COLUMNS = """
    SELECT s.name, s.created, s.description, r.pattern, r.actions
    FROM scope_maps s LEFT JOIN scope_map_rules r ON r.scope_map = s.name
"""
_GET = f"{_COLUMNS} WHERE s.name = ? ORDER BY r.pattern"
_LIST = f"{_COLUMNS} ORDER BY s.name, r.pattern"
_ADD = """
    INSERT INTO scope_maps (name, created, description) VALUES (?, ?, ?) ON CONFLICT DO NOTHING
"""
_DESCRIBE = "UPDATE scope_maps SET description = ? WHERE name = ?"
_REMOVE = "DELETE FROM scope_maps WHERE name = ?"
_DROP_RULES = "DELETE FROM scope_map_rules WHERE scope_map = ?"
_ADD_RULE = "INSERT INTO scope_map_rules (scope_map, pattern, actions) VALUES (?, ?, ?)"
_NAMED_BY = "SELECT name FROM identities WHERE scope_map = ? ORDER BY name"


class SqliteScopeMaps(SqliteAccessState):
    """The scope maps of the AccessStore over SQLite."""

    async def get_scope_map(self, name: str) -> ScopeMap | None:
        """Read a scope map with its rules in one query."""
        return next(scope_maps_from_rows(self._database.list(_GET, (name,))), None)

    async def list_scope_maps(self) -> list[ScopeMap]:
        """Read all scope maps."""
        return list(scope_maps_from_rows(self._database.list(_LIST)))

    async def add_scope_map(self, scope_map: ScopeMap) -> bool:
        """Add rows."""

        def job(transaction: Transaction) -> bool:
            row = (scope_map.name, scope_map.created, scope_map.description)
            if transaction.execute(_ADD, row).rowcount == 0:
                return False
            _add_rules(transaction, scope_map)
            self._note_change(transaction)
            return True

        return await self._database.write(job)

    async def change_scope_map(
        self, name: str, change: Callable[[ScopeMap], ScopeMap]
    ) -> ScopeMap | None:
        """Read, change and write within one transaction."""

        def job(transaction: Transaction) -> ScopeMap | None:
            found = next(scope_maps_from_rows(transaction.execute(_GET, (name,))), None)
            if found is None:
                return None
            changed = replace(change(found), name=name, created=found.created)
            transaction.execute(_DESCRIBE, (changed.description, name))
            transaction.execute(_DROP_RULES, (name,))
            _add_rules(transaction, changed)
            self._note_change(transaction)
            return changed

        return await self._database.write(job)

    async def remove_scope_map(self, name: str) -> list[str] | None:
        """Drop rows, unless a token needs them."""

        def job(transaction: Transaction) -> list[str] | None:
            needed_by = [row[0] for row in transaction.execute(_NAMED_BY, (name,))]
            if needed_by:
                return needed_by
            if transaction.execute(_REMOVE, (name,)).rowcount == 0:
                return None
            self._note_change(transaction)
            return []

        return await self._database.write(job)


def _add_rules(transaction: Transaction, scope_map: ScopeMap) -> None:
    for rule in scope_map.rules:
        actions = ",".join(ordered(rule.actions))
        transaction.execute(_ADD_RULE, (scope_map.name, str(rule.pattern), actions))
