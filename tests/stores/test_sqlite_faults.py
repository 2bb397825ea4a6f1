"""What SQLite's failures look like, and that they end with their cause."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from portside.spec.digests import Digest
from portside.spec.errors import StorageFull, Unavailable
from portside.spec.names import RepositoryName
from portside.stores.interfaces import Place
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.sqlite.faults import translate
from portside.stores.metadata.store import Metadata
from stores.conftest import Clock
from support.sqlite import open_database

REPOSITORY = RepositoryName("a")
NAMES = "SELECT name FROM repositories"


@pytest.fixture
async def database(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteDatabase]:
    """Make an empty database."""
    database = await open_database(tmp_path, clock=clock)
    yield database
    database.close()


def failure(text: str, code: int) -> sqlite3.Error:
    """Make what the library raises."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def fill(disk: Path) -> Path:
    """Write a file until the disk is full; return it."""
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free))
    return filler


class TestReading:
    """A connection that failed."""

    async def test_is_replaced(self, database: SqliteDatabase) -> None:
        """The next read opens a fresh one, whichever way of reading it was that failed."""

        async def streamed(sql: str) -> list[object]:
            async with database.stream(sql) as rows:
                return [row async for row in rows]

        for read in (database.find, database.find_all, streamed):
            database.reader.close()
            with pytest.raises(Unavailable):
                await read(NAMES)
            assert not await read(NAMES)

    async def test_a_snapshot_is_one_state(self, database: SqliteDatabase) -> None:
        """What is written between two reads of a snapshot is not seen in it."""
        add = "INSERT INTO repositories (name, created) VALUES ('a', 1)"
        async with database.snapshot() as queries:
            assert await queries.find_all(NAMES) == []
            await database.execute(add)
            assert await queries.find_all(NAMES) == []
        assert await database.find_all(NAMES) == [("a",)]


class TestFile:
    """The file that is not what it was."""

    async def test_is_not_made_by_a_read(self, database: SqliteDatabase) -> None:
        """A database that was moved away is not replaced by an empty one."""
        database.file.unlink()
        with pytest.raises(Unavailable, match=r"portside.db: .*; it is not there"):
            await database.find(NAMES)
        with pytest.raises(Unavailable, match=r"portside.db: .*; it is not there"):
            await database.execute(NAMES)
        assert not database.file.exists()

    async def test_a_power_cut_before_there_is_a_log(self, tmp_path: Path, clock: Clock) -> None:
        """A first start that was cut off leaves a journal; the next start undoes it and goes on."""
        source, cut = tmp_path / "source.db", tmp_path / "cut"
        cut.mkdir()
        with closing(sqlite3.connect(source, isolation_level=None)) as connection:
            connection.execute("PRAGMA cache_size = 1")
            connection.execute("CREATE TABLE early (content)")
            connection.execute("INSERT INTO early VALUES (zeroblob(100000))")
            connection.execute("BEGIN")
            connection.execute("UPDATE early SET content = randomblob(100000)")
            connection.execute("CREATE TABLE late (content)")
            for end in ("", "-journal"):
                shutil.copy(f"{source}{end}", cut / f"portside.db{end}")
        with closing(SqliteDatabase(cut, clock=clock)) as database:
            assert not await database.is_made()
            await database.migrate()
            assert await database.find("SELECT content = zeroblob(100000) FROM early") == (1,)

    async def test_garbage(self, database: SqliteDatabase) -> None:
        """The file is named, and what to do."""
        database.file.write_bytes(b"garbage" * 1000)
        said = f"{database.file}: file is not a database; stop the registry and restore a backup"
        with pytest.raises(Unavailable, match=said):
            await database.find(NAMES)
        with pytest.raises(Unavailable, match=said):
            await database.execute(NAMES)

    async def test_cut_off(self, database: SqliteDatabase) -> None:
        """A file that lacks more than its log can hold is damaged."""
        await database.execute("INSERT INTO repositories (name, created) VALUES ('a', 1)")
        assert await database.find(NAMES)
        assert database.file.with_name("portside.db-wal").stat().st_size > 0
        await database.probe_reads()
        with database.file.open("r+b") as file:
            file.truncate(4096)
        with pytest.raises(Unavailable, match="malformed; stop the registry"):
            await database.probe_reads()

    async def test_lock(self, database: SqliteDatabase) -> None:
        """A lock that cannot be opened is an error of the registry's own kind, which names it."""
        lock = database.file.with_name("portside.db.lock")
        lock.unlink()
        lock.mkdir()
        with pytest.raises(Unavailable, match=r"portside.db.lock: "):
            await database.execute(NAMES)


class TestFullDisk:
    """I/O errors where there is no room."""

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        """Mount a file system of 1 MiB."""
        folder = tmp_path / "small"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True)
        yield folder
        subprocess.run(["umount", str(folder)], check=True)

    @pytest.mark.parametrize(
        "code",
        [
            sqlite3.SQLITE_IOERR_WRITE,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        ],
    )
    def test_is_told_from_a_broken_one(self, tmp_path: Path, small_disk: Path, code: int) -> None:
        """What SQLite cannot tell apart, the space that is left does."""
        error = failure("what SQLite says", code)
        assert type(translate(error, tmp_path / "portside.db")) is Unavailable
        fill(small_disk)
        told = translate(error, small_disk / "portside.db")
        assert type(told) is StorageFull
        assert "what SQLite says; the disk is full: remove files of other programs" in str(told)
        assert "backup" not in str(told)

    async def test_a_checkpoint_without_room(self, small_disk: Path, clock: Clock) -> None:
        """The end of the file is missing, and the log has it: the database works."""
        add = "INSERT INTO repositories (name, created) VALUES (hex(randomblob(2000)), 1)"
        with closing(SqliteDatabase(small_disk, clock=clock)) as database:
            await database.migrate()
            for _ in range(20):
                await database.execute(add)
            filler = fill(small_disk)
            with closing(sqlite3.connect(database.file)) as connection:
                with pytest.raises(sqlite3.OperationalError, match="full"):
                    connection.execute("PRAGMA wal_checkpoint")
                (pages,) = connection.execute("PRAGMA page_count").fetchone()
                (size,) = connection.execute("PRAGMA page_size").fetchone()
            assert database.file.stat().st_size < pages * size
            await database.probe_reads()
            filler.unlink()
            await database.probe()
            assert len(await database.find_all(NAMES)) == 20

    def test_says_so_itself(self, tmp_path: Path) -> None:
        """SQLite's own word for it."""
        error = failure("database or disk is full", sqlite3.SQLITE_FULL)
        told = translate(error, tmp_path / "portside.db")
        assert type(told) is StorageFull
        assert str(tmp_path / "portside.db") in str(told)


class TestUndo:
    """Bytes that were placed for a transaction for which there was no room."""

    @pytest.mark.parametrize("is_known", [True, False])
    async def test_only_new_bytes_go(self, database: SqliteDatabase, is_known: bool) -> None:
        """Those of a blob that was known before stay: they are what its row speaks for."""
        metadata = Metadata(database)
        begun, end = threading.Event(), threading.Event()
        undone: list[str] = []

        def wait() -> None:
            begun.set()
            end.wait()

        def fill() -> None:
            raise failure("database or disk is full", sqlite3.SQLITE_FULL)

        def commit(name: str, place: Place) -> Coroutine[None, None, None]:
            digest = Digest.of(name.encode())
            return metadata.commit_blob(REPOSITORY, digest, 4, session=None, place=place)

        if is_known:
            await commit("blob", lambda: None)
        # What is asked for while the writer is busy becomes one transaction.
        first = asyncio.create_task(commit("first", wait))
        await asyncio.to_thread(begun.wait)
        both = asyncio.gather(
            commit("blob", lambda: lambda: undone.append("blob")),
            commit("other", fill),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
        end.set()
        await first
        assert [type(outcome) for outcome in await both] == [StorageFull, StorageFull]
        assert undone == ([] if is_known else ["blob"])
