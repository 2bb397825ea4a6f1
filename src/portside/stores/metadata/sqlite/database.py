"""The SQLite file: how it is created, read and written.

Reads run where they are asked for, on the event loop: a lookup takes microseconds, less than a
thread takes to wake. Each process has one connection for them, which in WAL mode never waits for a
writer. Nothing is cached, so nothing can be stale in any process.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from portside.spec.digests import Digest
from portside.spec.errors import StorageFull, Unavailable
from portside.stores.interfaces import Remove
from portside.stores.metadata.engine import PROBE, Job, Load, Queries, Result, Transaction
from portside.stores.metadata.schema.steps import STEPS
from portside.stores.metadata.schema.tables import Table, statements
from portside.stores.metadata.schema.versions import NEWEST, note_upgrade, require_version
from portside.stores.metadata.sqlite.change_counter import FILE as COUNTER
from portside.stores.metadata.sqlite.change_counter import FORMER_FILE, SharedCounter
from portside.stores.metadata.sqlite.connections import (
    connect,
    connect_read_only,
    has_log,
    read_head,
)
from portside.stores.metadata.sqlite.faults import naming, translate
from portside.stores.metadata.sqlite.shrinking import shrink
from portside.stores.metadata.sqlite.statements import DIALECT, bound, rewritten
from portside.stores.metadata.sqlite.writer import Writer
from portside.stores.reserve import release

# A transaction alone does not fail where only reading is allowed; a statement that writes does.
_TRY = "DELETE FROM uploads WHERE id IS NULL"

_SAVE = "VACUUM INTO ?"
_DROP_UPLOADS = "DELETE FROM uploads"

FILE = "portside.db"
LOCK = "portside.db.lock"


class SqliteDatabase:
    """The Database over the file: a reading connection, and the writer's thread.

    `clock` returns microseconds since 1970. With `read_only` nothing can be written, and the file
    may be where nothing can be written.
    """

    freshness = 1.0
    """A process can die between its commit and the change counter."""

    def __init__(self, root: Path, *, clock: Callable[[], int], read_only: bool = False) -> None:
        self.file = root / FILE
        self.clock = clock
        self._lock = root / LOCK
        self._read_only = read_only
        self._opened: tuple[int, int] | None = None
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._counter: SharedCounter | None = None

    @property
    def change_counter(self) -> SharedCounter:
        """The counter beside the file; raises Unavailable."""
        if self._counter is None:
            path = self.file.with_name(COUNTER)
            with naming(path):
                self._counter = SharedCounter(path)
        return self._counter

    def load(self) -> Load:
        """Return what the writer has to do; reads need no connection of their own."""
        writer = self._writer
        return Load() if writer is None else Load(writer.retries, queued=writer.queued)

    def can_store(self, _: str) -> bool:
        """Return True: SQLite stores every text."""
        return True

    # How the file comes to be.

    async def is_made(self) -> bool:
        """Whether a step of the schema was ever taken in the file."""
        if not self.file.exists():
            return False
        with self._translated(), closing(self._with_room(connect_read_only)) as connection:
            return _read_version(connection) > 0

    async def migrate(self) -> int:
        """Create the file and its lock, or take the steps that the schema lacks.

        Return the number of steps taken. Raises SchemaTooNew.
        """
        with naming(self._lock):
            lock = self._open_lock()
        try:
            # Two processes may start at once, and only one of them may take a step.
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            _create_private(self.file)
            opening = partial(connect, create=True)
            with self._translated(), closing(self._with_room(opening)) as connection:
                note_upgrade(f"the database {self.file}", _read_version(connection))
                taken = _migrate(connection)
                self._require_newest(connection)
            with suppress(OSError):
                self.file.with_name(FORMER_FILE).unlink()
        finally:
            os.close(lock)
        with naming(self._lock):
            self._share_lock()
        return taken

    async def require_newest(self) -> None:
        """Raise SchemaTooNew or SchemaTooOld unless the schema is the newest one."""
        with self._reading() as connection:
            self._require_newest(connection)

    async def server_time(self) -> int | None:
        """Return None: the clock is that of this machine."""
        return None

    async def client_versions(self) -> frozenset[str]:
        """Return none: a file does not know who uses it."""
        return frozenset()

    async def shrink(self) -> int:
        """Return free pages to the disk, if there are many; writers of all processes wait."""
        with naming(self._lock):
            lock = self._open_lock()
        try:
            return await asyncio.to_thread(self._shrink, lock)
        finally:
            os.close(lock)

    def _shrink(self, lock: int) -> int:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with self._translated(), closing(self._with_room(connect)) as connection:
            return shrink(connection, self.file)

    async def save_copy(self, folder: Path) -> None:
        """Save the database as it is at one moment in a new directory, as a file that is private.

        Upload sessions are left out: their bytes are not part of it. Whatever its schema is, the
        copy has the same. Raises Unavailable and StorageFull.
        """
        await asyncio.to_thread(self._save_copy, folder / FILE)

    def _save_copy(self, file: Path) -> None:
        _create_private(file)
        with self._translated(), closing(self._with_room(connect_read_only)) as connection:
            try:
                connection.execute(_SAVE, (str(file),))
            except sqlite3.Error as error:
                raise translate(error, file) from error
        try:
            with closing(connect(file)) as connection:
                connection.execute(_DROP_UPLOADS)
        except sqlite3.Error as error:
            raise translate(error, file) from error

    def has_log(self) -> bool:
        """Whether changes are still in the log after it was closed."""
        return has_log(self.file)

    async def schema_version(self) -> int:
        """Return the number of the last step that was taken."""
        with self._reading() as connection:
            return _read_version(connection)

    def _require_newest(self, connection: sqlite3.Connection) -> None:
        version = _read_version(connection)
        require_version(f"the database {self.file}", version, remedy="portside serve")

    def _open_lock(self) -> int:
        """Open the writers' lock, which is created if need be; raises OSError."""
        return os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _share_lock(self) -> None:
        """Make the owner of the database the owner of its lock; raises OSError.

        A command that root runs must not keep the registry, which another user runs, from writing.
        """
        if os.geteuid() == 0 and self.file.exists():
            owner = os.stat(self.file)
            os.chown(self._lock, owner.st_uid, owner.st_gid)

    # Reading.

    def _connect(self) -> sqlite3.Connection:
        connection = self._with_room(connect_read_only if self._read_only else connect)
        self._opened = self._opened or _identity(self.file)
        return connection

    def _with_room(self, opening: Callable[[Path], sqlite3.Connection]) -> sqlite3.Connection:
        """Open the file, which takes space for the index of the log; raises sqlite3.Error."""
        try:
            return opening(self.file)
        except sqlite3.Error as error:
            if not self._make_room(error):
                raise
            return opening(self.file)

    def _make_room(self, error: Exception) -> bool:
        """Whether what failed may be tried again, because the disk was full and no longer is."""
        is_full = isinstance(error, sqlite3.Error) and isinstance(
            translate(error, self.file), StorageFull
        )
        return is_full and release(self.file.parent)

    @property
    def reader(self) -> sqlite3.Connection:
        """The connection that reads, opened when it is first needed; raises sqlite3.Error."""
        if self._reader is None:
            self._reader = self._connect_reader()
        return self._reader

    def connect_reader(self) -> sqlite3.Connection:
        """Open one more connection that reads; raises Unavailable."""
        with self._translated():
            return self._connect_reader()

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _failed(self, error: sqlite3.Error) -> Unavailable:
        """Return the registry's error for a read that failed, and open a new connection next time.

        A connection that once met damage may go on to see it after it is gone.
        """
        self._close_reader()
        return translate(error, self.file)

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(sqlite3.Error):
                reader.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self.reader
        except sqlite3.Error as error:
            raise self._failed(error) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, self.file) from error

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        """Return the first row, or None."""
        try:
            return self.reader.execute(rewritten(sql), parameters).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        """Return all rows."""
        try:
            return self.reader.execute(rewritten(sql), bound(parameters)).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    async def writers_of(self, _: Table) -> frozenset[str]:
        """Return none: there is one writer, and what it has not committed has no number yet."""
        return frozenset()

    @asynccontextmanager
    async def stream(self, sql: str, *parameters: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """Read rows one by one.

        Until the last row is taken or the block ends, SQLite's log cannot shrink.
        """
        with (
            self._reading() as connection,
            closing(connection.execute(rewritten(sql), parameters)) as cursor,
        ):
            async with aclosing(_each(cursor)) as rows:
                yield rows

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Queries]:
        """Start a read transaction, which all reads of this process share."""
        with self._reading() as connection:
            connection.execute("BEGIN")
        try:
            yield self
        finally:
            if self._reader is not None and self._reader.in_transaction:
                self._reader.execute("ROLLBACK")

    @asynccontextmanager
    async def snapshot_apart(self) -> AsyncIterator[Queries]:
        """Read with a connection of its own, in a thread."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            apart = _Apart(self, thread)
            await loop.run_in_executor(thread, apart.open)
            try:
                yield apart
            finally:
                await loop.run_in_executor(thread, apart.close)

    async def damage(self) -> AsyncIterator[str]:
        """Run SQLite's own checks of its file and its foreign keys."""
        for (message,) in await self.find_all("PRAGMA integrity_check"):
            if message != "ok":
                yield f"database: {message}"
        for table, _, parent, _ in await self.find_all("PRAGMA foreign_key_check"):
            yield f"database: a row of {table} refers to a row of {parent} that does not exist"

    # Locks that other processes see.

    @asynccontextmanager
    async def hold_blob(self, _: Digest) -> AsyncIterator[None]:
        """Take the lock of the writers of all processes: there is no other.

        Where the lock cannot be opened, nobody writes who could be kept waiting from here.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            yield
            return
        try:
            await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[bool]:
        """Lock the directory, which nothing else locks."""
        folder = self.file.parent
        with naming(folder):
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield _try_lock(descriptor)
        finally:
            os.close(descriptor)

    # Writing.

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run one statement in a transaction of the writer's thread."""

        async def job(transaction: Transaction) -> int:
            return await transaction.execute(sql, *parameters)

        return await self.write(job)

    async def write(self, job: Job[Result], *, blob: Digest | None = None) -> Result:  # noqa: ARG002  # one transaction at a time keeps everything else waiting
        """Run a job in a transaction of the writer's thread; see Writer.run."""
        if self._writer is None:
            self._writer = self._start_writer()
        try:
            return await self._writer.run(job)
        except Unavailable as error:
            # The writer does not know the file.
            if isinstance(error.__cause__, sqlite3.Error):
                raise translate(error.__cause__, self.file) from error
            raise

    async def write_placing(self, job: Job[Result], *, blob: Digest) -> Result:
        """Run a job like any other: the writer's thread waits for the bytes."""
        return await self.write(job, blob=blob)

    async def write_removing(self, job: Job[bool], *, blob: Digest, remove: Remove) -> bool:
        """Run a job, and remove the bytes before the next transaction begins."""

        async def removing(transaction: Transaction) -> bool:
            is_last = await job(transaction)
            if is_last:
                transaction.after_commit(remove)
            return is_last

        return await self.write(removing, blob=blob)

    def _start_writer(self) -> Writer:
        with naming(self._lock):
            os.close(self._open_lock())
            self._share_lock()
            return Writer(
                self._connect, lock=self._lock, clock=self.clock, make_room=self._make_room
            )

    async def probe_reads(self) -> None:
        """Check that the file is still the one that was opened, and read it."""
        await asyncio.to_thread(self._require_same_file)
        await self.find(PROBE)

    async def probe(self) -> None:
        """Read, and run a statement that writes and changes nothing."""
        await self.probe_reads()
        await self.execute(_TRY)

    def _require_same_file(self) -> None:
        with naming(self.file):
            found = _identity(self.file)
        if self._opened not in {None, found}:
            raise Unavailable(f"the database {self.file} was replaced; restart the registry")
        with self._translated():
            read_head(self.file)

    async def disconnect(self) -> None:
        """Return: no connection belongs to an event loop."""

    def close(self) -> None:
        """Finish the writes that were asked for, and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._counter is not None:
            self._counter.close()
            self._counter = None
        self._close_reader()


class _Apart:
    """The Queries of a connection that belongs to a thread."""

    def __init__(self, database: SqliteDatabase, thread: ThreadPoolExecutor) -> None:
        self._database = database
        self._thread = thread
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Connect, and begin a read transaction; blocking. Raises Unavailable."""
        self._connection = self._database.connect_reader()
        self._connection.execute("BEGIN")

    def close(self) -> None:
        """Close the connection; blocking."""
        if self._connection is not None:
            self._connection.close()

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        rows = await self.find_all(sql, *parameters)
        return rows[0] if rows else None

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._fetch, sql, parameters)

    def _fetch(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        if self._connection is None:
            raise AssertionError
        try:
            return self._connection.execute(rewritten(sql), bound(parameters)).fetchall()
        except sqlite3.Error as error:
            raise translate(error, self._database.file) from error


async def _each(cursor: sqlite3.Cursor) -> AsyncGenerator[Any, None]:
    for row in cursor:
        yield row


def _migrate(connection: sqlite3.Connection) -> int:
    """Take the steps that the schema lacks, each whole or not at all; return how many."""
    taken = 0
    for step in range(_read_version(connection) + 1, NEWEST + 1):
        script = ";\n".join(statements(STEPS, step, DIALECT))
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version = {step};\nCOMMIT;"
        )
        taken += 1
    return taken


def _read_version(connection: sqlite3.Connection) -> int:
    """Return the number of the last step that was taken; 0 for a file that holds nothing yet."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _create_private(file: Path) -> None:
    """Create the file, if there is none, so that only its owner can read the keys in it."""
    with naming(file), suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identity(file: Path) -> tuple[int, int]:
    """Return what tells this file from another one of its name; raises OSError."""
    found = os.stat(file)
    return found.st_dev, found.st_ino
