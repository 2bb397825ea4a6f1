"""The schema in PostgreSQL, as numbered steps; every node may take them at the same time.

An advisory lock lets one node in at a time, until it has taken all of them, and the others find it
done. Each step is one transaction, together with the number that says that it was taken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from portside.stores.metadata.postgres.faults import translated
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.postgres.transactions import let_go
from portside.stores.metadata.versions import read_steps, require_version

if TYPE_CHECKING:
    from portside.stores.metadata.postgres.transactions import Connection

LOCK = (0x706F7274, 2)
"""Key of the lock; its first half is the one that Portside's locks of two numbers share."""

_HOLD = "SELECT pg_advisory_lock($1, $2)"
_TABLE = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)"
_EXISTS = "SELECT to_regclass('schema_version') IS NOT NULL"
_VERSION = "SELECT coalesce(max(version), 0) FROM schema_version"
_NOTE = "INSERT INTO schema_version (version) VALUES ($1)"


def steps() -> dict[int, str]:
    """Give the SQL of every step by its number."""
    return read_steps(__package__)


async def migrate(database: Database) -> int:
    """Bring the schema to the newest version; gives the number of steps that it took.

    Raises SchemaTooNew, Unavailable and StorageFull.
    """
    known = steps()
    taken = 0
    async with _alone(database) as connection:
        while await _take_step(connection, known):
            taken += 1
    await require_newest(database)
    return taken


async def _take_step(connection: Connection, known: dict[int, str]) -> bool:
    """Take the next step, if there is one."""
    with translated():
        async with connection.transaction():
            await connection.execute(_TABLE)
            step = await connection.fetchval(_VERSION) + 1
            if step not in known:
                return False
            await connection.execute(known[step])
            await connection.execute(_NOTE, step)
            return True


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[Connection]:
    """Lend a connection for the length of a block in which nobody else takes steps."""
    async with database.connected() as connection:
        try:
            await connection.execute(_HOLD, *LOCK)
            yield connection
        finally:
            await let_go(connection)


async def require_newest(database: Database) -> None:
    """Refuse another schema; raises SchemaTooNew, SchemaTooOld and Unavailable."""
    newest = max(steps())
    current = await read_version(database)
    if current < newest:
        # Another node may have taken some of the steps, and be about to take the others.
        async with _alone(database) as connection:
            current = await _read(connection)
    require_version("the database", current, newest, remedy="portside migrate")


async def read_version(database: Database) -> int:
    """Give the number of the last step that was taken; 0 for a database that holds nothing yet."""
    async with database.connected() as connection:
        return await _read(connection)


async def _read(connection: Connection) -> int:
    if not await connection.fetchval(_EXISTS):
        return 0
    version: int = await connection.fetchval(_VERSION)
    return version
