"""The SQLite file: how it is opened, read and written.

Reads run where they are asked for, on the event loop: a lookup takes microseconds, less than a
thread takes to wake. Each process has one connection for them, which in WAL mode never waits for a
writer. Nothing is cached, so that nothing can be stale in any process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from portside.stores.metadata.faults import translate
from portside.stores.metadata.migrations import migrate
from portside.stores.metadata.writer import Transaction, Writer

Result = TypeVar("Result")

FILE = "portside.db"
LOCK = "portside.db.lock"

BUSY_TIMEOUT = 10.0
"""Seconds. Writers queue at a lock of their own; only recovery after a crash waits in SQLite."""

_PRAGMAS = (
    # A commit returns when its pages are on the disk ("synchronous=FULL" syncs the log each time).
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    # On macOS, fsync does not reach the disk itself without this.
    "PRAGMA fullfsync = ON",
    "PRAGMA foreign_keys = ON",
    # 16 MiB of pages in memory (negative numbers are KiB).
    "PRAGMA cache_size = -16384",
    # The log file shrinks to 64 MiB after a burst of writes.
    "PRAGMA journal_size_limit = 67108864",
)


class Database:
    """One process's access to the file: a reading connection, and the writer's thread."""

    def __init__(self, root: Path, *, clock: Callable[[], int]) -> None:
        self._file = root / FILE
        self._lock = root / LOCK
        self._clock = clock
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None

    def create(self) -> None:
        """Make the file, or bring it to the newest schema.

        Raises Unavailable, StorageFull or SchemaTooNew.
        """
        try:
            connection = self._connect()
            try:
                migrate(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise translate(error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=BUSY_TIMEOUT, isolation_level=None, cached_statements=256
        )
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        return connection

    @property
    def reader(self) -> sqlite3.Connection:
        """The connection that reads, opened when it is first needed."""
        if self._reader is None:
            try:
                self._reader = self._connect()
                self._reader.execute("PRAGMA query_only = ON")
            except sqlite3.Error as error:
                raise translate(error) from error
        return self._reader

    def find(self, sql: str, parameters: Iterable[Any] = ()) -> Any | None:
        """Read one row, or None; raises Unavailable."""
        try:
            return self.reader.execute(sql, tuple(parameters)).fetchone()
        except sqlite3.Error as error:
            raise translate(error) from error

    def list(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """Read all rows; raises Unavailable."""
        try:
            return self.reader.execute(sql, tuple(parameters)).fetchall()
        except sqlite3.Error as error:
            raise translate(error) from error

    def each(self, sql: str, parameters: Iterable[Any] = ()) -> Iterator[Any]:
        """Read rows one after another; raises Unavailable."""
        try:
            yield from self.reader.execute(sql, tuple(parameters))
        except sqlite3.Error as error:
            raise translate(error) from error

    async def write(self, job: Callable[[Transaction], Result]) -> Result:
        """Run a job in a transaction of the writer's thread; see Writer.run."""
        if self._writer is None:
            self._writer = Writer(self._connect, lock=self._lock, clock=self._clock)
        return await self._writer.run(job)

    def close(self) -> None:
        """Finish the writes that were asked for, and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
