"""The one row that tells every process that access control has changed."""

from __future__ import annotations

import time
from collections.abc import Callable

from portside.stores.access import AccessState
from portside.stores.actors import Actor
from portside.stores.events import NewEvent
from portside.stores.metadata.engine import Database, Job, Noun, Result, Transaction, require_row
from portside.stores.metadata.events import record_events

_STATE = "SELECT version, closed FROM access_state"
_LOCK = "SELECT version FROM access_state FOR NO KEY UPDATE"
_CLOSE = "UPDATE access_state SET closed = TRUE"
CHANGED = "UPDATE access_state SET version = version + 1"


class AccessNoun(Noun):
    """A noun of access control: every process sees a change of it.

    What this process changes it sees at once. It sees what others change at once where the database
    has a change counter, and within `freshness` seconds everywhere; with 0 it always does, at the
    price of a query for each request. `elapsed` returns seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        freshness: float | None = None,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(database)
        self._freshness = database.freshness if freshness is None else freshness
        self._elapsed = elapsed
        self._state = AccessState(version=0, closed=True)
        self._counted = b""
        self._until = float("-inf")
        self._changes = 0

    async def access_state(self) -> AccessState:
        """Read the row if it may have changed; return the same object as long as it has not."""
        counted = self._database.change_counter.value
        now = self._elapsed()
        if counted != self._counted or now >= self._until:
            changes = self._changes
            version, closed = require_row(await self._database.find(_STATE))
            if version > self._state.version:
                # An answer that was overtaken by a newer one is not gone back to.
                self._state = AccessState(version, bool(closed))
            if changes == self._changes:
                self._counted, self._until = counted, now + self._freshness
        return self._state

    async def _change(self, job: Job[Result]) -> Result:
        """Run a job that no other change of access control can come between."""

        async def locked(transaction: Transaction) -> Result:
            await transaction.find(_LOCK)
            return await job(transaction)

        try:
            return await self._database.write(locked)
        finally:
            self._changes += 1
            self._until = float("-inf")

    async def _note_change(self, transaction: Transaction, by: Actor, *events: NewEvent) -> None:
        """Record a change, and make every process read the row again once it is committed."""
        await record_events(transaction, by, events)
        await transaction.execute(CHANGED)
        transaction.after_commit(self._database.change_counter.advance)

    @staticmethod
    async def _close_registry(transaction: Transaction) -> None:
        """Require credentials from now on."""
        await transaction.execute(_CLOSE)
