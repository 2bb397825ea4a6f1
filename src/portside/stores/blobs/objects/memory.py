"""The memory that the uploads of one process take together.

An upload that is larger than a batch takes a share of it, and keeps it until its hold ends. If all
shares are taken it waits for one, and its body is not read meanwhile, so that its client waits too.
Nobody who has a share waits for another one: each share comes back.
"""

from __future__ import annotations

from portside.stores.slots import Slots

PATIENCE = 600.0
"""Seconds to wait for a share, which comes free when a whole upload ends: large ones take minutes.

A proxy, or the client, may give up before. Nothing is lost by waiting for longer than they do.
"""


class UploadMemory(Slots):
    """As many shares as the budget has room for, and one at least; both sizes are in bytes."""

    def __init__(self, budget: int, *, share: int, patience: float) -> None:
        refusal = "too many uploads at once; try again"
        super().__init__(max(1, budget // share), patience=patience, refusal=refusal)


class Share:
    """What one upload has of the memory: nothing, or one share."""

    def __init__(self, memory: UploadMemory) -> None:
        self._memory = memory
        self._is_taken = False

    async def take(self) -> None:
        """Take the share, unless it is taken already; raises Unavailable."""
        if not self._is_taken:
            await self._memory.take()
            self._is_taken = True

    def give_back(self) -> None:
        """Give back what was taken."""
        if self._is_taken:
            self._is_taken = False
            self._memory.give_back()
