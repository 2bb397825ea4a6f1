"""Shrink the SQLite file after much was deleted.

SQLite uses the pages of deleted rows again, but never gives them back to the disk by itself. VACUUM
writes what is left to a temporary file and copies it back in one transaction: readers go on, in WAL
mode, and writers wait.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

from portside.stores.metadata.sqlite.faults import naming

LEAST = 16 * 1024 * 1024
"""Bytes. What a registry takes again within a few thousand pushes is not worth a copy."""

COPIES = 2
"""One in a temporary file, which may be on the same disk, and one in SQLite's log."""

log = logging.getLogger(__name__)


def shrink(connection: sqlite3.Connection, file: Path) -> int:
    """Return free pages to the disk, if they are half of the file; return how many bytes.

    No other process may be writing. Raises sqlite3.Error, StorageFull and Unavailable.
    """
    size, free = _measure(connection)
    if free < max(LEAST, size - free):
        return 0
    needed = COPIES * (size - free)
    with naming(file):
        disk = os.statvfs(file.parent)
    if disk.f_bavail * disk.f_frsize < needed:
        log.warning(
            "%d bytes of %s are free, but shrinking it needs %d bytes of the disk",
            free,
            file,
            needed,
        )
        return 0
    connection.execute("VACUUM")
    # While others read, the file keeps its size; the checkpoint of a later write shrinks it.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return size - _measure(connection)[0]


def _measure(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the size of the database and of its free pages in bytes."""
    page, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    )
    return page * pages, page * free
