"""The queue of logins that wait for a slow hash: client addresses take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portside.spec.errors import TooManyRequests


class LoginQueue:
    """Lets `running` logins hash at the same time, while up to `length` wait.

    Addresses take turns. In a full queue, a login of an address that has fewer waiting takes the
    place of the last one of the address that has the most.
    """

    def __init__(self, *, running: int, length: int) -> None:
        self._free = running
        self._length = length
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._count = 0

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait for a turn, which lasts for the block; raises TooManyRequests."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(address)
        try:
            yield
        finally:
            self._free += 1
            self._call_next()

    async def _wait(self, address: str) -> None:
        if self._count >= self._length:
            self._make_room(address)
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append(called)
        self._count += 1
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled() and called.exception() is None:
                # The turn came while the login was cancelled: the next one has it.
                self._free += 1
                self._call_next()
            elif called in self._waiting.get(address, ()):
                self._remove(address, called)
            raise

    def _make_room(self, address: str) -> None:
        largest = max(self._waiting, key=lambda name: len(self._waiting[name]), default=address)
        mine = len(self._waiting.get(address, ()))
        if not self._waiting or len(self._waiting[largest]) <= mine + 1:
            raise _refusal()
        last = self._waiting[largest][-1]
        self._remove(largest, last)
        last.set_exception(_refusal())

    def _remove(self, address: str, called: asyncio.Future[None]) -> None:
        self._waiting[address].remove(called)
        self._count -= 1
        if not self._waiting[address]:
            del self._waiting[address]

    def _call_next(self) -> None:
        """Pass a free turn to the address that has waited longest since its last one."""
        while self._free and self._waiting:
            address = next(iter(self._waiting))
            queue = self._waiting.pop(address)
            called = queue.popleft()
            self._count -= 1
            if queue:
                self._waiting[address] = queue
            if not called.done():
                self._free -= 1
                called.set_result(None)


def _refusal() -> TooManyRequests:
    return TooManyRequests(1, "too many concurrent logins; try again")
