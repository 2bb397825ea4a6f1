"""The schema is declared once: a new column and a new table reach all that is derived from it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from portside.spec.errors import ReadOnly
from portside.stores.metadata.copies import copied, copy_statements
from portside.stores.metadata.postgres import statements as postgres
from portside.stores.metadata.postgres.database import PostgresDatabase, Terms
from portside.stores.metadata.schema.steps import COPIED, GUARDED, STEPS, TABLES
from portside.stores.metadata.schema.tables import (
    AddColumn,
    Column,
    Step,
    Table,
    Type,
    statements,
    tables_after,
)
from portside.stores.metadata.sqlite import statements as sqlite
from portside.stores.metadata.sqlite.database import SqliteDatabase
from stores.conftest import Clock, PostgresShelf
from support.postgres import Server

BEFORE_HISTORY = 7

NEXT: Step = (
    AddColumn("manifests", Column("noted_by", Type.TEXT, null=True)),
    AddColumn("tags", Column("locked", Type.BOOLEAN, default="FALSE")),
    Table(
        "notes",
        (Column("name", Type.TEXT), Column("note", Type.TEXT)),
        primary_key=("name",),
        copy_key=("name",),
    ),
)
EXTENDED = (*STEPS, NEXT)
NUMBER = len(EXTENDED)
ADD_NOTE = "INSERT INTO notes (name, note) VALUES ('a', 'b')"


class TestDerived:
    """What follows from the declaration."""

    def test_copies_have_the_column(self) -> None:
        """It is read, compared and written, as a number if it is a boolean."""
        tables = tables_after(EXTENDED)
        assert copied(tables["manifests"]).values[-1] == "noted_by"
        derived = copy_statements(tables["manifests"])
        assert all("t.noted_by" in part.sql for part in derived.parts)
        assert "noted_by = excluded.noted_by" in derived.put
        assert "CAST(t.locked AS INTEGER)" in copy_statements(tables["tags"]).parts[0].sql

    def test_every_table_says_whether_it_is_copied(self) -> None:
        """What is left out of a copy, or may change while the registry is read-only, is known."""
        assert {*TABLES} - {table.name for table in COPIED} == {
            "uploads",
            "login_failures",
            "registry",
            "leases",
            "webhooks",
            "deliveries",
        }
        assert {*TABLES} - {table.name for table in GUARDED} == {
            "login_failures",
            "registry",
            "manifest_pulls",
            "leases",
            "webhooks",
            "deliveries",
        }

    @pytest.mark.parametrize("table", COPIED, ids=lambda table: table.name)
    def test_every_column_is_copied_or_local(self, table: Table) -> None:
        """No column is left out of a copy by mistake."""
        seen = copied(table)
        names = {*seen.key, *seen.values, *seen.heavy}
        assert names == {column.name for column in table.columns if not column.local}


class TestStep:
    """A step that follows the newest one, in each engine."""

    async def test_in_sqlite(self, tmp_path: Path, clock: Clock) -> None:
        """Its column and table are there, and the table is guarded without saying so."""
        with closing(SqliteDatabase(tmp_path, clock=clock)) as database:
            await database.migrate()
            with closing(sqlite3.connect(database.file)) as connection:
                for sql in statements(EXTENDED, NUMBER, sqlite.DIALECT):
                    connection.execute(sql)
                connection.execute("SELECT noted_by, locked FROM manifests, tags")
                connection.commit()
            await database.execute("UPDATE registry SET read_only = TRUE")
            with pytest.raises(ReadOnly):
                await database.execute(ADD_NOTE)
            await database.execute("UPDATE registry SET read_only = FALSE")
            assert await database.execute(ADD_NOTE) == 1

    async def test_in_postgresql(self, postgresql: Server, clock: Clock) -> None:
        """The same."""
        shelf = await PostgresShelf.create(postgresql, clock)
        database: PostgresDatabase = shelf.open()
        async with database.connected() as connection:
            for sql in statements(EXTENDED, NUMBER, postgres.DIALECT):
                await connection.execute(sql)
            await connection.execute("SELECT noted_by, locked FROM manifests, tags")
        await database.execute("UPDATE registry SET read_only = TRUE")
        with pytest.raises(ReadOnly):
            await database.execute(ADD_NOTE)
        await database.execute("UPDATE registry SET read_only = FALSE")
        assert await database.execute(ADD_NOTE) == 1
        await shelf.close()


OLD_TAGS = (
    """
    INSERT INTO repositories (name, created, updated, manifest_count, tag_count)
    VALUES ('a', 5, 6, 1, 2)
    """,
    """
    INSERT INTO manifests
        (repository, digest, media_type, payload, size, annotations, created, pushed_by)
    SELECT id, 'sha256:m', 'x/y', data, 0, data, 5, 'ann'
    FROM repositories, (SELECT CAST('' AS {}) AS data) AS empty
    """,
    "INSERT INTO tags (repository, name, manifest, created, updated) VALUES (1, 'v1', 1, 5, 6)",
    "INSERT INTO tags (repository, name, manifest, created, updated) VALUES (1, 'v2', 1, 6, 6)",
)
OLD_BLOBS = (
    "INSERT INTO blobs (digest, size, created) VALUES ('sha256:b', 70, 5), ('sha256:c', 800, 5)",
    """
    INSERT INTO repository_blobs (repository, digest, linked)
    VALUES (1, 'sha256:b', 5), (1, 'sha256:c', 5)
    """,
    "UPDATE manifests SET size = 9",
)
SIZES = """
    SELECT r.manifest_bytes, l.digest, l.size
    FROM repositories r JOIN repository_blobs l ON l.repository = r.id
    ORDER BY l.digest
"""
MEASURED = [(9, "sha256:b", 70), (9, "sha256:c", 800)]
HISTORY = "SELECT repository, name, at, action, digest, identity FROM tag_history ORDER BY name"
BEGUN = [(1, "v1", 6, "set", "sha256:m", ""), (1, "v2", 6, "set", "sha256:m", "")]


class TestOlderContent:
    """The content of a registry that recorded no changes of tags, and no sizes of repositories."""

    async def test_in_sqlite(self, tmp_path: Path, clock: Clock) -> None:
        """The history begins with the last push, by nobody that is known; all is measured."""
        with closing(SqliteDatabase(tmp_path, clock=clock)) as database:
            with closing(sqlite3.connect(database.file)) as connection:
                for number in range(1, BEFORE_HISTORY + 1):
                    for sql in statements(STEPS, number, sqlite.DIALECT):
                        connection.execute(sql)
                for sql in (*OLD_TAGS, *OLD_BLOBS):
                    connection.execute(sql.format("BLOB"))
                connection.execute(f"PRAGMA user_version = {BEFORE_HISTORY}")
                connection.commit()
            await database.migrate()
            assert await database.find_all(HISTORY) == BEGUN
            assert await database.find_all(SIZES) == MEASURED

    async def test_in_postgresql(self, postgresql: Server, clock: Clock) -> None:
        """The same."""
        database = PostgresDatabase(Terms(url=postgresql.make_database()), clock=clock)
        async with database.connected() as connection:
            for number in range(1, BEFORE_HISTORY + 1):
                for sql in statements(STEPS, number, postgres.DIALECT):
                    await connection.execute(sql)
            for sql in (*OLD_TAGS, *OLD_BLOBS):
                await connection.execute(sql.format("BYTEA"))
            await connection.execute("CREATE TABLE schema_version (version BIGINT PRIMARY KEY)")
            note = "INSERT INTO schema_version VALUES ($1)"
            await connection.execute(note, BEFORE_HISTORY)
        await database.migrate()
        assert [tuple(row) for row in await database.find_all(HISTORY)] == BEGUN
        assert [tuple(row) for row in await database.find_all(SIZES)] == MEASURED
        await database.disconnect()
