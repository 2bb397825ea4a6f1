"""How a connection to the SQLite file is opened: to use it, only to read it, or to look at it.

No other module may open the file, not even to read a byte of it: when a process closes any
descriptor of a file, the system drops all locks that the process has on it, those of SQLite too.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from portside.spec.errors import Unavailable

BUSY_TIMEOUT = 10.0
"""Seconds. Writers queue at a lock of their own; only recovery after a crash waits in SQLite."""

# 16 MiB of pages in memory (negative numbers are KiB).
_CACHE = "PRAGMA cache_size = -16384"

_USING = (
    # A commit returns when its pages are on the disk ("synchronous=FULL" syncs the log each time).
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    # On macOS, fsync does not reach the disk itself without this.
    "PRAGMA fullfsync = ON",
    "PRAGMA foreign_keys = ON",
    _CACHE,
    # The log file shrinks to 64 MiB after a burst of writes.
    "PRAGMA journal_size_limit = 67108864",
)

_HALF_DONE = {sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY}
"""A reader found a transaction that has to be undone, and must not."""

_READ_HEAD = "PRAGMA user_version"
"""Makes SQLite read the first page, which opening the file does not."""


def connect(file: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open the file to read and write it; one that is not there is made only with `create`.

    Raises sqlite3.Error.
    """
    return _opened(file, "mode=rwc" if create else "mode=rw", _USING)


def connect_read_only(file: Path) -> sqlite3.Connection:
    """Open the file so that nothing is changed, also where nothing can be.

    What a power cut left half done is undone first, as any program would that opens the file to
    write: before it has a log, it has a journal, which readers cannot undo. Readers share an index
    of SQLite's log, which they make if it is missing. Where that cannot be, nobody can write
    either, and the file is all there is, unless a log was left there. Raises sqlite3.Error, and
    Unavailable if such a log cannot be read.
    """
    try:
        return _opened(file, "mode=ro", (_READ_HEAD, _CACHE))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in _HALF_DONE and os.access(file, os.W_OK):
            _opened(file, "mode=rw", (_READ_HEAD,)).close()
            return _opened(file, "mode=ro", (_READ_HEAD, _CACHE))
        if not file.is_file() or os.access(file.parent, os.W_OK):
            raise
        if has_log(file):
            unreadable = (
                f"the database {file}: its last changes are in {file.name}-wal, which can be read"
                " only where the directory can be written to; make it writable, or check a copy"
            )
            raise Unavailable(unreadable) from error
    return _opened(file, "immutable=1", (_READ_HEAD, _CACHE))


def read_head(file: Path) -> None:
    """Read the first page of the file itself, which connections need not do again for long.

    The page says how large the database is. While a checkpoint goes on, and after one for which
    the disk had no room, the file can be shorter, which SQLite calls damage where it does not look
    into the log: the log has the rest. Raises sqlite3.Error if the page is not that of a database.
    """
    try:
        _opened(file, "immutable=1", (_READ_HEAD,)).close()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_CORRUPT or not _log_has_rest(file):
            raise


def _log_has_rest(file: Path) -> bool:
    """Whether the log is as large as what the file lacks, or larger; raises sqlite3.Error."""
    with closing(_opened(file, "mode=ro", ())) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page,) = connection.execute("PRAGMA page_size").fetchone()
    try:
        # In this order: the log shrinks only when the file has everything.
        log = os.stat(f"{file}-wal").st_size
        return log + os.stat(file).st_size >= int(pages) * int(page)
    except FileNotFoundError:
        return False


def _opened(file: Path, mode: str, first: Iterable[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        cached_statements=256,
    )
    try:
        for statement in first:
            connection.execute(statement).fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def has_log(file: Path) -> bool:
    """Whether changes of a file that is closed are still in its log; raises OSError."""
    try:
        return os.stat(f"{file}-wal").st_size > 0
    except FileNotFoundError:
        return False
