"""The schema in PostgreSQL, as numbered steps; every node may take them at the same time.

An advisory lock lets one node in at a time, and the others find it done. Each step is one
transaction, together with the number that says that it was taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portside.stores.metadata.postgres.faults import translated
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.versions import read_steps, require_version

if TYPE_CHECKING:
    from portside.stores.metadata.postgres.transactions import Connection

LOCK = (0x706F7274, 2)
"""Key of the lock; its first half is the one that Portside's locks of two numbers share."""

_HOLD = "SELECT pg_advisory_xact_lock($1, $2)"
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
    async with database.connected() as connection:
        while await _take_step(connection, known):
            taken += 1
    await require_newest(database)
    return taken


async def _take_step(connection: Connection, known: dict[int, str]) -> bool:
    """Take the next step, if there is one."""
    with translated():
        async with connection.transaction():
            await connection.execute(_HOLD, *LOCK)
            await connection.execute(_TABLE)
            step = await connection.fetchval(_VERSION) + 1
            if step not in known:
                return False
            await connection.execute(known[step])
            await connection.execute(_NOTE, step)
            return True


async def require_newest(database: Database) -> None:
    """Refuse another schema; raises SchemaTooNew, SchemaTooOld and Unavailable."""
    current = await read_version(database)
    require_version("the database", current, max(steps()), remedy="portside migrate")


async def read_version(database: Database) -> int:
    """Give the number of the last step that was taken; 0 for a database that holds nothing yet."""
    found: Any = await database.find(_EXISTS)
    if found is None or not found[0]:
        return 0
    row: Any = await database.find(_VERSION)
    version: int = row[0]
    return version
