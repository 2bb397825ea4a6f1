"""SQLite's file: the steps of its schema, and how rows lie in it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from portside.stores.metadata.discovery import NAMED, REFERRERS, REPOSITORIES, TAGS
from portside.stores.metadata.identities import SLOWEST
from portside.stores.metadata.schema.versions import SchemaTooNew
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.sqlite.statements import rewritten
from stores.conftest import Clock

NAMES = "SELECT name FROM repositories"


def dump(file: Path) -> list[str]:
    """Return all that is in a database, as SQL."""
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


class TestSchema:
    """Numbered steps."""

    async def test_again(self, tmp_path: Path, clock: Clock) -> None:
        """Creating a database that is there changes nothing."""
        await SqliteDatabase(tmp_path, clock=clock).migrate()
        created = dump(tmp_path / "portside.db")
        await SqliteDatabase(tmp_path, clock=clock).migrate()
        assert dump(tmp_path / "portside.db") == created

    async def test_newer(self, tmp_path: Path, clock: Clock) -> None:
        """A database of a newer version is refused."""
        database = SqliteDatabase(tmp_path, clock=clock)
        await database.migrate()
        with sqlite3.connect(tmp_path / "portside.db") as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(SchemaTooNew):
            await database.migrate()

    async def test_lists_use_indexes(self, tmp_path: Path, clock: Clock) -> None:
        """No list reads a whole table, and none sorts."""
        await SqliteDatabase(tmp_path, clock=clock).migrate()
        with closing(sqlite3.connect(tmp_path / "portside.db")) as connection:
            for sql in (TAGS, REPOSITORIES, NAMED, REFERRERS):
                count = len(set(re.findall(r"\$\d+", sql)))
                rows = connection.execute(f"EXPLAIN QUERY PLAN {rewritten(sql)}", [""] * count)
                plan = " ".join(row[3] for row in rows)
                # A list that is passed is read as a whole.
                assert "SCAN" not in plan.replace("SCAN json_each", "")
                assert "TEMP B-TREE" not in plan

    async def test_the_slowest_hash_is_read_by_its_index(
        self, tmp_path: Path, clock: Clock
    ) -> None:
        """One entry is read, however many users there are."""
        await SqliteDatabase(tmp_path, clock=clock).migrate()
        with closing(sqlite3.connect(tmp_path / "portside.db")) as connection:
            (row,) = connection.execute(f"EXPLAIN QUERY PLAN {SLOWEST}")
        assert row[3] == "SCAN passwords USING INDEX passwords_by_cost"

    @pytest.mark.parametrize("version", [0, 1])
    async def test_steps_are_taken_once(self, tmp_path: Path, clock: Clock, version: int) -> None:
        """Two processes that start at once do not take the same step twice."""
        first = SqliteDatabase(tmp_path, clock=clock)
        if version:
            await first.migrate()
        with closing(first), closing(SqliteDatabase(tmp_path, clock=clock)) as second:
            await asyncio.gather(first.migrate(), second.migrate())
            assert await first.find_all(NAMES) == []
            assert first.file.with_name("portside.db.lock").exists()


class TestTable:
    """How rows lie in the file."""

    async def test_payloads_come_last(self, tmp_path: Path, clock: Clock) -> None:
        """What a list of referrers reads lies before the payload, or in the index."""
        await SqliteDatabase(tmp_path, clock=clock).migrate()
        with closing(sqlite3.connect(tmp_path / "portside.db")) as connection:
            columns = connection.execute("PRAGMA table_info(manifests)").fetchall()
            indexed = connection.execute("PRAGMA index_info(manifests_by_subject)").fetchall()
        names = [row[1] for row in columns]
        listed = {"media_type", "digest", "size", "artifact_type", "annotations"}
        assert listed <= set(names[: names.index("payload")])
        assert [row[2] for row in indexed] == ["repository", "subject", "digest", "artifact_type"]
