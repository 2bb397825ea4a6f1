"""Background tasks: work that goes on although the request that started it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class BackgroundTasks:
    """The tasks that were started and have not ended; asyncio drops tasks that no one refers to."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Start work that no one has to wait for."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def complete(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for work that goes on if the wait is cancelled."""
        return await asyncio.shield(self.start(work))

    async def wait(self) -> None:
        """Wait until everything that was started has ended."""
        if self._running:
            await asyncio.wait(set(self._running))
