"""SQLite's file: the steps of its schema, and how rows lie in it."""

from __future__ import annotations

import asyncio
import importlib
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from portside.stores.metadata.discovery import NAMED, REFERRERS, REPOSITORIES, TAGS
from portside.stores.metadata.identities import SLOWEST
from portside.stores.metadata.properties import (
    MANIFEST_PAGES,
    TAG_PAGES,
    TAG_PAGES_OF_MANIFEST,
    TAGS_OF,
)
from portside.stores.metadata.properties import REPOSITORIES as PROPERTIES_OF_REPOSITORIES
from portside.stores.metadata.schema.versions import SchemaTooNew
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.sqlite.statements import rewritten
from portside.stores.metadata.tag_history import CHANGES, OLD_CHANGES
from portside.stores.metadata.trash import (
    DELETED_REPOSITORIES,
    TRASHED_MANIFESTS,
    TRASHED_REPOSITORIES,
    TRASHED_TAGS,
)
from portside.stores.metadata.webhooks import BE_DUE, DELIVERIES, DUE, FIRST, OLDEST, WAIT_BEHIND
from stores.conftest import Clock

PROPERTIES = (
    *TAG_PAGES.values(),
    *TAG_PAGES_OF_MANIFEST.values(),
    *MANIFEST_PAGES.values(),
    TAGS_OF,
    PROPERTIES_OF_REPOSITORIES,
)

HISTORY = (CHANGES, OLD_CHANGES)
TRASH = (DELETED_REPOSITORIES, TRASHED_REPOSITORIES, TRASHED_MANIFESTS, TRASHED_TAGS)

WEBHOOKS = (DUE, OLDEST, DELIVERIES, FIRST)

NAMES = "SELECT name FROM repositories"


def dump(file: Path) -> list[str]:
    """Return all that is in a database, as SQL."""
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


NOUNS = (
    *("access_state", "blobs", "copies", "discovery", "identities", "inspection", "login_failures"),
    *(
        "events",
        "manifests",
        "properties",
        "read_only",
        "repositories",
        "scope_maps",
        "signing_keys",
        "tag_history",
        "trash",
        "uploads",
        "webhooks",
    ),
    "sqlite.transactions",
)
"""The modules that hold statements."""


def every_statement() -> Iterator[tuple[str, str]]:
    """Return the statements of all nouns, each with its name."""
    for noun in NOUNS:
        module = importlib.import_module(f"portside.stores.metadata.{noun}")
        for name, value in vars(module).items():
            is_statement = isinstance(value, str) and re.match(
                r"\s*(SELECT|INSERT|UPDATE|DELETE)\b", value
            )
            if is_statement and not name.endswith("_COLUMNS"):
                yield f"{noun}.{name}", value


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
            for sql in (
                TAGS,
                REPOSITORIES,
                NAMED,
                REFERRERS,
                *PROPERTIES,
                *HISTORY,
                *TRASH,
                *WEBHOOKS,
            ):
                count = len(set(re.findall(r"\$\d+", sql)))
                rows = connection.execute(f"EXPLAIN QUERY PLAN {rewritten(sql)}", [""] * count)
                plan = " ".join(row[3] for row in rows)
                # A list that is passed is read as a whole.
                assert "SCAN" not in plan.replace("SCAN json_each", "")
                assert "TEMP B-TREE" not in plan

    async def test_what_is_due_is_found_by_keys(self, tmp_path: Path, clock: Clock) -> None:
        """No delivery that waits is read to find the next one of its repository."""
        await SqliteDatabase(tmp_path, clock=clock).migrate()
        with closing(sqlite3.connect(tmp_path / "portside.db")) as connection:
            for sql in (BE_DUE, WAIT_BEHIND):
                rows = connection.execute(f"EXPLAIN QUERY PLAN {rewritten(sql)}", [""] * 3)
                assert rows.fetchone()[3].endswith(" AND event=?)")

    async def test_the_slowest_hash_is_read_by_its_index(
        self, tmp_path: Path, clock: Clock
    ) -> None:
        """One entry is read, however many users there are."""
        await SqliteDatabase(tmp_path, clock=clock).migrate()
        with closing(sqlite3.connect(tmp_path / "portside.db")) as connection:
            (row,) = connection.execute(f"EXPLAIN QUERY PLAN {SLOWEST}")
        assert row[3] == "SCAN passwords USING INDEX passwords_by_cost"

    async def test_no_statement_reads_a_whole_table(self, tmp_path: Path, clock: Clock) -> None:
        """What grows with a registry is read by its indexes, but for a few lists of access."""
        await SqliteDatabase(tmp_path, clock=clock).migrate()
        scanned, explained = set(), 0
        with closing(sqlite3.connect(tmp_path / "portside.db")) as connection:
            for name, sql in every_statement():
                count = len(set(re.findall(r"\$\d+", sql)))
                rows = connection.execute(f"EXPLAIN QUERY PLAN {rewritten(sql)}", [""] * count)
                explained += 1
                for _, _, _, step in rows:
                    is_small = re.search(
                        r"json_each|CONSTANT ROW|registry|access_state|webhooks|SCAN w$", step
                    )
                    if step.startswith("SCAN") and not is_small:
                        scanned.add((name, step.split()[1]))
        assert explained > 70
        assert scanned == {
            ("identities._LIST", "i"),
            ("identities.SLOWEST", "passwords"),
            ("scope_maps._LIST", "s"),
            ("signing_keys._LIST", "signing_keys"),
            ("signing_keys._ANY", "signing_keys"),
            # These stop at the first row, or at as many as the limit.
            ("uploads._ADD", "opened"),
            ("login_failures._COUNTED", "others"),
            ("events.TRIM", "events"),
            ("copies._IS_HELD", "repositories"),
            ("copies._IS_HELD", "blobs"),
            ("copies._IS_HELD", "identities"),
            ("copies._IS_HELD", "scope_maps"),
        }

    async def test_foreign_keys_have_indexes(self, tmp_path: Path, clock: Clock) -> None:
        """To delete a row, no table that refers to it is read as a whole, on either engine."""
        await SqliteDatabase(tmp_path, clock=clock).migrate()
        with closing(sqlite3.connect(tmp_path / "portside.db")) as connection:

            def pragma(name: str, of: str) -> list[tuple[Any, ...]]:
                return connection.execute(f"PRAGMA {name}({of})").fetchall()

            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            keys = 0
            for (table,) in tables.fetchall():
                found = [pragma("index_info", row[1]) for row in pragma("index_list", table)]
                leading = {columns[0][2] for columns in found}
                for key in pragma("foreign_key_list", table):
                    assert key[3] in leading, (table, key[3])
                    keys += 1
            assert keys == 14

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
