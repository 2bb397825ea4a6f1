"""The memory for bodies that are read whole, manifests and forms, as one budget for each worker.

What has arrived of a slow body stays in memory. The first bytes of every body are free, as many as
most manifests and every honest form have, so that slow clients keep nobody from logging in.
"""

from __future__ import annotations

from portside.spec.errors import TooManyRequests

FREE_BYTES = 16 * 1024
"""Of each body; about what its connection takes in any case."""

_FORMS_SHARE = 4
"""Forms come before a login: they take at most one part in so many."""

_PAUSE = 1
"""Seconds after which a refused client may try again."""


class BodyMemory:
    """A budget in bytes; with `within`, what is taken is taken from that one too."""

    def __init__(self, budget: int, within: BodyMemory | None = None) -> None:
        self._left = budget
        self._within = within

    def forms(self) -> BodyMemory:
        """Return the part of this budget that forms may take together."""
        return BodyMemory(self._left // _FORMS_SHARE, within=self)

    def take(self, size: int) -> None:
        """Take bytes; raises TooManyRequests, and takes none, if they are not there."""
        if size > self._left:
            raise TooManyRequests(
                _PAUSE, "bodies that are still arriving take all the memory for them; try again"
            )
        if self._within is not None:
            self._within.take(size)
        self._left -= size

    def give_back(self, size: int) -> None:
        """Return bytes to the budget."""
        self._left += size
        if self._within is not None:
            self._within.give_back(size)


class Taken:
    """What one body has taken of a budget."""

    __slots__ = ("_memory", "_size")

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._size = 0

    def grow_to(self, arrived: int) -> None:
        """Take what a body needs of which so many bytes have arrived; raises TooManyRequests."""
        more = arrived - FREE_BYTES - self._size
        if more > 0:
            self._memory.take(more)
            self._size += more

    def give_back(self) -> None:
        """Return all of it to the budget."""
        self._memory.give_back(self._size)
        self._size = 0
