"""Work that goes on although the request that began it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Unfinished:
    """What was begun in an event loop and has not ended: a task that nobody holds may be lost."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin work that nobody need wait for."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def to_its_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for work that goes on even if nobody waits for it any more."""
        return await asyncio.shield(self.begin(work))

    async def settle(self) -> None:
        """Wait until all that was begun has ended."""
        if self._running:
            await asyncio.wait(set(self._running))
