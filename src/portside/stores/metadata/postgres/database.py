"""The connections of one process to PostgreSQL: statements, and transactions under locks.

Transactions are READ COMMITTED: each statement sees what was committed before it began. What must
not change between two statements is locked explicitly, and always in this order, so that no two
transactions wait for one another:

1. the advisory lock of one blob's digest (no transaction takes two),
2. the row of access control, or the row of one repository (again never two of a kind),
3. what refers to them.

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
from portside.spec.errors import QuotaExceeded, StorageFull, Unavailable
from portside.stores.background import BackgroundTasks
from portside.stores.interfaces import Remove, Undo
from portside.stores.metadata.blobs import is_unknown
from portside.stores.metadata.engine import PROBE, Job, Load, Queries, Result, Transaction
from portside.stores.metadata.postgres.connection_cache import (
    APPLICATION,
    ConnectionCache,
    create_pool,
)
from portside.stores.metadata.postgres.faults import (
    FAILURES,
    LOST,
    RETRIED,
    refused,
    translated,
)
from portside.stores.metadata.postgres.limiter import BytesLimiter
from portside.stores.metadata.postgres.migrations import PATIENCE, migrate, read_version
from portside.stores.metadata.postgres.transactions import (
    CommitFirst,
    Connection,
    PostgresTransaction,
    begun,
    changed_rows,
    lock_key,
    unlock_all,
)
from portside.stores.metadata.schema.tables import Table
from portside.stores.metadata.schema.versions import NEWEST, require_version

log = logging.getLogger(__name__)

LEASE = 60
"""Seconds that a removal may take. Its node holds a lock for as long; the lease is for a node that
loses its connection or ends: nobody commits the same blob before that time is over."""

HOLDING = 300.0
"""Seconds that a check waits for the lock of a blob: a large one may be placed under it."""

PAUSE = (0.02, 0.1)
"""Seconds, the least and the most, before a transaction that was broken off is run again."""

PREFETCHED = 16
"""Rows that a stream fetches at once: each can have some megabytes."""

_PAIR = 0x706F7274
"""The first half of the keys of all locks of two numbers."""

_LOCK_BLOB = "SELECT pg_advisory_lock($1)"
_LOCK_SCHEMA = f"SELECT pg_advisory_lock({_PAIR}, 2)"
_TRY_LOCK_SCHEMA = f"SELECT pg_try_advisory_lock({_PAIR}, 2)"
_TRY_CLAIM = f"SELECT pg_try_advisory_lock({_PAIR}, 3)"
_ANNOUNCE_REMOVAL = f"""
    INSERT INTO removals (digest, until)
    VALUES ($1, clock_timestamp() + interval '{LEASE} seconds')
    ON CONFLICT (digest) DO UPDATE SET until = excluded.until
"""  # noqa: S608  # put together of constants
_END_REMOVAL = "DELETE FROM removals WHERE digest = $1"
# Held from before the first number is assigned until after the commit.
_WRITERS = """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = CAST(CAST($1 AS TEXT) AS regclass)
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND mode = 'RowExclusiveLock' AND granted
"""
_TIME = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_CLIENTS = """
    SELECT DISTINCT application_name FROM pg_stat_activity
    WHERE datname = current_database() AND starts_with(application_name, $1)
"""
_TRY = "DELETE FROM uploads WHERE id IS NULL"


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a process uses PostgreSQL; times are in seconds.

    `connect_timeout` is how long a request waits for a connection, `statement_timeout` for the
    answer to a statement, and for the locks that it needs. `removal_timeout` is how long the blob
    store may take to remove bytes, with all attempts.
    """

    url: str
    connections: int = 10
    connect_timeout: float = 5.0
    statement_timeout: float = 30.0
    removal_timeout: float = 40.0


class _NoCounter:
    """The ChangeCounter of processes that share nothing but the database: it never changes."""

    value = b""

    def advance(self) -> None:
        """Do nothing: a process reads the row again when its time is over."""


class PostgresDatabase:
    """The Database over PostgreSQL, as one process uses it.

    It belongs to the event loop in which it is first used. `clock` returns microseconds since 1970.
    """

    freshness = 0.2
    change_counter = _NoCounter()

    def __init__(self, terms: Terms, *, clock: Callable[[], int]) -> None:
        self.terms = terms
        self.clock = clock
        self._cache: ConnectionCache | None = None
        self._limiter: BytesLimiter | None = None
        self._retries = 0
        self._background = BackgroundTasks()

    def load(self) -> Load:
        """Return what the connections are doing."""
        cache, most = self._cache, self.terms.connections
        if cache is None:
            return Load(self._retries, connections=most)
        return Load(self._retries, cache.in_use, most, cache.waiting)

    def can_store(self, text: str) -> bool:
        """Whether a text has no NUL and can be written as UTF-8."""
        try:
            return b"\0" not in text.encode("utf-8")
        except UnicodeEncodeError:
            return False

    # How the schema comes to be.

    async def is_made(self) -> bool:
        """Whether a step of the schema was ever taken."""
        async with self.connected() as connection:
            return await read_version(connection) > 0

    async def migrate(self) -> int:
        """Take the steps that the schema lacks, one node at a time; return how many.

        Raises SchemaTooNew.
        """
        async with self._schema_locked() as connection:
            with translated():
                taken = await migrate(connection)
        await self.require_newest()
        return taken

    async def require_newest(self) -> None:
        """Raise SchemaTooNew or SchemaTooOld unless the schema is the newest one."""
        async with self.connected() as connection:
            current = await read_version(connection)
        if current < NEWEST:
            # Another node may have taken some of the steps, and be about to take the others.
            async with self._schema_locked() as connection:
                current = await read_version(connection)
        require_version("the database", current, remedy="portside migrate")

    @asynccontextmanager
    async def _schema_locked(self) -> AsyncIterator[Connection]:
        """Wait for as long as another node works on the schema, and keep others from it."""
        async with self.connected() as connection:
            try:
                if not await connection.fetchval(_TRY_LOCK_SCHEMA):
                    log.warning("another node upgrades the schema of the database; waiting for it")
                    await connection.execute(_LOCK_SCHEMA, timeout=PATIENCE)
                yield connection
            finally:
                await unlock_all(connection)

    # Reading.

    async def _opened(self) -> ConnectionCache:
        if self._cache is None:
            terms = self.terms
            pool = create_pool(
                terms.url,
                connections=terms.connections,
                connect_timeout=terms.connect_timeout,
                statement_timeout=terms.statement_timeout,
            )
            self._cache = ConnectionCache(
                pool, connections=terms.connections, patience=terms.connect_timeout
            )
        # All who come while it is being made wait for the same pool.
        await self._cache.pool
        return self._cache

    @property
    def limiter(self) -> BytesLimiter:
        """How many connections wait at once for the blob store."""
        if self._limiter is None:
            terms = self.terms
            self._limiter = BytesLimiter(
                connections=terms.connections, patience=terms.statement_timeout
            )
        return self._limiter

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Take a connection for the length of a block."""
        with translated():
            cache = await self._opened()
            try:
                taken = await cache.take()
            except ValueError as error:
                raise Unavailable(f"invalid database URL: {error}") from error
            except (OSError, asyncpg.PostgresError) as error:
                raise refused(self.terms.url, error) from error
            try:
                yield taken.connection
            except BaseException:
                await cache.give_back(taken, was_interrupted=True)
                raise
            await cache.give_back(taken, was_interrupted=False)

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        """Return the first row, or None."""
        return await self._read(lambda connection: connection.fetchrow(sql, *parameters))

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        """Return all rows."""
        return await self._read(lambda connection: connection.fetch(sql, *parameters))

    async def _read(self, ask: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Ask once more if the connection was one that the server had given up."""
        try:
            async with self.connected() as connection:
                return await ask(connection)
        except Unavailable as error:
            if not isinstance(error.__cause__, LOST):
                raise
        self._retries += 1
        async with self.connected() as connection:
            return await ask(connection)

    async def writers_of(self, table: Table) -> frozenset[str]:
        """Read who has locked the table as those who write to it do."""
        return frozenset(name for (name,) in await self.find_all(_WRITERS, table.name))

    @asynccontextmanager
    async def stream(self, sql: str, *parameters: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """Read rows by a cursor."""
        async with self.connected() as connection, connection.transaction(readonly=True):
            yield aiter(connection.cursor(sql, *parameters, prefetch=PREFETCHED))

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Queries]:
        """Read in a transaction of its own."""
        async with (
            self.connected() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield _Reader(connection)

    @asynccontextmanager
    async def snapshot_apart(self) -> AsyncIterator[Queries]:
        """Read in a transaction of its own, as a snapshot always does."""
        async with self.snapshot() as queries:
            yield queries

    async def damage(self) -> AsyncIterator[str]:
        """Report nothing: PostgreSQL checks its keys itself."""
        nothing: tuple[str, ...] = ()
        for problem in nothing:
            yield problem

    # Locks that other nodes see.

    @asynccontextmanager
    async def hold_blob(self, digest: Digest) -> AsyncIterator[None]:
        """Take the advisory lock of the blob."""
        async with self.connected() as connection:
            try:
                await connection.execute(_LOCK_BLOB, lock_key(digest), timeout=HOLDING)
                yield
            finally:
                await unlock_all(connection)

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[bool]:
        """Take an advisory lock, on a connection beside those that are at work."""
        beside = PostgresDatabase(self.terms, clock=self.clock)
        try:
            async with beside.connected() as connection:
                is_free: bool = await connection.fetchval(_TRY_CLAIM)
                yield is_free
        finally:
            await beside.disconnect()

    # Writing.

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run one statement, which PostgreSQL makes a transaction of its own."""

        async def run() -> int:
            async with self.connected() as connection:
                return changed_rows(await connection.execute(sql, *parameters))

        return await self._to_the_end(run())

    async def write(self, job: Job[Result], *, blob: Digest | None = None) -> Result:
        """Run a job in a transaction, under the lock of a blob if there is one.

        A job that is broken off because of others is run once more, from its beginning. It is
        finished even if nobody waits for it any more: a thread may be at work within it.
        """
        return await self._to_the_end(self._write(job, blob, []))

    async def write_placing(self, job: Job[Result], *, blob: Digest) -> Result:
        """Run a job as `write` does, when the limiter lets it."""
        undos: list[Undo] = []

        async def run() -> Result:
            return await self._write(job, blob, undos)

        try:
            try:
                return await self._limited(run)
            except CommitFirst as needed:
                await self.execute(needed.sql, *needed.parameters)
                return await self._limited(run)
        except (StorageFull, QuotaExceeded):
            # The bytes take the room of others, unless somebody came to need them since.
            for undo in undos:
                await self.write_removing(is_unknown(blob), blob=blob, remove=undo)
            raise

    async def _write(self, job: Job[Result], blob: Digest | None, undos: list[Undo]) -> Result:
        async with self.connected() as connection:
            return await self._twice(connection, job, blob, undos)

    async def write_removing(self, job: Job[bool], *, blob: Digest, remove: Remove) -> bool:
        """Run a job as `write` does, and remove the bytes in a thread.

        Nobody else can commit the blob from before the transaction until after that, even if the
        connection is lost, and the locks with it. A removal that failed may still happen: nobody
        can commit the blob for the rest of its lease.
        """
        until = 0.0

        async def announce(transaction: Transaction) -> bool:
            nonlocal until
            is_last = await job(transaction)
            if is_last:
                until = time.monotonic() + LEASE
                await transaction.execute(_ANNOUNCE_REMOVAL, str(blob))
            return is_last

        async def run() -> bool:
            async with self.connected() as connection:
                try:
                    await connection.execute(_LOCK_BLOB, lock_key(blob))
                    is_last = await self._twice(connection, announce)
                    latest = until - self.terms.removal_timeout
                    if is_last and await self.limiter.run(partial(_removed, remove, latest)):
                        await self._end_removal(connection, blob)
                finally:
                    await unlock_all(connection)
                return is_last

        return await self._limited(run)

    async def _end_removal(self, connection: Connection, digest: Digest) -> None:
        """Allow others to commit the blob again; if that cannot be written now, they wait."""
        try:
            await connection.execute(_END_REMOVAL, str(digest))
        except FAILURES:
            try:
                async with self.connected() as other:
                    await other.execute(_END_REMOVAL, str(digest))
            except Unavailable as error:
                log.warning("%s; %s can be pushed again in %d seconds", error, digest, LEASE)

    async def _twice(
        self,
        connection: Connection,
        job: Job[Result],
        blob: Digest | None = None,
        undos: list[Undo] | None = None,
    ) -> Result:
        collected: list[Undo] = [] if undos is None else undos
        try:
            return await self._once(connection, job, blob, collected)
        except RETRIED as error:
            log.info("a transaction is run again: %s", error)
        self._retries += 1
        # The other one goes first this time.
        await asyncio.sleep(random.uniform(*PAUSE))  # noqa: S311  # no secret
        return await self._once(connection, job, blob, collected)

    async def _once(
        self, connection: Connection, job: Job[Result], blob: Digest | None, undos: list[Undo]
    ) -> Result:
        run = self.limiter.run
        transaction = PostgresTransaction(connection, self.clock(), run, undos)
        async with begun(connection, blob):
            result = await job(transaction)
        for action in transaction.finishing:
            action()
        return result

    async def _limited(self, work: Callable[[], Awaitable[Result]]) -> Result:
        limiter = self.limiter
        await limiter.acquire()

        async def run() -> Result:
            try:
                return await work()
            finally:
                limiter.release()

        return await self._to_the_end(run())

    async def _to_the_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        task = self._background.start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # Nobody will ask what became of it.
            task.add_done_callback(_log_failure)
            raise

    async def probe_reads(self) -> None:
        """Read, which a standby can do as well."""
        await self.find(PROBE)

    async def probe(self) -> None:
        """Run a statement that writes and changes nothing: a server that only reads refuses it."""
        await self.execute(_TRY)

    async def server_time(self) -> int | None:
        """Ask the server."""
        row = await self.find(_TIME)
        return row[0] if row is not None else None

    async def client_versions(self) -> frozenset[str]:
        """Ask for the names that processes connect with."""
        rows = await self.find_all(_CLIENTS, APPLICATION)
        return frozenset(row[0].removeprefix(APPLICATION).strip() for row in rows)

    async def shrink(self) -> int:
        """Return 0: the server's autovacuum does what can be done while others write."""
        return 0

    async def disconnect(self) -> None:
        """Finish the writes that were asked for, and close all connections."""
        await self._background.wait()
        cache, self._cache = self._cache, None
        if cache is not None:
            with suppress(*FAILURES):
                await asyncio.wait_for(cache.close(), self.terms.connect_timeout)
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.close()

    def close(self) -> None:
        """Return: everything belongs to an event loop."""


class _Reader:
    """The Queries of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        return await self._connection.fetchrow(sql, *parameters)

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        return await self._connection.fetch(sql, *parameters)


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("a write that nobody waited for failed: %s", error)


def _removed(remove: Callable[[], None], latest: float) -> bool:
    """Remove bytes, which are gone as far as any client can tell; return whether that succeeded.

    A removal that begins after `latest` could end after its lease, and remove what was pushed
    again: the bytes are left.
    """
    try:
        if time.monotonic() > latest:
            raise Unavailable("the bytes of a blob were not removed in time")
        remove()
    except Exception as error:  # noqa: BLE001  # the row is gone, whatever became of the bytes
        log.warning("%s; run `portside check` to find what was left", error)
        return False
    return True
