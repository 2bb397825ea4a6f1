"""Scope maps in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from portside.spec.actions import ordered
from portside.stores.access import ScopeMap
from portside.stores.metadata.postgres.access_state import PostgresAccessState
from portside.stores.metadata.postgres.transactions import Transaction
from portside.stores.metadata.rows import scope_maps_from_rows

_COLUMNS = """
    SELECT s.name, s.created, s.description, r.pattern, r.actions
    FROM scope_maps s LEFT JOIN scope_map_rules r ON r.scope_map = s.name
"""
_GET = f"{_COLUMNS} WHERE s.name = $1 ORDER BY r.pattern"
_LIST = f"{_COLUMNS} ORDER BY s.name, r.pattern"
_ADD = """
    INSERT INTO scope_maps (name, created, description) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_DESCRIBE = "UPDATE scope_maps SET description = $1 WHERE name = $2"
_REMOVE = "DELETE FROM scope_maps WHERE name = $1"
_DROP_RULES = "DELETE FROM scope_map_rules WHERE scope_map = $1"
_ADD_RULE = "INSERT INTO scope_map_rules (scope_map, pattern, actions) VALUES ($1, $2, $3)"
_NAMED_BY = "SELECT name FROM identities WHERE scope_map = $1 ORDER BY name"


class PostgresScopeMaps(PostgresAccessState):
    """The scope maps of the AccessStore over PostgreSQL."""

    async def get_scope_map(self, name: str) -> ScopeMap | None:
        """Read a scope map with its rules in one query."""
        return next(scope_maps_from_rows(await self._database.list(_GET, name)), None)

    async def list_scope_maps(self) -> list[ScopeMap]:
        """Read all scope maps."""
        return list(scope_maps_from_rows(await self._database.list(_LIST)))

    async def add_scope_map(self, scope_map: ScopeMap) -> bool:
        """Add rows."""

        async def job(transaction: Transaction) -> bool:
            row = (scope_map.name, scope_map.created, scope_map.description)
            if await transaction.execute(_ADD, *row) == 0:
                return False
            await _add_rules(transaction, scope_map)
            await self._note_change(transaction)
            return True

        return await self._change(job)

    async def change_scope_map(
        self, name: str, change: Callable[[ScopeMap], ScopeMap]
    ) -> ScopeMap | None:
        """Read, change and write within one transaction."""

        async def job(transaction: Transaction) -> ScopeMap | None:
            found = next(scope_maps_from_rows(await transaction.list(_GET, name)), None)
            if found is None:
                return None
            changed = replace(change(found), name=name, created=found.created)
            await transaction.execute(_DESCRIBE, changed.description, name)
            await transaction.execute(_DROP_RULES, name)
            await _add_rules(transaction, changed)
            await self._note_change(transaction)
            return changed

        return await self._change(job)

    async def remove_scope_map(self, name: str) -> list[str] | None:
        """Drop rows, unless a token needs them."""

        async def job(transaction: Transaction) -> list[str] | None:
            needed_by = [row[0] for row in await transaction.list(_NAMED_BY, name)]
            if needed_by:
                return needed_by
            if await transaction.execute(_REMOVE, name) == 0:
                return None
            await self._note_change(transaction)
            return []

        return await self._change(job)


async def _add_rules(transaction: Transaction, scope_map: ScopeMap) -> None:
    for rule in scope_map.rules:
        actions = ",".join(ordered(rule.actions))
        await transaction.execute(_ADD_RULE, scope_map.name, str(rule.pattern), actions)
