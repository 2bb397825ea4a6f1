"""Leases: which process does a background task that one of them is enough for."""

from __future__ import annotations

from portside.stores.metadata.engine import Noun

_HELD = """
    SELECT 1 FROM leases WHERE name = $1 AND holder <> $2 AND until > $3 AND until <= $4
"""
_TAKE = """
    INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
    WHERE leases.holder = excluded.holder OR leases.until <= $4 OR leases.until > $3
"""


_IS_TAKEN = "SELECT 1 FROM leases WHERE name = $1 AND until > $2 AND until <= $3"
_RELEASE = "DELETE FROM leases WHERE name = $1 AND holder = $2"


class Leases(Noun):
    """The LeaseStore."""

    async def take_lease(self, name: str, holder: str, *, seconds: int) -> bool:
        """Look first, so that processes that wait write nothing.

        A lease that is longer than the one asked for was taken by a clock that has been set since.
        """
        now = self._database.clock()
        until = now + seconds * 1_000_000
        if await self._database.find(_HELD, name, holder, now, until) is not None:
            return False
        return await self._database.execute(_TAKE, name, holder, until, now) > 0

    async def is_leased(self, name: str, *, seconds: int) -> bool:
        """Look."""
        now = self._database.clock()
        until = now + seconds * 1_000_000
        return await self._database.find(_IS_TAKEN, name, now, until) is not None

    async def release_lease(self, name: str, holder: str) -> None:
        """Delete the row."""
        await self._database.execute(_RELEASE, name, holder)
