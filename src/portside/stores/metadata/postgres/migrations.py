"""The schema in PostgreSQL; a node that takes steps keeps others from it by a lock."""

from __future__ import annotations

import logging

from portside.stores.metadata.postgres.faults import RETRIED
from portside.stores.metadata.postgres.statements import DIALECT
from portside.stores.metadata.postgres.transactions import Connection
from portside.stores.metadata.schema.steps import STEPS
from portside.stores.metadata.schema.tables import statements, tables_after
from portside.stores.metadata.schema.versions import NEWEST, note_upgrade

_TABLE = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)"
_EXISTS = "SELECT to_regclass('schema_version') IS NOT NULL"
_VERSION = "SELECT coalesce(max(version), 0) FROM schema_version"
_NOTE = "INSERT INTO schema_version (version) VALUES ($1)"

PATIENCE = 24 * 3600.0
"""Seconds that a step may take: one that changes every row of a large registry takes minutes."""

log = logging.getLogger(__name__)


async def migrate(connection: Connection) -> int:
    """Take the steps that the schema lacks, each whole or not at all; return how many."""
    note_upgrade("the database", await read_version(connection))
    taken = 0
    while await _take_step_again(connection):
        taken += 1
    return taken


async def _take_step_again(connection: Connection) -> bool:
    """Take the next step, if there is one, after as many attempts as that needs.

    A transaction of a node that serves can wait for a table of the step, and have one that the step
    waits for. PostgreSQL then breaks off one of the two.
    """
    while True:
        try:
            return await _take_step(connection)
        except RETRIED as error:
            log.info("a step of the schema is taken again: %s", error)


async def _take_step(connection: Connection) -> bool:
    """Take the next step, if there is one."""
    async with connection.transaction():
        await connection.execute(_TABLE)
        step = await connection.fetchval(_VERSION) + 1
        if step > NEWEST:
            return False
        tables = tables_after(STEPS[: step - 1])
        if tables:
            # Before any work is done that another transaction could undo. Nodes that serve are not
            # ready from now on, and do not answer some requests and refuse others.
            lock = f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"
            await connection.execute(lock, timeout=PATIENCE)
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
