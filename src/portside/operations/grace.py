"""The grace period: for how long a blob to which no manifest refers is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

MOST = 60_000_000
"""Microseconds, the longest time after which a link is renewed: a write a minute costs nothing."""


class GracePeriod(NamedTuple):
    """The grace period of unreferenced blobs, in microseconds; `clock` returns those since 1970.

    It begins when a client was last told that the blob exists. That time is stored coarsely, so
    that a client that asks again and again causes few writes: blobs are kept for longer by as much.
    A collector with a `length` of its own knows how coarsely by that of the registry, `told`.
    """

    length: int
    clock: Callable[[], int]
    told: int = 0

    @property
    def coarseness(self) -> int:
        """How much older than the real time the stored one may be."""
        return min(MOST, (self.told or self.length) // 10)

    def has_begun(self, since: int) -> bool:
        """Whether the stored time has to be renewed to tell a client now that the blob exists.

        One in the future is wrong: the clock was set back since.
        """
        now = self.clock()
        return not now - self.coarseness < since <= now

    @property
    def expired(self) -> int:
        """The stored time that is over now, as are all before it."""
        return self.clock() - self.length - self.coarseness
