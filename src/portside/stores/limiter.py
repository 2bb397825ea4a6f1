"""A limiter: so many at once, and the others wait in order, up to a time limit."""

from __future__ import annotations

import asyncio

from portside.spec.errors import Unavailable


class Limiter:
    """A limit on how many hold a place at once, in one event loop.

    One that waits for longer than `patience` seconds is refused with the message `refusal`. Places
    are not bound to tasks: one task may acquire what another one releases.
    """

    def __init__(self, limit: int, *, patience: float, refusal: str) -> None:
        self._free = asyncio.Semaphore(limit)
        self._patience = patience
        self._refusal = refusal

    async def acquire(self) -> None:
        """Take a place, first come first served; raises Unavailable if none comes free."""
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError as error:
            raise Unavailable(self._refusal) from error

    def release(self) -> None:
        """Free a place for the next one."""
        self._free.release()
