"""The SQLite file: how it is made, read and written.

Reads run where they are asked for, on the event loop: a lookup takes microseconds, less than a
thread takes to wake. Each process has one connection for them, which in WAL mode never waits for a
writer. Nothing is cached, so that nothing can be stale in any process.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from portside.spec.errors import Unavailable
from portside.stores.metadata.bell import FILE as BELL
from portside.stores.metadata.bell import Bell
from portside.stores.metadata.connections import connect, connect_read_only, read_head
from portside.stores.metadata.faults import naming, translate
from portside.stores.metadata.migrations import migrate, read_version, require_newest
from portside.stores.metadata.writer import Transaction, Writer

Result = TypeVar("Result")

# A transaction alone does not fail where only reading is allowed; a statement that writes does.
_TRY = "DELETE FROM uploads WHERE id IS NULL"

FILE = "portside.db"
LOCK = "portside.db.lock"


class Database:
    """One process's access to the file: a reading connection, and the writer's thread.

    `clock` gives microseconds since 1970. With `read_only` nothing can be written, and the file may
    be where nothing can be written.
    """

    def __init__(self, root: Path, *, clock: Callable[[], int], read_only: bool = False) -> None:
        self.file = root / FILE
        self._lock = root / LOCK
        self._clock = clock
        self._read_only = read_only
        self._opened: tuple[int, int] | None = None
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._bell: Bell | None = None

    @property
    def bell(self) -> Bell:
        """What is rung when access control changes; raises Unavailable."""
        if self._bell is None:
            with naming(self.file.parent / BELL):
                self._bell = Bell(self.file.parent / BELL)
        return self._bell

    def is_made(self) -> bool:
        """Tell whether there is a database that has ever held something.

        Raises Unavailable and StorageFull.
        """
        if not self.file.exists():
            return False
        try:
            with closing(connect_read_only(self.file)) as connection:
                return read_version(connection) > 0
        except sqlite3.Error as error:
            raise translate(error, self.file) from error

    def create(self) -> int:
        """Make the file and its lock, or bring it to the newest schema.

        Gives the number of steps that it took. Raises Unavailable, StorageFull or SchemaTooNew.
        """
        with naming(self._lock):
            lock = self._open_lock()
        try:
            # Two processes may start at once, and only one of them may take a step.
            fcntl.flock(lock, fcntl.LOCK_EX)
            _make_private(self.file)
            with closing(connect(self.file, create=True)) as connection:
                taken = migrate(connection, self.file)
        except sqlite3.Error as error:
            raise translate(error, self.file) from error
        finally:
            os.close(lock)
        with naming(self._lock):
            self._give_lock_away()
        return taken

    def require_newest(self) -> None:
        """Refuse a file of another schema; raises SchemaTooNew, SchemaTooOld and Unavailable."""
        try:
            require_newest(self.reader, self.file)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _open_lock(self) -> int:
        """Open the writers' lock, which is made if it is not there; raises OSError."""
        return os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _give_lock_away(self) -> None:
        """Let the owner of the database use its lock, whoever made it; raises OSError.

        A command that root runs must not keep the registry, which another user runs, from writing.
        """
        if os.geteuid() == 0 and self.file.exists():
            owner = os.stat(self.file)
            os.chown(self._lock, owner.st_uid, owner.st_gid)

    def _connect(self) -> sqlite3.Connection:
        connection = connect_read_only(self.file) if self._read_only else connect(self.file)
        self._opened = self._opened or _identity(self.file)
        return connection

    @property
    def reader(self) -> sqlite3.Connection:
        """The connection that reads, opened when it is first needed; raises sqlite3.Error."""
        if self._reader is None:
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        return self._reader

    def _failed(self, error: sqlite3.Error) -> Unavailable:
        """Give the registry's error for a read that failed, and open a fresh connection next time.

        A connection that once met damage may go on to see it after it is gone.
        """
        self._drop_reader()
        return translate(error, self.file)

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(sqlite3.Error):
                reader.close()

    def find(self, sql: str, parameters: Iterable[Any] = ()) -> Any | None:
        """Read one row, or None; raises Unavailable."""
        try:
            return self.reader.execute(sql, tuple(parameters)).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def one(self, sql: str, parameters: Iterable[Any] = ()) -> Any:
        """Read the row that there always is; raises Unavailable."""
        row = self.find(sql, parameters)
        if row is None:
            raise Unavailable(f"the database {self.file} lacks a row that was made with it")
        return row

    def list(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """Read all rows; raises Unavailable."""
        try:
            return self.reader.execute(sql, tuple(parameters)).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def each(self, sql: str, parameters: Iterable[Any] = ()) -> Iterator[Any]:
        """Read rows one after another; raises Unavailable.

        Until the last row is taken, SQLite's log cannot shrink: nobody may wait in between.
        """
        try:
            yield from self.reader.execute(sql, tuple(parameters))
        except sqlite3.Error as error:
            raise self._failed(error) from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads within the block see the same state; raises Unavailable."""
        try:
            self.reader.execute("BEGIN")
            try:
                yield
            finally:
                if self._reader is not None and self._reader.in_transaction:
                    self._reader.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._failed(error) from error

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Keep the writers of all processes waiting, so that rows and bytes belong together.

        Where the lock cannot be opened, nobody writes who could be kept waiting from here.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            yield
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Lock the directory, which nothing else locks; tells whether it was free.

        Raises Unavailable.
        """
        folder = self.file.parent
        with naming(folder):
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield _try_lock(descriptor)
        finally:
            os.close(descriptor)

    async def write(self, job: Callable[[Transaction], Result]) -> Result:
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

    def _start_writer(self) -> Writer:
        with naming(self._lock):
            os.close(self._open_lock())
            self._give_lock_away()
            return Writer(self._connect, lock=self._lock, clock=self._clock)

    async def probe(self) -> None:
        """Look whether the file is still the one that was opened, read it, and write nothing.

        Raises Unavailable and StorageFull.
        """
        await asyncio.to_thread(self._look)
        self.find("SELECT 1 FROM repositories LIMIT 1")
        await self.write(lambda transaction: transaction.execute(_TRY) and None)

    def _look(self) -> None:
        with naming(self.file):
            found = _identity(self.file)
        if self._opened not in {None, found}:
            replaced = f"the database {self.file} is another file than was opened; start again"
            raise Unavailable(replaced)
        try:
            read_head(self.file)
        except sqlite3.Error as error:
            raise translate(error, self.file) from error

    def close(self) -> None:
        """Finish the writes that were asked for, and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._bell is not None:
            self._bell.close()
            self._bell = None
        self._drop_reader()


def _make_private(file: Path) -> None:
    """Make the file, if there is none, so that only its owner can read the keys in it."""
    with naming(file), suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identity(file: Path) -> tuple[int, int]:
    """Tell this file from another one of its name; raises OSError."""
    found = os.stat(file)
    return found.st_dev, found.st_ino
