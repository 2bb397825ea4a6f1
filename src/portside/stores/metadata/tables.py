"""The rows that a copy of a registry is made of, in SQL for both engines.

Parameters are written as PostgreSQL does. Truth is read and written as a number, for there is no
other in SQLite. Rows are read by keyset, and where a key begins with a repository, first those left
in that repository and then those of the next ones, so that each part is read by an index.
"""

# ruff: noqa: S608  # statements are put together of constants, never of what anybody sent

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from portside.stores.copying import TABLES, Key, Row, Table

_OWNER = "(SELECT id FROM repositories WHERE name = $1)"

_FLAGS = {"closed", "enabled", "required"}

ACCESS = {
    "access_state", "scope_maps", "scope_map_rules", "identities", "passwords", "signing_keys"
}  # fmt: skip
"""Tables whose changes every process must hear of."""


class Part(msgspec.Struct, frozen=True):
    """A query for rows behind the first `columns` of a key; its last parameter is a limit."""

    sql: str
    columns: int


class TableSql(msgspec.Struct, frozen=True):
    """The statements about one table; `whole` is empty where nothing is heavy.

    `put` takes a whole row, `drop` and `whole` a key. `start` is a key before all others.
    """

    parts: tuple[Part, ...]
    put: str
    drop: str
    start: Key = ("",)
    whole: str = ""


def _read(column: str) -> str:
    return f"CAST({column} AS INTEGER)" if column in _FLAGS else column


def _written(columns: tuple[str, ...]) -> list[str]:
    return [
        f"${number} <> 0" if column in _FLAGS else f"${number}"
        for number, column in enumerate(columns, 1)
    ]


def _update(columns: tuple[str, ...]) -> str:
    """Write what becomes of a row that is there."""
    return ", ".join(f"{column} = excluded.{column}" for column in columns)


def _plain(table: Table, *, start: Key = ("",), parent: str = "", **instead: str) -> TableSql:
    """Make the statements about a table whose key is its own.

    The first column of the key may name a row of `parent`; `instead` has other expressions for what
    is written into a column.
    """
    columns = (*table.key, *table.values)
    key = ", ".join(table.key)
    behind = ", ".join(f"${number}" for number in range(1, len(table.key) + 1))
    written = zip(columns, _written(columns), strict=True)
    values = ", ".join(instead.get(column, value) for column, value in written)
    needed = f"FROM {parent} p WHERE p.name = $1" if parent else "WHERE TRUE"
    return TableSql(
        parts=(
            Part(
                f"SELECT {', '.join(map(_read, columns))} FROM {table.name}"
                f" WHERE ({key}) > ({behind}) ORDER BY {key} LIMIT ${len(table.key) + 1}",
                len(table.key),
            ),
        ),
        put=f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {values} {needed}"
        f" ON CONFLICT ({key}) DO UPDATE SET {_update(table.values)}",
        drop=f"DELETE FROM {table.name} WHERE ({key}) = ({behind})",
        start=start,
    )


def _owned(
    columns: str, source: str, order: tuple[str, ...], *, put: str, drop: str, whole: str = ""
) -> TableSql:
    """Make the statements about a table that hangs from repositories.

    `columns` and `order`, the rest of the key, stand behind the repository's name; `source` ends
    with the column that is its id.
    """
    key = ", ".join(order)
    behind = ", ".join(f"${number}" for number in range(2, len(order) + 2))
    rest = (
        f"SELECT CAST($1 AS TEXT), {columns} FROM {source} = {_OWNER}"
        f" AND {order[0]} >= $2 AND ({key}) > ({behind}) ORDER BY {key} LIMIT ${len(order) + 2}"
    )
    following = (
        f"SELECT r.name, {columns} FROM repositories r, {source} = r.id AND r.name > $1"
        f" ORDER BY r.name, {key} LIMIT $2"
    )
    return TableSql(
        parts=(Part(rest, len(order) + 1), Part(following, 1)),
        put=put,
        drop=drop,
        start=("",) * (len(order) + 1),
        whole=whole,
    )


_BY_NAME = {table.name: table for table in TABLES}
_MANIFESTS = "JOIN manifests m ON m.repository = r.id"
_LIGHT = "m.digest, m.media_type, m.size, m.subject, m.artifact_type, m.created"

SQL: dict[str, TableSql] = {
    "access_state": TableSql(
        parts=(
            Part("SELECT id, CAST(closed AS INTEGER) FROM access_state WHERE id > $1 LIMIT $2", 1),
        ),
        # The row is made with the table, and never dropped.
        put="UPDATE access_state SET closed = $2 <> 0 WHERE id = $1",
        drop="DELETE FROM access_state WHERE id = $1 AND FALSE",
        start=(0,),
    ),
    "scope_maps": _plain(_BY_NAME["scope_maps"]),
    "scope_map_rules": _plain(
        _BY_NAME["scope_map_rules"], start=("", ""), parent="scope_maps"
    ),
    "identities": _plain(
        _BY_NAME["identities"],
        # A scope map that has gone meanwhile is none.
        scope_map="(SELECT s.name FROM scope_maps s WHERE s.name = $6)",
    ),
    "passwords": _plain(_BY_NAME["passwords"], start=("", -1), parent="identities"),
    "signing_keys": _plain(_BY_NAME["signing_keys"]),
    "repositories": _plain(_BY_NAME["repositories"]),
    "blobs": _plain(_BY_NAME["blobs"]),
    "repository_blobs": _owned(
        "l.digest, l.linked",
        "repository_blobs l WHERE l.repository",
        ("l.digest",),
        put="""
            INSERT INTO repository_blobs (repository, digest, linked)
            SELECT r.id, b.digest, $3 FROM repositories r JOIN blobs b ON b.digest = $2
            WHERE r.name = $1
            ON CONFLICT (repository, digest) DO UPDATE SET linked = excluded.linked
        """,
        drop=f"DELETE FROM repository_blobs WHERE repository = {_OWNER} AND digest = $2",
    ),
    "manifests": _owned(
        _LIGHT,
        "manifests m WHERE m.repository",
        ("m.digest",),
        whole=f"""
            SELECT r.name, {_LIGHT}, m.annotations, m.payload FROM repositories r {_MANIFESTS}
            WHERE r.name = $1 AND m.digest = $2
        """,
        put="""
            INSERT INTO manifests
                (repository, digest, media_type, size, subject, artifact_type, created,
                 annotations, payload)
            SELECT r.id, $2, $3, $4, $5, $6, $7, $8, $9 FROM repositories r WHERE r.name = $1
            ON CONFLICT (repository, digest) DO UPDATE SET
                media_type = excluded.media_type, size = excluded.size,
                subject = excluded.subject, artifact_type = excluded.artifact_type,
                created = excluded.created, annotations = excluded.annotations,
                payload = excluded.payload
        """,
        drop=f"DELETE FROM manifests WHERE repository = {_OWNER} AND digest = $2",
    ),
    "manifest_references": _owned(
        "m.digest, f.kind, f.digest, CAST(f.required AS INTEGER)",
        "manifests m, manifest_references f WHERE f.manifest = m.id AND m.repository",
        ("m.digest", "f.kind", "f.digest"),
        put=f"""
            INSERT INTO manifest_references (manifest, repository, kind, digest, required)
            SELECT m.id, r.id, $3, $4, $5 <> 0 FROM repositories r {_MANIFESTS}
            WHERE r.name = $1 AND m.digest = $2
            ON CONFLICT (manifest, kind, digest) DO UPDATE SET required = excluded.required
        """,
        drop=f"""
            DELETE FROM manifest_references
            WHERE manifest = (SELECT id FROM manifests WHERE repository = {_OWNER} AND digest = $2)
                AND kind = $3 AND digest = $4
        """,
    ),
    "tags": _owned(
        "t.name, m.digest, t.created, t.updated",
        "tags t, manifests m WHERE m.id = t.manifest AND t.repository",
        ("t.name",),
        put=f"""
            INSERT INTO tags (repository, name, manifest, created, updated)
            SELECT r.id, $2, m.id, $4, $5 FROM repositories r {_MANIFESTS} AND m.digest = $3
            WHERE r.name = $1
            ON CONFLICT (repository, name) DO UPDATE SET
                manifest = excluded.manifest, created = excluded.created,
                updated = excluded.updated
        """,
        drop=f"DELETE FROM tags WHERE repository = {_OWNER} AND name = $2",
    ),
}  # fmt: skip

NOTE_ACCESS = "UPDATE access_state SET version = version + 1"

IS_HELD = """
    SELECT 1 WHERE EXISTS (SELECT 1 FROM repositories) OR EXISTS (SELECT 1 FROM blobs)
        OR EXISTS (SELECT 1 FROM identities) OR EXISTS (SELECT 1 FROM scope_maps)
"""
"""Finds a row if the registry holds anything. A key that was made with it is nothing."""

DROP_BLOB = """
    DELETE FROM blobs
    WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM repository_blobs WHERE digest = $2)
"""


Ask = Callable[[str, Sequence[Any]], Awaitable[list[Row]]]
"""Runs a query with its parameters, and gives its rows."""


async def read_on(table: Table, after: Key | None, limit: int, ask: Ask) -> list[Row]:
    """Read at most `limit` rows behind a key, part by part."""
    sql = SQL[table.name]
    key = sql.start if after is None else after
    rows: list[Row] = []
    for part in sql.parts:
        if len(rows) < limit:
            rows += await ask(part.sql, (*key[: part.columns], limit - len(rows)))
    return rows


def texts_of(row: Row) -> list[str]:
    """Give the columns that are texts."""
    return [value for value in row if isinstance(value, str)]
