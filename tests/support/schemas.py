"""Databases as older versions of Portside left them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from portside.stores.metadata.schema.steps import STEPS
from portside.stores.metadata.schema.tables import statements, tables_after
from portside.stores.metadata.sqlite.statements import DIALECT


def make_older(file: Path, version: int) -> None:
    """Replace a database by one with the same rows and an older schema."""
    newer = file.with_suffix(".newer")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.rename(newer)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for number in range(1, version + 1):
            for sql in statements(STEPS, number, DIALECT):
                connection.execute(sql)
        connection.execute("ATTACH ? AS newer", (str(newer),))
        for table in tables_after(STEPS[:version]).values():
            names = ", ".join(column.name for column in table.columns)
            connection.execute(f"DELETE FROM {table.name}")  # noqa: S608  # names of the schema
            connection.execute(
                f"INSERT INTO {table.name} ({names}) SELECT {names} FROM newer.{table.name}"  # noqa: S608
            )
        connection.execute("DETACH newer")
        connection.execute(f"PRAGMA user_version = {version}")
    newer.unlink()


def dump(file: Path) -> list[str]:
    """Return all that is in a database, as SQL, with the version of its schema."""
    with closing(sqlite3.connect(file)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return [f"PRAGMA user_version = {version}", *connection.iterdump()]
