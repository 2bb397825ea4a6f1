"""Lending connections: those of asyncpg's pool, at less than its price.

The pool starts two tasks for each loan, which costs more than a query does. Here, a connection
that comes back as it went is at hand for the next who needs one. One whose user was interrupted
goes back to the pool, which clears or replaces it; so does each from time to time, for the pool to
replace those that have served for long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from portside.stores.metadata.postgres.transactions import Connection

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

AT_HAND = 60.0
"""Seconds after which the pool gets a connection back."""


class Loan(NamedTuple):
    """A connection, and the time from which on it is not with the pool."""

    connection: Connection
    since: float


class Lender:
    """Lends the connections of a pool, all of which may be lent at once; `patience` is in seconds.

    It belongs to an event loop, as its pool does. `elapsed` gives seconds.
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
        self._at_hand: list[Loan] = []
        self._is_closing = False

    async def lend(self) -> Loan:
        """Give a connection; raises TimeoutError, and what asyncpg raises if it cannot connect."""
        if self._at_hand and not self._free.locked():
            # Nothing is waited for, so that no clock is needed.
            return await self._lend()
        async with asyncio.timeout(self._patience):
            return await self._lend()

    async def _lend(self) -> Loan:
        await self._free.acquire()
        try:
            while self._at_hand:
                loan = self._at_hand.pop()
                if _is_well(loan.connection):
                    return loan
                await self.pool.release(loan.connection)
            # The pool has one: it never lends more than there are free here.
            return Loan(await self.pool.acquire(), self._elapsed())
        except BaseException:
            self._free.release()
            raise

    async def take_back(self, loan: Loan, *, was_interrupted: bool) -> None:
        """Take a connection back, even if the one who had it is cancelled meanwhile."""
        is_due = self._is_closing or self._elapsed() - loan.since > AT_HAND
        if was_interrupted or is_due or not _is_well(loan.connection):
            await asyncio.shield(self._return(loan))
        else:
            self._at_hand.append(loan)
            self._free.release()

    async def _return(self, loan: Loan) -> None:
        try:
            await self.pool.release(loan.connection)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Hang up, once all that is lent has come back."""
        self._is_closing = True
        while self._at_hand:
            await self.pool.release(self._at_hand.pop().connection)
        await self.pool.close()


def _is_well(connection: Connection) -> bool:
    """Tell whether it can be used as it is; the pool itself takes those back that were cut off."""
    try:
        return not (connection.is_closed() or connection.is_in_transaction())
    except asyncpg.InterfaceError:
        return False
