"""How the processes of one machine learn that access control has changed."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from portside.stores.access import IdentityKind, StoredIdentity
from portside.stores.metadata.sqlite.change_counter import FILE, SharedCounter
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Access
from support.sqlite import open_database


@pytest.fixture
async def databases(tmp_path: Path) -> AsyncIterator[tuple[SqliteDatabase, SqliteDatabase]]:
    """Open one directory twice, as two processes do."""
    first = await open_database(tmp_path, clock=lambda: 1)
    second = SqliteDatabase(tmp_path, clock=lambda: 1)
    yield first, second
    first.close()
    second.close()


async def test_is_heard_at_once(databases: tuple[SqliteDatabase, SqliteDatabase]) -> None:
    """A change by one is the next answer of the other, however little time has passed."""
    first, second = databases
    state = Access(second, elapsed=lambda: 0.0)
    access = Access(first)
    for number in range(3):
        before = await state.access_state()
        assert await state.access_state() is before
        assert await access.add_identity(StoredIdentity(f"a{number}", IdentityKind.USER, 1))
        after = await state.access_state()
        assert (after.version, after.closed) == (before.version + 1, True)


async def test_is_not_needed_for_long(databases: tuple[SqliteDatabase, SqliteDatabase]) -> None:
    """A change whose process died before it could advance the counter is seen a second later."""
    now = 0.0
    state = Access(databases[1], elapsed=lambda: now)
    before = await state.access_state()
    with closing(sqlite3.connect(databases[0].file)) as connection, connection:
        connection.execute("UPDATE access_state SET version = version + 1")
    assert await state.access_state() is before
    now = SqliteDatabase.freshness
    assert (await state.access_state()).version == before.version + 1


def test_number_comes_round(tmp_path: Path) -> None:
    """The greatest number is followed by zero, which is another one too."""
    (tmp_path / FILE).write_bytes(b"\xff" * 8)
    with closing(SharedCounter(tmp_path / FILE)) as counter:
        counter.advance()
        assert counter.value == bytes(8)


async def test_the_former_file(tmp_path: Path) -> None:
    """A directory of an older version loses the file that has another name now."""
    former = tmp_path / "portside.bell"
    former.write_bytes(bytes(8))
    with closing(SqliteDatabase(tmp_path, clock=lambda: 1)) as database:
        await database.migrate()
        assert database.change_counter.value == bytes(8)
    assert not former.exists()
    assert (tmp_path / FILE).exists()


async def test_secrets_are_private(databases: tuple[SqliteDatabase, SqliteDatabase]) -> None:
    """Only the owner can read the file with the keys, and what SQLite puts beside it."""
    await databases[0].find("SELECT 1")
    assert databases[0].change_counter.value
    for name in ("portside.db", "portside.db-wal", "portside.db-shm", FILE):
        mode = os.stat(databases[0].file.with_name(name)).st_mode
        assert stat.S_IMODE(mode) == 0o600, name
