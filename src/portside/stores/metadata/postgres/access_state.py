"""The one row that tells every process that access control has changed."""

from __future__ import annotations

import time
from collections.abc import Callable

from portside.stores.access import AccessState
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.postgres.transactions import Job, Result, Transaction

FRESHNESS = 0.2
"""Seconds for which the row is believed without another look."""

_STATE = "SELECT version, closed FROM access_state"
_LOCK = "SELECT version FROM access_state FOR UPDATE"
_CHANGED = "UPDATE access_state SET version = version + 1"
_CLOSE = "UPDATE access_state SET closed = TRUE"


class PostgresAccessState:
    """The state of the AccessStore over PostgreSQL; `elapsed` gives seconds.

    What one process changes it sees at once itself, and every other process within `freshness`
    seconds; with 0 every process sees it at once, for a query per request.
    """

    def __init__(
        self,
        database: Database,
        *,
        freshness: float = FRESHNESS,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._freshness = freshness
        self._elapsed = elapsed
        self._state = AccessState(version=0, closed=True)
        self._until = float("-inf")
        self._changes = 0

    async def access_state(self) -> AccessState:
        """Read the row if it was read some time ago; the same object as long as it is the same."""
        now = self._elapsed()
        if now >= self._until:
            changes = self._changes
            row = await self._database.find(_STATE)
            if row is not None and row[0] > self._state.version:
                # An answer that was overtaken by a newer one is not gone back to.
                self._state = AccessState(row[0], row[1])
            if changes == self._changes:
                self._until = now + self._freshness
        return self._state

    async def _change(self, job: Job[Result]) -> Result:
        """Run a job that nobody else's change of access can come between."""

        async def locked(transaction: Transaction) -> Result:
            await transaction.find(_LOCK)
            return await job(transaction)

        try:
            return await self._database.write(locked)
        finally:
            self._changes += 1
            self._until = float("-inf")

    @staticmethod
    async def _note_change(transaction: Transaction) -> None:
        """Make every process look again, once the transaction holds."""
        await transaction.execute(_CHANGED)

    @staticmethod
    async def _close_registry(transaction: Transaction) -> None:
        """Ask for credentials from now on."""
        await transaction.execute(_CLOSE)
