"""How many connections of a process wait at once for the blob store.

A transaction in which bytes are placed keeps its connection for as long as that takes, and an
object store that does not answer takes minutes. So that pulls go on, some connections are never
kept like that, wherever there are several; and the threads that wait serve nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from portside.stores.limiter import Limiter

Result = TypeVar("Result")


class BytesLimiter(Limiter):
    """The limiter of a process with so many `connections`; `patience` is in seconds."""

    def __init__(self, *, connections: int, patience: float) -> None:
        most = max(1, connections - max(1, connections // 4))
        slow = "the blob store is slow, and other pushes wait for it already; try again"
        super().__init__(most, patience=patience, refusal=slow)
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="portside-bytes")

    async def run(self, function: Callable[[], Result]) -> Result:
        """Run what blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def close(self) -> None:
        """End the threads, none of which is at work any more."""
        self._threads.shutdown()
