"""The schema, as numbered steps that lead from one version to the next."""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

from portside.spec.errors import Unavailable


class SchemaTooNew(Unavailable):
    """The database was made by a newer Portside."""

    message = "the database is newer than this version of Portside"


class SchemaTooOld(Unavailable):
    """The database was made by an older Portside, or holds nothing yet."""

    message = "the database is older than this version of Portside"


def steps() -> dict[int, str]:
    """Give the SQL of every step by its number."""
    folder = resources.files(__package__) / "schema"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return {int(file.name[:4]): file.read_text("utf-8") for file in sorted(files, key=str)}


def migrate(connection: sqlite3.Connection, file: Path) -> None:
    """Bring the schema of `file` to the newest version, each step whole or not at all.

    Only one process may do so at a time. Raises SchemaTooNew, and sqlite3.Error.
    """
    known = steps()
    while (current := read_version(connection)) < max(known):
        step = current + 1
        connection.executescript(
            f"BEGIN IMMEDIATE; {known[step]} PRAGMA user_version = {step}; COMMIT;"
        )
    require_newest(connection, file)


def require_newest(connection: sqlite3.Connection, file: Path) -> None:
    """Refuse a schema that is not the newest one; raises SchemaTooNew and SchemaTooOld."""
    current, newest = read_version(connection), max(steps())
    if current > newest:
        newer = (
            f"the database {file} was made by a newer Portside: its schema has version {current},"
            f" and {newest} is the newest known here"
        )
        raise SchemaTooNew(newer)
    if current < newest:
        older = (
            f"the database {file} has version {current} of the schema, and {newest} is needed;"
            " `portside serve` brings it up to date"
        )
        raise SchemaTooOld(older)


def read_version(connection: sqlite3.Connection) -> int:
    """Give the number of the last step that was taken; 0 for a file that holds nothing yet."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
