"""A cache of connections in front of asyncpg's pool, which costs less for each use.

The pool starts two tasks whenever it lends a connection, which costs more than a query does. Here a
connection that comes back as it went is ready for the next one who needs it. One whose user was
interrupted goes back to the pool, which clears or replaces it; so does each from time to time, so
that the pool can replace those that have served for long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from portside import __version__
from portside.stores.metadata.postgres.transactions import Connection

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

APPLICATION = "portside"
"""With what the names of connections begin in PostgreSQL; the version follows."""

CACHED = 60.0
"""Seconds after which the pool gets a connection back."""

# What was acknowledged is kept; a server that waits for its replicas too goes on to do so. A node
# that is cut off without a word loses its locks within a minute. Poolers refuse settings that come
# with the connection, so these follow it.
_SET_UP = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off';
    SELECT set_config('jit', 'off', false);
    SELECT set_config(name, '10', false) FROM pg_settings
    WHERE name IN ('tcp_keepalives_idle', 'tcp_keepalives_interval') AND setting::int > 10;
    SELECT set_config(name, '3', false) FROM pg_settings
    WHERE name = 'tcp_keepalives_count' AND setting::int > 3;
"""


def create_pool(
    url: str, *, connections: int, connect_timeout: float, statement_timeout: float
) -> Pool:
    """Create a pool that is not connected yet; time-outs are in seconds."""
    return asyncpg.create_pool(
        url,
        min_size=0,
        max_size=connections,
        timeout=connect_timeout,
        command_timeout=statement_timeout,
        init=_set_up,
        reset=_leave_as_it_is,
        server_settings={"application_name": f"{APPLICATION} {__version__}"},
    )


async def _set_up(connection: Any) -> None:
    """Make a commit return when it is on the disk, at least, and set the rest of a session."""
    await connection.execute(_SET_UP)


async def _leave_as_it_is(connection: Any) -> None:
    """Save the query that would clear the connection: all who take a lock release it."""


class Taken(NamedTuple):
    """A connection, and the time since which the pool has not had it."""

    connection: Connection
    since: float


class ConnectionCache:
    """The connections of a pool, all of which may be in use at once; `patience` is in seconds.

    It belongs to an event loop, as its pool does. `elapsed` returns seconds. So many connections
    are `in_use`, and so many are `waiting` for one.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        connections: int,
        patience: float,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self._patience = patience
        self._elapsed = elapsed
        self._free = asyncio.Semaphore(connections)
        self._cached: list[Taken] = []
        self.in_use = 0
        self.waiting = 0
        self._is_closing = False

    async def take(self) -> Taken:
        """Return a connection; raises TimeoutError, and what asyncpg raises in connecting."""
        if self._cached and not self._free.locked():
            # Nothing is waited for, so no clock is needed.
            return await self._take()
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                return await self._take()
        finally:
            self.waiting -= 1

    async def _take(self) -> Taken:
        await self._free.acquire()
        self.in_use += 1
        try:
            while self._cached:
                taken = self._cached.pop()
                if _is_usable(taken.connection):
                    return taken
                await self.pool.release(taken.connection)
            # The pool has one: it never lends more than there are free here.
            return Taken(await self.pool.acquire(), self._elapsed())
        except BaseException:
            self._let_go()
            raise

    async def give_back(self, taken: Taken, *, was_interrupted: bool) -> None:
        """Take a connection back, even if the one who had it is cancelled at the same time."""
        is_due = self._is_closing or self._elapsed() - taken.since > CACHED
        if was_interrupted or is_due or not _is_usable(taken.connection):
            await asyncio.shield(self._release(taken))
        else:
            self._cached.append(taken)
            self._let_go()

    async def _release(self, taken: Taken) -> None:
        try:
            await self.pool.release(taken.connection)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self.in_use -= 1
        self._free.release()

    async def close(self) -> None:
        """Close all connections, once those in use have come back."""
        self._is_closing = True
        while self._cached:
            await self.pool.release(self._cached.pop().connection)
        await self.pool.close()


def _is_usable(connection: Connection) -> bool:
    """Whether a connection can be used as it is; the pool itself takes back those cut off."""
    try:
        return not (connection.is_closed() or connection.is_in_transaction())
    except asyncpg.InterfaceError:
        return False
