"""The read-only switch in PostgreSQL.

Triggers refuse what it forbids (`schema/0003_standing.sql`). Whoever sets it waits for the locks of
all tables that they guard, and so for every transaction that has changed one of them.
"""

from __future__ import annotations

from typing import Any

from portside.spec.errors import Unavailable
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.postgres.transactions import Transaction
from portside.stores.switching import Standing

_GET = "SELECT identity, copy_of, read_only, storage FROM registry"
LOCK = """
    LOCK TABLE access_state, scope_maps, scope_map_rules, identities, passwords, signing_keys,
        repositories, blobs, repository_blobs, manifests, manifest_references, tags, uploads
    IN SHARE MODE
"""
"""Waits for every transaction that has changed what the switch guards."""
_SET = "UPDATE registry SET read_only = TRUE"
_LIFT = "UPDATE registry SET read_only = FALSE, copy_of = NULL"
_NOTE_STORAGE = "UPDATE registry SET storage = $1 WHERE storage IS NULL"


class PostgresSwitch:
    """The SwitchableMetadata over PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self) -> Standing:
        """Read the row."""
        return _standing(await self._database.find(_GET))

    async def set_read_only(self, *, read_only: bool) -> Standing:
        """Lock what is guarded, and write the row."""

        async def job(transaction: Transaction) -> Standing:
            await transaction.find(LOCK)
            before = await read_standing(transaction)
            await transaction.execute(_SET if read_only else _LIFT)
            return before

        return await self._database.write(job)

    async def note_storage(self, storage: str) -> None:
        """Write the row if nothing stands there."""
        await self._database.execute(_NOTE_STORAGE, storage)


async def read_standing(transaction: Transaction) -> Standing:
    """Read the row within a transaction that will change it."""
    return _standing(await transaction.find(f"{_GET} FOR UPDATE"))


def _standing(row: Any) -> Standing:
    if row is None:
        raise Unavailable("the database lacks a row that was made with it")
    return Standing(*row)
