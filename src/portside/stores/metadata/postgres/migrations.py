"""The schema in PostgreSQL; a node that takes steps keeps others from it by a lock."""

from __future__ import annotations

from portside.stores.metadata.postgres.statements import DIALECT
from portside.stores.metadata.postgres.transactions import Connection
from portside.stores.metadata.schema.steps import STEPS
from portside.stores.metadata.schema.tables import statements
from portside.stores.metadata.schema.versions import NEWEST

_TABLE = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)"
_EXISTS = "SELECT to_regclass('schema_version') IS NOT NULL"
_VERSION = "SELECT coalesce(max(version), 0) FROM schema_version"
_NOTE = "INSERT INTO schema_version (version) VALUES ($1)"

PATIENCE = 24 * 3600.0
"""Seconds that a step may take: one that changes every row of a large registry takes minutes."""


async def migrate(connection: Connection) -> int:
    """Take the steps that the schema lacks, each whole or not at all; return how many."""
    taken = 0
    while await _take_step(connection):
        taken += 1
    return taken


async def _take_step(connection: Connection) -> bool:
    """Take the next step, if there is one."""
    async with connection.transaction():
        await connection.execute(_TABLE)
        step = await connection.fetchval(_VERSION) + 1
        if step > NEWEST:
            return False
        script = ";\n".join(statements(STEPS, step, DIALECT))
        await connection.execute(script, timeout=PATIENCE)
        await connection.execute(_NOTE, step)
        return True


async def read_version(connection: Connection) -> int:
    """Return the number of the last step that was taken; 0 for a database that holds nothing."""
    if not await connection.fetchval(_EXISTS):
        return 0
    version: int = await connection.fetchval(_VERSION)
    return version
