"""A registry's rows in SQLite, read for a copy of it, and written into one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from portside.spec.digests import Digest
from portside.stores.copying import Key, Row, Table
from portside.stores.interfaces import Place, Remove
from portside.stores.metadata.database import Database
from portside.stores.metadata.judging import being_copied, not_empty, not_its_copy
from portside.stores.metadata.standing import read_standing
from portside.stores.metadata.tables import ACCESS, DROP_BLOB, IS_HELD, NOTE_ACCESS, SQL, read_on
from portside.stores.metadata.writer import Transaction

# The switch is lifted within a transaction, which nobody else sees, for there is one at a time.
_LIFT = "UPDATE registry SET read_only = 0"
_SET = "UPDATE registry SET read_only = 1"
_BEGIN = "UPDATE registry SET copy_of = ?, read_only = 1"
_END = "UPDATE registry SET copy_of = NULL, read_only = 0"
_FOLLOW = "UPDATE registry SET copy_of = ? WHERE read_only"


class SqliteCopies:
    """The CopyableMetadata over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_rows(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """Read on behind the key."""

        async def ask(sql: str, parameters: Sequence[Any]) -> list[Row]:
            return self._database.list(*_bound(sql, parameters))

        return await read_on(table, after, limit, ask)

    async def read_whole(self, table: Table, keys: Sequence[Key]) -> list[Row]:
        """Read row by row."""
        found = (self._database.find(*_bound(SQL[table.name].whole, key)) for key in keys)
        return [row for row in found if row is not None]

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[None]:
        """Lock the directory of the file."""
        with self._database.claimed() as is_claimed:
            if not is_claimed:
                raise being_copied()
            yield

    async def begin_copy(self, source: str) -> None:
        """Look and write in one transaction."""

        def job(transaction: Transaction) -> None:
            if read_standing(transaction).copy_of != source:
                if transaction.execute(IS_HELD).fetchone() is not None:
                    raise not_empty()
                transaction.execute(_BEGIN, (source,))

        await self._database.write(job)

    async def put_rows(self, source: str, table: Table, rows: Sequence[Row]) -> list[Key]:
        """Write row by row; SQLite holds every text."""

        def job(transaction: Transaction) -> None:
            _lift(transaction, source)
            for row in rows:
                transaction.execute(*_bound(SQL[table.name].put, row))
            self._end(transaction, table)

        await self._database.write(job)
        return []

    async def drop_rows(self, source: str, table: Table, keys: Sequence[Key]) -> None:
        """Drop row by row."""

        def job(transaction: Transaction) -> None:
            _lift(transaction, source)
            for key in keys:
                transaction.execute(*_bound(SQL[table.name].drop, key))
            self._end(transaction, table)

        await self._database.write(job)

    def _end(self, transaction: Transaction, table: Table) -> None:
        if table.name in ACCESS:
            transaction.execute(NOTE_ACCESS)
            transaction.after_commit.append(self._database.bell.ring)
        transaction.execute(_SET)

    async def put_blob(self, source: str, row: Row, *, place: Place) -> None:
        """Write the row and place the bytes in one transaction."""

        def job(transaction: Transaction) -> None:
            _lift(transaction, source)
            transaction.execute(*_bound(SQL["blobs"].put, row))
            place()
            transaction.execute(_SET)

        await self._database.write(job)

    async def drop_blob(self, source: str, digest: Digest, *, remove: Remove) -> None:
        """Drop the row; the bytes go after the commit."""

        def job(transaction: Transaction) -> None:
            _lift(transaction, source)
            if transaction.execute(*_bound(DROP_BLOB, (str(digest), str(digest)))).rowcount:
                transaction.after_commit.append(remove)
            transaction.execute(_SET)

        await self._database.write(job)

    async def end_copy(self, source: str) -> None:
        """Write the row of the switch."""

        def job(transaction: Transaction) -> None:
            _lift(transaction, source)
            transaction.execute(_END)

        await self._database.write(job)

    async def follow(self, identity: str) -> None:
        """Write the row of the switch."""

        def job(transaction: Transaction) -> None:
            transaction.execute(_FOLLOW, (identity,))

        await self._database.write(job)


def _lift(transaction: Transaction, source: str) -> None:
    """Let a transaction change a copy; it ends with setting the switch again.

    Raises NotItsCopy.
    """
    if read_standing(transaction).copy_of != source:
        raise not_its_copy()
    transaction.execute(_LIFT)


def _bound(sql: str, parameters: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """Write parameters in the order in which they stand in the statement, as SQLite wants them."""
    order = [int(number) for number in re.findall(r"\$(\d+)", sql)]
    return re.sub(r"\$\d+", "?", sql), tuple(parameters[number - 1] for number in order)
