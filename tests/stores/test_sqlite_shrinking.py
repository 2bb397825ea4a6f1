"""A SQLite file of which much was deleted, and what the disk gets back."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from portside.stores.metadata.sqlite.database import FILE, SqliteDatabase
from stores.conftest import Clock
from support.content import image
from support.server import run_portside, running_registry
from support.wire import connect, push

MIB = 1024 * 1024


def add_free_pages(root: Path, size: int) -> None:
    """Make and drop a table in the file."""
    with closing(sqlite3.connect(root / FILE, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE dropped (bytes BLOB)")
        connection.execute("INSERT INTO dropped VALUES (zeroblob(?))", (size,))
        connection.execute("DROP TABLE dropped")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def sizes(root: Path) -> tuple[int, int]:
    """Return the sizes of the file and its log."""
    return (root / FILE).stat().st_size, (root / f"{FILE}-wal").stat().st_size


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory."""
    return tmp_path


@pytest.fixture
def database(root: Path, clock: Clock) -> Iterator[SqliteDatabase]:
    """Open a file that is up to date, to read and write it."""
    database = SqliteDatabase(root, clock=clock)
    asyncio.run(database.migrate())
    yield database
    database.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 48 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class TestShrinking:
    """One process, which has the file open."""

    async def test_free_pages_go(self, database: SqliteDatabase, root: Path) -> None:
        """The file loses its free pages, and its log is empty again."""
        await database.probe()
        add_free_pages(root, 20 * MIB)
        before, _ = sizes(root)
        freed = await database.shrink()
        after, log = sizes(root)
        assert freed == before - after > 20 * MIB
        assert log == 0
        await database.probe()

    async def test_few_stay(self, database: SqliteDatabase, root: Path) -> None:
        """Pages that will soon be used again stay."""
        add_free_pages(root, 15 * MIB)
        before = (root / FILE).stat().st_size
        assert await database.shrink() == 0
        assert (root / FILE).stat().st_size == before

    async def test_a_reader(self, database: SqliteDatabase, root: Path) -> None:
        """A reader keeps seeing what it saw; the file shrinks once it has ended."""
        await database.probe()
        add_free_pages(root, 20 * MIB)
        before, _ = sizes(root)
        with closing(sqlite3.connect(root / FILE, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            seen = reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            assert await database.shrink() > 20 * MIB
            assert reader.execute("SELECT count(*) FROM sqlite_schema").fetchall() == seen
            assert sizes(root)[0] == before
        await database.shrink()
        with closing(sqlite3.connect(root / FILE)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert sizes(root)[0] < MIB

    async def test_no_room(
        self, small_disk: Path, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """On a disk without room for the copies, the file stays as it is, and the log says so."""
        database = SqliteDatabase(small_disk, clock=clock)
        await database.migrate()
        add_free_pages(small_disk, 17 * MIB)
        free = shutil.disk_usage(small_disk).free
        (small_disk / "filler").write_bytes(bytes(free - 100_000))
        assert await database.shrink() == 0
        (small_disk / "filler").unlink()
        assert await database.shrink() > 17 * MIB
        database.close()
        (message,) = [record.getMessage() for record in caplog.records]
        assert "but shrinking it needs" in message


def test_beside_a_server(data: Path) -> None:
    """`portside collect` shrinks the file of a running registry, which goes on."""
    content = image("kept")
    with running_registry(data) as registry, connect(registry.url) as client:
        push(client, "a", content, "v1")
        add_free_pages(data, 20 * MIB)
        code, printed, errors = run_portside("collect", "--data", str(data))
        assert (code, errors) == (0, "")
        assert f" bytes of {data / FILE} freed." in printed
        assert sizes(data)[0] < MIB
        for number in range(8):
            assert client.get("/v2/a/manifests/v1").content == content.manifest
            push(client, "a", image(f"after {number}"), f"v{number + 2}")
        assert client.get("/readyz/writes").status_code == 200
    code, printed, _ = run_portside("check", "--data", str(data))
    assert code == 0, printed
