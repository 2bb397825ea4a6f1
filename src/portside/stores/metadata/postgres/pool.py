"""The connections to PostgreSQL of one process: statements, and transactions under locks.

Transactions are READ COMMITTED: each statement sees what was committed before it began. What must
not change between two statements is locked explicitly, and always in this order, so that no two
wait for one another:

1. the advisory lock of all that remove bytes (shared; `quiet` takes it for itself),
2. the advisory lock of one blob's digest (no transaction takes two),
3. the row of access control, or the row of one repository (again never two of a kind),
4. what hangs from them.

Session locks need a connection that stays the same from one transaction to the next: a pooler
between Portside and PostgreSQL must pool sessions, not transactions.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import msgspec

from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.stores.metadata.postgres.faults import (
    FAILURES,
    LOST,
    RETRIED,
    translated,
    unreachable,
)
from portside.stores.metadata.postgres.lending import Lender
from portside.stores.metadata.postgres.transactions import (
    Connection,
    Job,
    Result,
    Transaction,
    begun,
    lock_key,
)

log = logging.getLogger(__name__)

REMOVAL = 0x706F7274
"""First half of the two-number keys of Portside's advisory locks ("port" in ASCII); those of
digests have one number, which PostgreSQL never mistakes for two."""

LEASE = 60
"""Seconds that a removal may take. Its node holds a lock meanwhile; this is for one that loses its
connection or ends: nobody commits the same blob before that time is over."""

PAUSE = (0.02, 0.1)
"""Seconds, the least and the most, before a transaction that was broken off is run again."""

_HOLD_BLOB = "SELECT pg_advisory_lock_shared($1, 1), pg_advisory_lock($2)"
_ANNOUNCE_REMOVAL = f"""
    INSERT INTO removals (digest, until)
    VALUES ($1, clock_timestamp() + interval '{LEASE} seconds')
    ON CONFLICT (digest) DO UPDATE SET until = excluded.until
"""  # noqa: S608  # put together of constants
_END_REMOVAL = "DELETE FROM removals WHERE digest = $1"
_LET_GO = "SELECT pg_advisory_unlock_all()"
_KEEP_REMOVALS_WAITING = "SELECT pg_advisory_lock($1, 1)"
_KEEP_WRITES_WAITING = """
    LOCK TABLE repositories, blobs, repository_blobs, manifests, tags, uploads IN SHARE MODE
"""

# What was acknowledged is kept; a server that is set to wait for its replicas too goes on to do so.
# A node that is cut off without a word loses its locks within a minute. Poolers refuse settings
# that come with the connection, so these come behind it.
_SET_UP = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off';
    SELECT set_config('jit', 'off', false);
    SELECT set_config(name, '10', false) FROM pg_settings
    WHERE name IN ('tcp_keepalives_idle', 'tcp_keepalives_interval') AND setting::int > 10;
    SELECT set_config(name, '3', false) FROM pg_settings
    WHERE name = 'tcp_keepalives_count' AND setting::int > 3;
"""


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
        self._running: set[asyncio.Task[Any]] = set()

    async def _opened(self) -> Lender:
        if self._lender is None:
            terms = self.terms
            pool = asyncpg.create_pool(
                terms.url,
                min_size=0,
                max_size=terms.connections,
                timeout=terms.connect_timeout,
                command_timeout=terms.statement_timeout,
                init=_set_up,
                reset=_leave_as_it_is,
                server_settings={"application_name": "portside"},
            )
            self._lender = Lender(
                pool, connections=terms.connections, patience=terms.connect_timeout
            )
        # Whoever comes while it is being made waits for the same pool.
        await self._lender.pool
        return self._lender

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

        async def run() -> Result:
            async with self.connected() as connection:
                return await self._twice(connection, job, blob)

        return await self._to_the_end(run())

    async def remove_after(
        self, digest: Digest, job: Job[bool], remove: Callable[[], None]
    ) -> bool:
        """Run a job as `write` does, and if it gives True, remove the bytes of a blob in a thread.

        Nobody else can commit the digest from before the transaction until after that, even if the
        connection is lost meanwhile, and the locks with it.
        """

        async def announce(transaction: Transaction) -> bool:
            is_last = await job(transaction)
            if is_last:
                await transaction.execute(_ANNOUNCE_REMOVAL, str(digest))
            return is_last

        async def run() -> bool:
            async with self.connected() as connection:
                try:
                    await connection.execute(_HOLD_BLOB, REMOVAL, lock_key(digest))
                    is_last = await self._twice(connection, announce)
                    if is_last:
                        await asyncio.to_thread(_finish, remove)
                        await self._end_removal(connection, digest)
                finally:
                    await let_go(connection)
                return is_last

        return await self._to_the_end(run())

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

    async def _to_the_end(self, work: Awaitable[Result]) -> Result:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # Nobody will ask what became of it.
            task.add_done_callback(_look_at)
            raise

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Keep all writers waiting, so that rows and bytes belong together."""
        async with self.connected() as connection:
            try:
                await connection.execute(_KEEP_REMOVALS_WAITING, REMOVAL)
                async with connection.transaction():
                    await connection.execute(_KEEP_WRITES_WAITING)
                    yield
            finally:
                await let_go(connection)

    async def close(self) -> None:
        """Finish the writes that were asked for, and hang up."""
        if self._running:
            await asyncio.wait(set(self._running))
        lender, self._lender = self._lender, None
        if lender is not None:
            with suppress(*FAILURES):
                await asyncio.wait_for(lender.close(), self.terms.connect_timeout)


async def let_go(connection: Connection) -> None:
    """Release session locks; a connection that cannot be told so is given up, and they with it."""
    try:
        await connection.execute(_LET_GO)
    except FAILURES:
        # One that was lost in between is not there to be given up.
        with suppress(*FAILURES):
            connection.terminate()


async def _set_up(connection: Any) -> None:
    """Let a commit return when it is on the disk, at least, and see to the rest of a session."""
    await connection.execute(_SET_UP)


async def _leave_as_it_is(connection: Any) -> None:
    """Spare the query that would clear the connection: whoever took a lock has released it."""


def _look_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("a write that nobody waited for failed: %s", error)


def _finish(function: Callable[[], None]) -> None:
    """Do what was left for after the commit; it is done already as far as any client can tell."""
    try:
        function()
    except Exception as error:  # noqa: BLE001  # the row is gone, whatever became of the bytes
        log.warning("%s; `portside check` will list what was left behind", error)
