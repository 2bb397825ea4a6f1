"""Statements that only PostgreSQL understands."""

from __future__ import annotations

from functools import cache

from portside.stores.metadata.schema.tables import Dialect, Table, Type

_TYPES = {
    Type.ID: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    Type.SINGLE: "BIGINT NOT NULL PRIMARY KEY CHECK (id = 1)",
    Type.INTEGER: "BIGINT",
    # Lists are in ASCII order whatever the locale, and an index is right on every machine.
    Type.TEXT: 'TEXT COLLATE "C"',
    Type.BYTES: "BYTEA",
    Type.BOOLEAN: "BOOLEAN",
}


@cache
def insert_many(table: Table) -> str:
    """Return the statement that inserts rows into a table, of which it takes one list a column."""
    names = ", ".join(column.name for column in table.columns)
    lists = ", ".join(
        f"${number}::{_TYPES[column.type].split()[0]}[]"
        for number, column in enumerate(table.columns, 1)
    )
    return f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({lists})"  # noqa: S608  # put together of constants


def _guard(table: Table) -> list[str]:
    events = " OR ".join(table.guarded)
    return [
        f"""
        CREATE TRIGGER stay BEFORE {events} ON {table.name}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_if_read_only()
        """
    ]


def _unguard(table: Table) -> list[str]:
    return [f"DROP TRIGGER IF EXISTS stay ON {table.name}"]


DIALECT = Dialect(
    types=_TYPES,
    own=lambda change: change.postgres,
    options=lambda _: "",
    guard=_guard,
    unguard=_unguard,
)
