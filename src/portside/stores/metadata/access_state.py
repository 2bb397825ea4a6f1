"""The one row that tells every process that access control has changed."""

from __future__ import annotations

import time
from collections.abc import Callable

from portside.stores.access import AccessState
from portside.stores.metadata.database import Database
from portside.stores.metadata.writer import Transaction

LONGEST_SILENCE = 1.0
"""Seconds after which the row is read again although no bell was rung, for a process can die
between its commit and the bell."""

_STATE = "SELECT version, closed FROM access_state"
_CHANGED = "UPDATE access_state SET version = version + 1"
_CLOSE = "UPDATE access_state SET closed = 1"


class SqliteAccessState:
    """The state of the AccessStore over SQLite; `elapsed` gives seconds."""

    def __init__(self, database: Database, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._elapsed = elapsed
        self._state = AccessState(version=0, closed=True)
        self._heard = b""
        self._until = 0.0

    async def access_state(self) -> AccessState:
        """Read the row if the bell was rung; without a change it is the same object each time."""
        heard = self._database.bell.value
        now = self._elapsed()
        if heard != self._heard or now >= self._until:
            version, closed = self._database.one(_STATE)
            if (version, bool(closed)) != (self._state.version, self._state.closed):
                self._state = AccessState(version, bool(closed))
            self._heard, self._until = heard, now + LONGEST_SILENCE
        return self._state

    def _note_change(self, transaction: Transaction) -> None:
        """Make every process look again, once the transaction holds."""
        transaction.execute(_CHANGED)
        transaction.after_commit.append(self._database.bell.ring)

    def _close_registry(self, transaction: Transaction) -> None:
        """Ask for credentials from now on."""
        transaction.execute(_CLOSE)
