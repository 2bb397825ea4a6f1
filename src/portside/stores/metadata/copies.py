"""The rows of a copy of a registry: read in pages, and written as they were elsewhere.

The statements are derived from the schema. A row is named by what it is about: where a table refers
to a repository or a manifest by the number of its row, a copy has the name or the digest. Rows are
read by keyset, and those that hang from a repository in two parts, each of which is read by an
index: first those left in the repository of the key, then those of the repositories after it.
"""

# ruff: noqa: S608  # statements are put together of the schema, never of what anybody sent

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from portside.spec.digests import Digest
from portside.stores.actors import Actor
from portside.stores.copying import CopiedTable, Key, Row
from portside.stores.interfaces import Place, Remove
from portside.stores.metadata.access_state import CHANGED
from portside.stores.metadata.engine import Noun, Queries, Transaction
from portside.stores.metadata.read_only import lift, lock_state
from portside.stores.metadata.refusals import being_copied, not_empty, not_its_copy
from portside.stores.metadata.schema.steps import COPIED, GUARDED, TABLES
from portside.stores.metadata.schema.tables import Column, Table, Type
from portside.stores.read_only import Successor

_REPOSITORY_ID = "(SELECT id FROM repositories WHERE name = $1)"

_BEGIN = "UPDATE registry SET copy_of = $1, read_only = TRUE"
_BEGIN_AS_SOURCE = "UPDATE registry SET copy_of = $1, read_only = TRUE, identity = $1"
_FOLLOW = """
    UPDATE registry SET copy_of = $1, successor = $2, successor_url = $3 WHERE read_only
"""
_COPY_OF = "SELECT copy_of FROM registry FOR SHARE"

# A key that was made with the registry does not count.
_IS_HELD = """
    SELECT 1 WHERE EXISTS (SELECT 1 FROM repositories) OR EXISTS (SELECT 1 FROM blobs)
        OR EXISTS (SELECT 1 FROM identities) OR EXISTS (SELECT 1 FROM scope_maps)
"""
_DELETE_BLOB = """
    DELETE FROM blobs
    WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM repository_blobs WHERE digest = $1)
"""


class Part(msgspec.Struct, frozen=True):
    """A query for the rows after the first `columns` of a key; its last parameter is a limit."""

    sql: str
    columns: int


class CopyStatements(msgspec.Struct, frozen=True):
    """The statements about one table.

    `put` takes a whole row, `delete` and `whole` a key. `start` is a key before all others. `whole`
    is empty where no column is heavy.
    """

    parts: tuple[Part, ...]
    put: str
    delete: str
    start: Key
    whole: str


def copied(table: Table) -> CopiedTable:
    """Return how a table is seen in a copy."""
    rest = [
        column for column in table.columns if not column.local and column.name not in table.copy_key
    ]
    return CopiedTable(
        name=table.name,
        key=table.copy_key,
        values=tuple(column.name for column in rest if not column.heavy),
        heavy=tuple(column.name for column in rest if column.heavy),
    )


def copy_statements(table: Table) -> CopyStatements:
    """Derive the statements about a table from its columns and what they refer to."""
    return _Statements(table, copied(table)).derive()


class _Statements:
    """The parts of a table's statements; `t` is its alias, `r` and `m` those of its parents."""

    def __init__(self, table: Table, copy: CopiedTable) -> None:
        self._table = table
        self._copy = copy
        self._light = (*copy.key, *copy.values)
        self._all = (*self._light, *copy.heavy)
        self._is_owned = "repository" in copy.key
        self._has_manifest = "manifest" in self._light

    def derive(self) -> CopyStatements:
        return CopyStatements(
            parts=self._owned_parts() if self._is_owned else (self._plain_part(),),
            put=self._put(),
            delete=self._delete(),
            start=tuple(self._start(name) for name in self._copy.key),
            whole=self._whole() if self._copy.heavy else "",
        )

    def _start(self, name: str) -> str | int:
        column = self._table.column(name)
        is_text = column.type is Type.TEXT or column.references is not None
        return "" if is_text else -1

    def _read(self, name: str) -> str:
        """Return the expression that reads a column; truth is read as a number."""
        if name == "repository" and self._is_owned:
            return "r.name"
        if name == "manifest":
            return "m.digest"
        is_boolean = self._table.column(name).type is Type.BOOLEAN
        return f"CAST(t.{name} AS INTEGER)" if is_boolean else f"t.{name}"

    def _plain_part(self) -> Part:
        key = ", ".join(f"t.{name}" for name in self._copy.key)
        count = len(self._copy.key)
        columns = ", ".join(map(self._read, self._light))
        return Part(
            f"SELECT {columns} FROM {self._table.name} t"
            f" WHERE ({key}) > ({_numbers(1, count)}) ORDER BY {key} LIMIT ${count + 1}",
            count,
        )

    def _owned_parts(self) -> tuple[Part, ...]:
        order = [self._read(name) for name in self._copy.key[1:]]
        key, count = ", ".join(order), len(order)
        columns = ", ".join(map(self._read, self._light[1:]))
        source = f"{self._table.name} t WHERE t.repository"
        if self._has_manifest:
            # Rows are ordered by the manifest where it is in the key: there, it leads.
            leads = "manifest" in self._copy.key
            source = (
                f"manifests m, {self._table.name} t WHERE t.manifest = m.id"
                f" AND {'m' if leads else 't'}.repository"
            )
        rest = (
            f"SELECT CAST($1 AS TEXT), {columns} FROM {source} = {_REPOSITORY_ID}"
            f" AND {order[0]} >= $2 AND ({key}) > ({_numbers(2, count)})"
            f" ORDER BY {key} LIMIT ${count + 2}"
        )
        following = (
            f"SELECT r.name, {columns} FROM repositories r, {source} = r.id AND r.name > $1"
            f" ORDER BY r.name, {key} LIMIT $2"
        )
        return Part(rest, count + 1), Part(following, 1)

    def _whole(self) -> str:
        columns = ", ".join(map(self._read, self._all))
        key = " AND ".join(
            f"{self._read(name)} = ${number}" for number, name in enumerate(self._copy.key, 1)
        )
        return (
            f"SELECT {columns} FROM repositories r JOIN {self._table.name} t"
            f" ON t.repository = r.id WHERE {key}"
        )

    def _put(self) -> str:
        """Insert a row or change it, if there is all that it needs."""
        if self._table.columns[0].type is Type.SINGLE:
            # The row is made with its table, and never deleted.
            values = [
                f"{name} = {self._written(name, number)}"
                for number, name in enumerate(self._light, 1)
                if name not in self._copy.key
            ]
            return f"UPDATE {self._table.name} SET {', '.join(values)} WHERE id = $1"
        names = ", ".join(self._all)
        values = [self._written(name, number) for number, name in enumerate(self._all, 1)]
        unique = self._table.primary_key or self._table.unique or self._copy.key
        changed = [f"{name} = excluded.{name}" for name in self._all if name not in self._copy.key]
        return (
            f"INSERT INTO {self._table.name} ({names}) SELECT {', '.join(values)}"
            f" {self._needed()} ON CONFLICT ({', '.join(unique)}) DO UPDATE SET"
            f" {', '.join(changed)}"
        )

    def _written(self, name: str, number: int) -> str:
        """Return the expression that writes the parameter with that number into a column."""
        column = self._table.column(name)
        if name == "repository" and self._is_owned:
            return "r.id"
        if name == "manifest":
            return "m.id"
        if column.type is Type.BOOLEAN:
            return f"${number} <> 0"
        if column.null and column.references is not None:
            # What has gone in the source since the row was read is none.
            parent = column.references
            return (
                f"(SELECT p.{parent.column} FROM {parent.table} p"
                f" WHERE p.{parent.column} = ${number})"
            )
        return f"${number}"

    def _needed(self) -> str:
        """Return the rows that a row needs: one of each, or the row is left out."""
        sources, conditions = [], ["TRUE"]
        for number, name in enumerate(self._all, 1):
            column = self._table.column(name)
            if column.references is None or column.null:
                continue
            alias, by = f"p{number}", column.references.column
            if name == "repository":
                alias, by = "r", "name"
            elif name == "manifest":
                alias, by = "m", "digest"
                conditions.append("m.repository = r.id")
            sources.append(f"{column.references.table} {alias}")
            conditions.append(f"{alias}.{by} = ${number}")
        source = f"FROM {', '.join(sources)} " if sources else ""
        return f"{source}WHERE {' AND '.join(conditions)}"

    def _delete(self) -> str:
        if self._table.columns[0].type is Type.SINGLE:
            return f"DELETE FROM {self._table.name} WHERE id = $1 AND FALSE"
        conditions = [
            f"{name} = {self._key_parameter(self._table.column(name), number)}"
            for number, name in enumerate(self._copy.key, 1)
        ]
        return f"DELETE FROM {self._table.name} WHERE {' AND '.join(conditions)}"

    def _key_parameter(self, column: Column, number: int) -> str:
        if column.name == "repository" and self._is_owned:
            return _REPOSITORY_ID
        if column.name == "manifest":
            return (
                f"(SELECT id FROM manifests WHERE repository = {_REPOSITORY_ID}"
                f" AND digest = ${number})"
            )
        return f"${number}"


def _numbers(first: int, count: int) -> str:
    return ", ".join(f"${number}" for number in range(first, first + count))


STATEMENTS = {table.name: copy_statements(table) for table in COPIED}

_NUMBERED = {table.name for table in COPIED if table.columns[0].type is Type.SERIAL}
_ACCESS = {table.name for table in COPIED if table.access}


class CopiedRows:
    """The ReadableRows, as `queries` see them."""

    tables = tuple(map(copied, COPIED))

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def list_rows(self, table: CopiedTable, after: Key | None, limit: int) -> list[Row]:
        """Read on after the key, part by part."""
        statements = STATEMENTS[table.name]
        key = statements.start if after is None else after
        rows: list[Row] = []
        for part in statements.parts:
            if len(rows) < limit:
                parameters = (*key[: part.columns], limit - len(rows))
                rows += map(tuple, await self._queries.find_all(part.sql, *parameters))
        return rows

    async def read_whole(self, table: CopiedTable, keys: Sequence[Key]) -> list[Row]:
        """Read row by row."""
        whole = STATEMENTS[table.name].whole
        found = [await self._queries.find(whole, *key) for key in keys]
        return [tuple(row) for row in found if row is not None]


class Copies(Noun):
    """The CopyableMetadata."""

    tables = CopiedRows.tables

    async def list_rows(self, table: CopiedTable, after: Key | None, limit: int) -> list[Row]:
        """Read what is there now."""
        return await CopiedRows(self._database).list_rows(table, after, limit)

    async def read_whole(self, table: CopiedTable, keys: Sequence[Key]) -> list[Row]:
        """Read what is there now."""
        return await CopiedRows(self._database).read_whole(table, keys)

    @asynccontextmanager
    async def rows_apart(self) -> AsyncIterator[CopiedRows]:
        """Read in a snapshot."""
        async with self._database.snapshot_apart() as queries:
            yield CopiedRows(queries)

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[None]:
        """Lock what only a copy locks."""
        async with self._database.claim() as is_free:
            if not is_free:
                raise being_copied()
            yield

    async def begin_copy(self, source: str, *, is_same: bool = False) -> None:
        """Keep writers out, look, and write."""

        async def job(transaction: Transaction) -> None:
            await transaction.lock_tables(GUARDED)
            if (await lock_state(transaction)).copy_of == source:
                return
            if await transaction.find(_IS_HELD) is not None:
                raise not_empty()
            await transaction.execute(_BEGIN_AS_SOURCE if is_same else _BEGIN, source)

        await self._database.write(job)

    async def put_rows(self, source: str, table: CopiedTable, rows: Sequence[Row]) -> list[Key]:
        """Write what can be stored, all rows in one round trip."""
        fitting = [row for row in rows if self._can_store(row)]
        await self._change_rows(source, table, STATEMENTS[table.name].put, fitting)
        stored = set(map(table.key_of, fitting))
        return [key for key in map(table.key_of, rows) if key not in stored]

    def _can_store(self, row: Row) -> bool:
        return all(self._database.can_store(value) for value in row if isinstance(value, str))

    async def drop_rows(self, source: str, table: CopiedTable, keys: Sequence[Key]) -> None:
        """Delete all rows in one round trip."""
        await self._change_rows(source, table, STATEMENTS[table.name].delete, keys)

    async def _change_rows(
        self, source: str, table: CopiedTable, sql: str, rows: Sequence[Row]
    ) -> None:
        async def job(transaction: Transaction) -> None:
            await _require_copy(transaction, source)
            async with transaction.changing_a_copy():
                await transaction.execute_each(sql, rows)
                if table.name in _NUMBERED:
                    await transaction.resume_numbers(TABLES[table.name])
                if table.name in _ACCESS:
                    await transaction.execute(CHANGED)
                    transaction.after_commit(self._database.change_counter.advance)

        await self._database.write(job)

    async def put_blob(self, source: str, row: Row, *, place: Place) -> None:
        """Write the row, place the bytes, and commit."""
        digest = Digest(row[0])

        async def job(transaction: Transaction) -> None:
            await _require_copy(transaction, source)
            async with transaction.changing_a_copy():
                await transaction.require_not_being_removed(digest)
                await transaction.execute(STATEMENTS["blobs"].put, *row)
                await transaction.place(place, is_new=False)

        await self._database.write_placing(job, blob=digest)

    async def drop_blob(self, source: str, digest: Digest, *, remove: Remove) -> None:
        """Delete the row; the bytes go after the commit."""

        async def job(transaction: Transaction) -> bool:
            await _require_copy(transaction, source)
            async with transaction.changing_a_copy():
                gone = await transaction.execute(_DELETE_BLOB, str(digest))
            return gone > 0

        await self._database.write_removing(job, blob=digest, remove=remove)

    async def end_copy(self, source: str, *, by: Actor | None = None) -> None:
        """Write the row of the registry."""

        async def job(transaction: Transaction) -> None:
            before = await lock_state(transaction)
            if before.copy_of != source:
                raise not_its_copy()
            await lift(transaction, before, by)

        await self._database.write(job)

    async def follow(self, identity: str, successor: Successor) -> None:
        """Write the row of the registry."""
        await self._database.execute(_FOLLOW, identity, successor.place, successor.url)


async def _require_copy(transaction: Transaction, source: str) -> None:
    """Raise NotItsCopy unless the registry is a copy of the source, which it stays until then."""
    row = await transaction.find(_COPY_OF)
    if row is None or row[0] != source:
        raise not_its_copy()
