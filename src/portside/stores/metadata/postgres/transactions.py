"""Transactions in PostgreSQL: how they begin and end, and what a job may do within one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.stores.metadata.postgres.faults import FAILURES

if TYPE_CHECKING:
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Connection = Any

Result = TypeVar("Result")

_BEGIN = "BEGIN"
_LET_GO = "SELECT pg_advisory_unlock_all()"
_BEGIN_WITH_BLOB = "BEGIN; SELECT pg_advisory_xact_lock({})"


class Transaction:
    """What a job may do: run SQL, and ask for the time, in microseconds since 1970."""

    def __init__(self, connection: Connection, now: int) -> None:
        self._connection = connection
        self.now = now

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run one statement; gives the number of rows that it changed."""
        status = await self._connection.execute(sql, *parameters)
        return int(status.rpartition(" ")[2])

    async def execute_each(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row, without a way to the server and back for each."""
        await self._connection.executemany(sql, rows)

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        """Run one statement; gives its first row, or None."""
        return await self._connection.fetchrow(sql, *parameters)

    async def list(self, sql: str, *parameters: Any) -> list[Any]:
        """Run one statement; gives its rows."""
        return await self._connection.fetch(sql, *parameters)


Job = Callable[[Transaction], Awaitable[Result]]


@asynccontextmanager
async def begun(connection: Connection, blob: Digest | None) -> AsyncIterator[None]:
    """Run a block as one transaction, with the lock of a blob from its first message on."""
    try:
        # Without parameters, both statements are one way to the server and back.
        await connection.execute(
            _BEGIN if blob is None else _BEGIN_WITH_BLOB.format(lock_key(blob))
        )
        yield
    except BaseException:
        await _roll_back(connection)
        raise
    if await connection.execute("COMMIT") != "COMMIT":
        raise Unavailable("the database undid a transaction in which a statement had failed")


async def _roll_back(connection: Connection) -> None:
    """End a transaction; a connection that cannot be told so is given up, and it with it."""
    try:
        await connection.execute("ROLLBACK")
    except FAILURES:
        with suppress(*FAILURES):
            connection.terminate()


async def let_go(connection: Connection) -> None:
    """Release session locks; a connection that cannot be told so is given up, and they with it."""
    try:
        await connection.execute(_LET_GO)
    except FAILURES:
        # One that was lost in between is not there to be given up.
        with suppress(*FAILURES):
            connection.terminate()


def lock_key(digest: Digest) -> int:
    """Give the key of the advisory lock of a blob: 64 bits, with a sign."""
    return int.from_bytes(bytes.fromhex(digest.encoded[:16]), signed=True)
