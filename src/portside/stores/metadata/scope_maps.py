"""Scope maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from msgspec.structs import replace

from portside.spec.actions import ordered, parse_actions
from portside.spec.patterns import RepositoryPattern
from portside.stores.access import ScopeMap, ScopeRule
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.metadata.access_state import AccessNoun
from portside.stores.metadata.engine import Transaction
from portside.stores.metadata.schema.steps import TABLES

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
_REMOVE_RULES = "DELETE FROM scope_map_rules WHERE scope_map = $1"
_NAMED_BY = "SELECT name FROM identities WHERE scope_map = $1 ORDER BY name"


class ScopeMaps(AccessNoun):
    """The scope maps of the AccessStore."""

    async def get_scope_map(self, name: str) -> ScopeMap | None:
        """Read a scope map with its rules in one query."""
        return next(_scope_maps(await self._database.find_all(_GET, name)), None)

    async def list_scope_maps(self) -> list[ScopeMap]:
        """Read all scope maps."""
        return list(_scope_maps(await self._database.find_all(_LIST)))

    async def add_scope_map(self, scope_map: ScopeMap, *, by: Actor = NOBODY) -> bool:
        """Add rows."""

        async def job(transaction: Transaction) -> bool:
            row = (scope_map.name, scope_map.created, scope_map.description)
            if await transaction.execute(_ADD, *row) == 0:
                return False
            await _add_rules(transaction, scope_map)
            event = _event(EventAction.SCOPE_MAP_ADDED, scope_map)
            await self._note_change(transaction, by, event)
            return True

        return await self._change(job)

    async def change_scope_map(
        self, name: str, change: Callable[[ScopeMap], ScopeMap], *, by: Actor = NOBODY
    ) -> ScopeMap | None:
        """Read, change and write within one transaction."""

        async def job(transaction: Transaction) -> ScopeMap | None:
            found = next(_scope_maps(await transaction.find_all(_GET, name)), None)
            if found is None:
                return None
            changed = replace(change(found), name=name, created=found.created)
            await transaction.execute(_DESCRIBE, changed.description, name)
            await transaction.execute(_REMOVE_RULES, name)
            await _add_rules(transaction, changed)
            event = _event(EventAction.SCOPE_MAP_CHANGED, changed)
            await self._note_change(transaction, by, event)
            return changed

        return await self._change(job)

    async def remove_scope_map(self, name: str, *, by: Actor = NOBODY) -> list[str] | None:
        """Delete rows, unless a token needs them."""

        async def job(transaction: Transaction) -> list[str] | None:
            needed_by = [row[0] for row in await transaction.find_all(_NAMED_BY, name)]
            if needed_by:
                return needed_by
            if await transaction.execute(_REMOVE, name) == 0:
                return None
            event = NewEvent(EventAction.SCOPE_MAP_REMOVED, reference=name)
            await self._note_change(transaction, by, event)
            return []

        return await self._change(job)


def _scope_maps(rows: Iterable[Any]) -> Iterator[ScopeMap]:
    """Make one scope map of the rows with its name: one for each rule."""
    for key, group in groupby(rows, key=lambda row: tuple(row[:3])):
        name, created, description = key
        rules = tuple(
            ScopeRule(RepositoryPattern(pattern), parse_actions(actions))
            for *_, pattern, actions in group
            if pattern is not None
        )
        yield ScopeMap(name, created, description, rules)


def _event(action: EventAction, scope_map: ScopeMap) -> NewEvent:
    rules = {str(rule.pattern): ordered(rule.actions) for rule in scope_map.rules}
    return NewEvent(action, reference=scope_map.name, details={"rules": rules})


async def _add_rules(transaction: Transaction, scope_map: ScopeMap) -> None:
    rows = [
        (scope_map.name, str(rule.pattern), ",".join(ordered(rule.actions)))
        for rule in scope_map.rules
    ]
    await transaction.insert_many(TABLES["scope_map_rules"], rows)
