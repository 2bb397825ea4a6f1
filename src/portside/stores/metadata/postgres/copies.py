"""A registry's rows in PostgreSQL, read for a copy of it, and written into one.

A transaction that writes into a copy says so to the triggers that keep everybody else out, and
holds the row that says of which registry it is a copy until it has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.stores.copying import BLOBS, Key, Row, Table
from portside.stores.interfaces import Place, Remove
from portside.stores.metadata.judging import being_copied, not_empty, not_its_copy
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.postgres.standing import LOCK, read_standing
from portside.stores.metadata.postgres.texts import is_storable
from portside.stores.metadata.postgres.transactions import Transaction
from portside.stores.metadata.tables import (
    ACCESS,
    DROP_BLOB,
    IS_HELD,
    NOTE_ACCESS,
    SQL,
    read_on,
    texts_of,
)

CLAIM = (0x706F7274, 3)
"""Key of the lock of a copy; its first half is the one that all of Portside's pairs share."""

_CLAIM = "SELECT pg_try_advisory_lock($1, $2)"
_COPY_OF = "SELECT copy_of FROM registry FOR SHARE"
_SAY_SO = "SELECT set_config('portside.copying', 'on', TRUE)"
_BEGIN = "UPDATE registry SET copy_of = $1, read_only = TRUE"
_END = "UPDATE registry SET copy_of = NULL, read_only = FALSE"
_FOLLOW = "UPDATE registry SET copy_of = $1 WHERE read_only"
_REMOVING = """
    WITH over AS (DELETE FROM removals WHERE digest = $1 AND until <= clock_timestamp())
    SELECT 1 FROM removals WHERE digest = $1 AND until > clock_timestamp()
"""


class PostgresCopies:
    """The CopyableMetadata over PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_rows(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """Read on behind the key."""

        async def ask(sql: str, parameters: Sequence[Any]) -> list[Row]:
            return list(map(tuple, await self._database.list(sql, *parameters)))

        return await read_on(table, after, limit, ask)

    async def read_whole(self, table: Table, keys: Sequence[Key]) -> list[Row]:
        """Read row by row."""
        found = [await self._database.find(SQL[table.name].whole, *key) for key in keys]
        return [tuple(row) for row in found if row is not None]

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[None]:
        """Take an advisory lock, on a connection beside those that are at work."""
        beside = Database(self._database.terms, clock=self._database.clock)
        try:
            async with beside.connected() as connection:
                if not await connection.fetchval(_CLAIM, *CLAIM):
                    raise being_copied()
                yield
        finally:
            await beside.close()

    async def begin_copy(self, source: str) -> None:
        """Keep writers waiting, look, and write."""

        async def job(transaction: Transaction) -> None:
            await transaction.find(LOCK)
            if (await read_standing(transaction)).copy_of == source:
                return
            if await transaction.find(IS_HELD) is not None:
                raise not_empty()
            await transaction.execute(_BEGIN, source)

        await self._database.write(job)

    async def put_rows(self, source: str, table: Table, rows: Sequence[Row]) -> list[Key]:
        """Write what can be stored, all rows in one go."""
        fitting = [row for row in rows if all(map(is_storable, texts_of(row)))]

        async def job(transaction: Transaction) -> None:
            await _enter(transaction, source)
            await transaction.execute_each(SQL[table.name].put, fitting)
            await _note(transaction, table)

        await self._database.write(job)
        kept = set(map(table.key_of, fitting))
        return [key for key in map(table.key_of, rows) if key not in kept]

    async def drop_rows(self, source: str, table: Table, keys: Sequence[Key]) -> None:
        """Drop all rows in one go."""

        async def job(transaction: Transaction) -> None:
            await _enter(transaction, source)
            await transaction.execute_each(SQL[table.name].drop, keys)
            await _note(transaction, table)

        await self._database.write(job)

    async def put_blob(self, source: str, row: Row, *, place: Place) -> None:
        """Lock the digest, write the row, place the bytes, and commit."""
        digest = Digest(BLOBS.key_of(row)[0])

        async def job(transaction: Transaction) -> None:
            await _enter(transaction, source)
            if await transaction.find(_REMOVING, str(digest)) is not None:
                raise Unavailable(f"{digest} is being removed by a process that was cut off")
            await transaction.execute(SQL["blobs"].put, *row)
            await self._database.turns.run(place)

        await self._database.write_with_bytes(job, blob=digest)

    async def drop_blob(self, source: str, digest: Digest, *, remove: Remove) -> None:
        """Drop the row; the bytes go after the commit."""

        async def job(transaction: Transaction) -> bool:
            await _enter(transaction, source)
            return bool(await transaction.execute(DROP_BLOB, str(digest), str(digest)))

        await self._database.remove_after(digest, job, remove)

    async def end_copy(self, source: str) -> None:
        """Write the row of the switch."""

        async def job(transaction: Transaction) -> None:
            if (await read_standing(transaction)).copy_of != source:
                raise not_its_copy()
            await transaction.execute(_END)

        await self._database.write(job)

    async def follow(self, identity: str) -> None:
        """Write the row of the switch."""

        async def job(transaction: Transaction) -> None:
            await transaction.execute(_FOLLOW, identity)

        await self._database.write(job)


async def _enter(transaction: Transaction, source: str) -> None:
    """Let a transaction change a copy; raises NotItsCopy."""
    row = await transaction.find(_COPY_OF)
    if row is None or row[0] != source:
        raise not_its_copy()
    await transaction.find(_SAY_SO)


async def _note(transaction: Transaction, table: Table) -> None:
    if table.name in ACCESS:
        await transaction.execute(NOTE_ACCESS)
