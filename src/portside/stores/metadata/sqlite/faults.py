"""Errors of SQLite, as the errors of the registry."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portside.spec.errors import StorageFull, Unavailable
from portside.stores.metadata.refusals import read_only

ROOM = 64 * 1024
"""Bytes. With less than this left, what SQLite calls an I/O error is a full disk: it grows the
index of its log by 32 KiB at a time, and says no more than that it could not. What it calls damage
may be, and nothing can be restored to such a disk."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNWRITABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN} | _DAMAGED

_PRIMARY = 0xFF
"""SQLite's extended codes keep the plain one in their lowest byte."""


def translate(error: sqlite3.Error, file: Path | None = None) -> Unavailable:
    """Return the registry's error for one of SQLite, about `file`.

    The result has `error` as its cause, so that a caller that knows the file can translate it
    again.
    """
    told = _translated(error, file)
    told.__cause__ = error
    return told


def _translated(error: sqlite3.Error, file: Path | None) -> Unavailable:
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if extended == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
        # The only triggers are those of the read-only mode.
        return read_only()
    code = extended & _PRIMARY
    said = f"the database {file}: {error}" if file is not None else f"the database: {error}"
    if code in _NO_ROOM and file is not None and _is_full(file):
        remedy = "remove files of other programs, or enlarge it"
        return StorageFull(f"{said}; the disk is full: {remedy}")
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(said)
    if code in _DAMAGED:
        return Unavailable(f"{said}; stop the registry and restore a backup of it")
    if code in _UNWRITABLE and file is not None:
        return Unavailable(said + _why_unwritable(file))
    return Unavailable(said)


def _is_full(file: Path) -> bool:
    try:
        space = os.statvfs(file.parent)
    except OSError:
        return False
    has_entries = space.f_files == 0 or space.f_favail > 0
    return space.f_bavail * space.f_frsize < ROOM or not has_entries


def _why_unwritable(file: Path) -> str:
    if not file.exists():
        return "; it is not there"
    if not os.access(file.parent, os.W_OK):
        return f"; {file.parent} cannot be written to"
    return "" if os.access(file, os.W_OK) else "; it cannot be written to"


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Turn an OSError of a file beside the database, or of itself, into one that names it.

    Raises StorageFull and Unavailable.
    """
    try:
        yield
    except OSError as error:
        failed = f"{file}: {error.strerror or error}"
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise (StorageFull if is_full else Unavailable)(failed) from error
