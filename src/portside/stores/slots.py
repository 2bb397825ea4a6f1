"""Slots: so many at once, and the others in their turn."""

from __future__ import annotations

import asyncio

from portside.spec.errors import Unavailable


class Slots:
    """A number of slots in one event loop; whoever waits for longer than `patience` is refused.

    `patience` is in seconds, and `refusal` says why one waits in vain.
    """

    def __init__(self, count: int, *, patience: float, refusal: str) -> None:
        self._free = asyncio.Semaphore(count)
        self._patience = patience
        self._refusal = refusal

    async def take(self) -> None:
        """Take a slot, in the order of those who wait; raises Unavailable if none comes free."""
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError as error:
            raise Unavailable(self._refusal) from error

    def give_back(self) -> None:
        """Let the next one have the slot."""
        self._free.release()
