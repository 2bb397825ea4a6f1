"""The connections to PostgreSQL of one process: statements, and transactions under locks.

Transactions are READ COMMITTED: each statement sees what was committed before it began. What must
not change between two statements is locked explicitly, and always in this order, so that no two
wait for one another:

1. the advisory lock of one blob's digest (no transaction takes two),
2. the row of access control, or the row of one repository (again never two of a kind),
3. what hangs from them.

Session locks need a connection that stays the same from one transaction to the next: a pooler
between Portside and PostgreSQL must pool sessions, not transactions.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import asyncpg
import msgspec

from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.stores.background import BackgroundTasks
from portside.stores.metadata.postgres.faults import (
    FAILURES,
    LOST,
    RETRIED,
    translated,
    unreachable,
)
from portside.stores.metadata.postgres.lending import Lender
from portside.stores.metadata.postgres.sessions import leave_as_it_is, set_up
from portside.stores.metadata.postgres.transactions import (
    Connection,
    Job,
    Result,
    Transaction,
    begun,
    let_go,
    lock_key,
)
from portside.stores.metadata.postgres.turns import Turns

log = logging.getLogger(__name__)

LEASE = 60
"""Seconds that a removal may take. Its node holds a lock meanwhile; this is for one that loses its
connection or ends: nobody commits the same blob before that time is over."""

REMOVING = 40
"""Seconds that an object store may take to remove bytes, with all attempts."""

QUIET = 300.0
"""Seconds that a check waits for others to be done with a blob: a large one is placed meanwhile."""

PAUSE = (0.02, 0.1)
"""Seconds, the least and the most, before a transaction that was broken off is run again."""

_HOLD_BLOB = "SELECT pg_advisory_lock($1)"
_ANNOUNCE_REMOVAL = f"""
    INSERT INTO removals (digest, until)
    VALUES ($1, clock_timestamp() + interval '{LEASE} seconds')
    ON CONFLICT (digest) DO UPDATE SET until = excluded.until
"""  # noqa: S608  # put together of constants
_END_REMOVAL = "DELETE FROM removals WHERE digest = $1"


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a process uses PostgreSQL; times are in seconds.

    `connect_timeout` is how long a request waits for a connection, `statement_timeout` for the
    answer to a statement, and for the locks that it needs.
    """

    url: str
    connections: int = 10
    connect_timeout: float = 5.0
    statement_timeout: float = 30.0


class Database:
    """One process's access to PostgreSQL; nothing is connected before it is needed.

    It belongs to the event loop in which it is first used. `clock` gives microseconds since 1970.
    Every method raises Unavailable and StorageFull.
    """

    def __init__(self, terms: Terms, *, clock: Callable[[], int]) -> None:
        self.terms = terms
        self.clock = clock
        self._lender: Lender | None = None
        self._turns: Turns | None = None
        self._background = BackgroundTasks()

    async def _opened(self) -> Lender:
        if self._lender is None:
            terms = self.terms
            pool = asyncpg.create_pool(
                terms.url,
                min_size=0,
                max_size=terms.connections,
                timeout=terms.connect_timeout,
                command_timeout=terms.statement_timeout,
                init=set_up,
                reset=leave_as_it_is,
                server_settings={"application_name": "portside"},
            )
            self._lender = Lender(
                pool, connections=terms.connections, patience=terms.connect_timeout
            )
        # Whoever comes while it is being made waits for the same pool.
        await self._lender.pool
        return self._lender

    @property
    def turns(self) -> Turns:
        """Who may keep a connection while bytes are placed or removed."""
        if self._turns is None:
            terms = self.terms
            self._turns = Turns(connections=terms.connections, patience=terms.statement_timeout)
        return self._turns

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Lend a connection for the length of a block."""
        with translated():
            lender = await self._opened()
            try:
                loan = await lender.lend()
            except ValueError as error:
                raise Unavailable(f"the address of the database is none: {error}") from error
            except OSError as error:
                raise unreachable(self.terms.url, error) from error
            try:
                yield loan.connection
            except BaseException:
                await lender.take_back(loan, was_interrupted=True)
                raise
            await lender.take_back(loan, was_interrupted=False)

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        """Read one row, or None."""
        return await self._read(lambda connection: connection.fetchrow(sql, *parameters))

    async def list(self, sql: str, *parameters: Any) -> list[Any]:
        """Read all rows."""
        return await self._read(lambda connection: connection.fetch(sql, *parameters))

    async def _read(self, ask: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Ask once more if the connection was one that the server had given up."""
        try:
            async with self.connected() as connection:
                return await ask(connection)
        except Unavailable as error:
            if not isinstance(error.__cause__, LOST):
                raise
        async with self.connected() as connection:
            return await ask(connection)

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run one statement that is a transaction of its own; gives the number of rows."""

        async def run() -> int:
            async with self.connected() as connection:
                status = await connection.execute(sql, *parameters)
                return int(status.rpartition(" ")[2])

        return await self._to_the_end(run())

    async def write(self, job: Job[Result], *, blob: Digest | None = None) -> Result:
        """Run a job in a transaction; returns when it is committed, and raises what it raises.

        Everybody else is kept from the row and the bytes of `blob` until then. A job that is broken
        off because of others is run once more, from its beginning. It is finished even if nobody
        waits for it any more: a thread may be at work within it.
        """
        return await self._to_the_end(self._write(job, blob))

    async def write_with_bytes(self, job: Job[Result], *, blob: Digest) -> Result:
        """Run a job as `write` does, in which bytes are placed, when its turn has come."""
        return await self._in_turn(lambda: self._write(job, blob))

    async def _write(self, job: Job[Result], blob: Digest | None) -> Result:
        async with self.connected() as connection:
            return await self._twice(connection, job, blob)

    async def remove_after(
        self, digest: Digest, job: Job[bool], remove: Callable[[], None]
    ) -> bool:
        """Run a job as `write` does, and if it gives True, remove the bytes of a blob in a thread.

        Nobody else can commit the digest from before the transaction until after that, even if the
        connection is lost meanwhile, and the locks with it. If the removal fails, it may still come
        to pass, and nobody can commit the digest for the rest of its lease.
        """
        until = 0.0

        async def announce(transaction: Transaction) -> bool:
            nonlocal until
            is_last = await job(transaction)
            if is_last:
                until = time.monotonic() + LEASE
                await transaction.execute(_ANNOUNCE_REMOVAL, str(digest))
            return is_last

        async def run() -> bool:
            async with self.connected() as connection:
                try:
                    await connection.execute(_HOLD_BLOB, lock_key(digest))
                    is_last = await self._twice(connection, announce)
                    if is_last and await self.turns.run(partial(_finish, remove, until)):
                        await self._end_removal(connection, digest)
                finally:
                    await let_go(connection)
                return is_last

        return await self._in_turn(run)

    async def _end_removal(self, connection: Connection, digest: Digest) -> None:
        """Let others commit the blob again; if that cannot be said now, they wait for a while."""
        try:
            await connection.execute(_END_REMOVAL, str(digest))
        except FAILURES:
            try:
                async with self.connected() as other:
                    await other.execute(_END_REMOVAL, str(digest))
            except Unavailable as error:
                log.warning("%s; %s can be pushed again in %d seconds", error, digest, LEASE)

    async def _twice(
        self, connection: Connection, job: Job[Result], blob: Digest | None = None
    ) -> Result:
        try:
            return await self._once(connection, job, blob)
        except RETRIED as error:
            log.info("a transaction is run again: %s", error)
        # The other one goes first this time.
        await asyncio.sleep(random.uniform(*PAUSE))  # noqa: S311  # no secret
        return await self._once(connection, job, blob)

    async def _once(self, connection: Connection, job: Job[Result], blob: Digest | None) -> Result:
        async with begun(connection, blob):
            return await job(Transaction(connection, self.clock()))

    async def _in_turn(self, work: Callable[[], Awaitable[Result]]) -> Result:
        turns = self.turns
        await turns.acquire()

        async def run() -> Result:
            try:
                return await work()
            finally:
                turns.release()

        return await self._to_the_end(run())

    async def _to_the_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        task = self._background.start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # Nobody will ask what became of it.
            task.add_done_callback(_look_at)
            raise

    @asynccontextmanager
    async def quiet(self, digest: Digest) -> AsyncIterator[None]:
        """Keep all waiting who would change a blob, so that its row and bytes belong together."""
        async with self.connected() as connection:
            try:
                await connection.execute(_HOLD_BLOB, lock_key(digest), timeout=QUIET)
                yield
            finally:
                await let_go(connection)

    async def close(self) -> None:
        """Finish the writes that were asked for, and hang up."""
        await self._background.wait()
        lender, self._lender = self._lender, None
        if lender is not None:
            with suppress(*FAILURES):
                await asyncio.wait_for(lender.close(), self.terms.connect_timeout)
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.close()


def _look_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("a write that nobody waited for failed: %s", error)


def _finish(remove: Callable[[], None], until: float) -> bool:
    """Remove bytes, which are gone already as far as any client can tell; tells whether that ended.

    What begins too late could end behind the lease, and take what was pushed again: it is left.
    """
    try:
        if time.monotonic() > until - REMOVING:
            raise Unavailable("the bytes of a blob were not removed in time")
        remove()
    except Exception as error:  # noqa: BLE001  # the row is gone, whatever became of the bytes
        log.warning("%s; `portside check` will list what was left behind", error)
        return False
    return True
