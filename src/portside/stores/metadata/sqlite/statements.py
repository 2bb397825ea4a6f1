"""Statements as SQLite understands them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from portside.stores.metadata.schema.tables import Dialect, Table, Type

_ANY = re.compile(r"= ANY \((\$\d+)\)")
_ROW_LOCK = re.compile(r"\s+FOR (?:NO KEY UPDATE|SHARE)(?: SKIP LOCKED)?")
_EVENTS = ("INSERT", "UPDATE", "DELETE")


@cache
def rewritten(sql: str) -> str:
    """Return a statement of `engine` in SQLite's dialect; there are as many as are written down.

    There is one writer, so row locks are left out. A list is passed as JSON.
    """
    listed = _ANY.sub(r"IN (SELECT value FROM json_each(\1))", sql)
    return _ROW_LOCK.sub("", listed).replace("$", "?")


def bound(parameters: Iterable[Any]) -> Sequence[Any]:
    """Return parameters as SQLite takes them."""
    return [json.dumps(value) if isinstance(value, list) else value for value in parameters]


@cache
def insert(table: Table) -> str:
    """Return the statement that inserts a row with the columns that a table does not assign."""
    names = [column.name for column in table.inserted]
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608  # put together of constants


def _options(table: Table) -> str:
    """Choose how rows are stored: by a number where the table has one, else by the primary key."""
    has_number = table.columns[0].type in {Type.ID, Type.SERIAL, Type.SINGLE}
    return " STRICT" if has_number else " STRICT, WITHOUT ROWID"


def _trigger(table: Table, event: str) -> str:
    return f"{table.name}_stay_on_{event.lower()}"


def _guard(table: Table) -> list[str]:
    return [
        f"""
        CREATE TRIGGER {_trigger(table, event)} BEFORE {event} ON {table.name}
        WHEN (SELECT read_only FROM registry) BEGIN
            SELECT RAISE(ABORT, 'the registry is read-only');
        END
        """  # noqa: S608  # put together of the schema
        for event in table.guarded
    ]


def _unguard(table: Table) -> list[str]:
    return [f"DROP TRIGGER IF EXISTS {_trigger(table, event)}" for event in _EVENTS]


DIALECT = Dialect(
    types={
        Type.ID: "INTEGER PRIMARY KEY",
        Type.SERIAL: "INTEGER PRIMARY KEY",
        Type.SINGLE: "INTEGER NOT NULL PRIMARY KEY CHECK (id = 1)",
        Type.INTEGER: "INTEGER",
        Type.TEXT: "TEXT",
        Type.BYTES: "BLOB",
        Type.BOOLEAN: "INTEGER",
    },
    own=lambda change: change.sqlite,
    options=_options,
    guard=_guard,
    unguard=_unguard,
)
