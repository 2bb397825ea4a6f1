"""The schema, as numbered steps that lead from one version to the next."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from portside.stores.metadata.versions import read_steps, require_version


def steps() -> dict[int, str]:
    """Give the SQL of every step by its number."""
    return read_steps("portside.stores.metadata")


def migrate(connection: sqlite3.Connection, file: Path) -> int:
    """Bring the schema of `file` to the newest version, each step whole or not at all.

    Gives the number of steps that it took. Only one process may do so at a time. Raises
    SchemaTooNew, and sqlite3.Error.
    """
    known = steps()
    taken = 0
    while (current := read_version(connection)) < max(known):
        step = current + 1
        connection.executescript(
            f"BEGIN IMMEDIATE; {known[step]} PRAGMA user_version = {step}; COMMIT;"
        )
        taken += 1
    require_newest(connection, file)
    return taken


def require_newest(connection: sqlite3.Connection, file: Path) -> None:
    """Refuse a schema that is not the newest one; raises SchemaTooNew and SchemaTooOld."""
    current, newest = read_version(connection), max(steps())
    require_version(f"the database {file}", current, newest, remedy="portside serve")


def read_version(connection: sqlite3.Connection) -> int:
    """Give the number of the last step that was taken; 0 for a file that holds nothing yet."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
