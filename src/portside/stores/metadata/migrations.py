"""The schema, as numbered steps that lead from one version to the next."""

from __future__ import annotations

import sqlite3
from importlib import resources

from portside.spec.errors import Unavailable


class SchemaTooNew(Unavailable):
    """The database was made by a newer Portside."""

    message = "the database is newer than this version of Portside"


def steps() -> dict[int, str]:
    """Give the SQL of every step by its number."""
    folder = resources.files(__package__) / "schema"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return {int(file.name[:4]): file.read_text("utf-8") for file in sorted(files, key=str)}


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to the newest version, each step whole or not at all.

    Raises SchemaTooNew, and sqlite3.Error.
    """
    known = steps()
    while (current := _version(connection)) < max(known):
        step = current + 1
        connection.executescript(
            f"BEGIN IMMEDIATE; {known[step]} PRAGMA user_version = {step}; COMMIT;"
        )
    if current > max(known):
        newer = f"its schema has version {current}, and {max(known)} is the newest known here"
        raise SchemaTooNew(newer)


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
