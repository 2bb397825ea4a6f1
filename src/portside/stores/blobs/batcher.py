"""The bytes of one upload on their way to a store.

Bytes are gathered into batches. While one batch is stored and hashed, in two threads at once, the
next one is received; there are never more than these two in memory. What is running goes on if the
request is cancelled: a hold waits for it before it ends.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from portside.spec.digests import Algorithm
from portside.spec.uploads import UploadId
from portside.stores.blobs.hashes import RunningHashes

if TYPE_CHECKING:
    from hashlib import _Hash

Result = TypeVar("Result")

BATCH = 1024 * 1024
"""Bytes. Handing a batch of this size to a thread costs nothing compared to storing it."""


class Batcher(ABC):
    """What every Staging shares: the batch, the running digest, and the work under way."""

    def __init__(self, upload: UploadId, hashes: RunningHashes, pool: ThreadPoolExecutor) -> None:
        self._upload = upload
        self._hashes = hashes
        self._pool = pool
        self._algorithm = Algorithm.SHA256
        self._hasher: _Hash | None = None
        self._use_running = True
        self._offset = 0
        self._acknowledged = 0
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._storing: asyncio.Future[Any] | None = None
        self._running: set[asyncio.Future[Any]] = set()

    def _begin(self, offset: int, algorithm: Algorithm, *, use_running: bool = True) -> None:
        """Start at an offset, with the running digest if there is one that can be used."""
        self._offset = self._acknowledged = offset
        self._algorithm = algorithm
        self._use_running = use_running
        if use_running or not offset:
            self._hasher = self._hashes.at(self._upload, offset, algorithm)

    async def write(self, chunk: bytes) -> None:
        """Append bytes to the batch, and hand it over when it is full."""
        self._batch.append(chunk)
        self._batch_size += len(chunk)
        if self._batch_size >= BATCH:
            await self._hand_over()

    @abstractmethod
    async def _hand_over(self) -> None:
        """Start storing and hashing the batch, after the one before it is done."""

    def _take(self) -> list[bytes]:
        """Take the batch, and move the offset to its end."""
        batch, self._batch = self._batch, []
        self._offset += self._batch_size
        self._batch_size = 0
        return batch

    def _start_hashing(self, batch: Sequence[bytes]) -> list[asyncio.Future[None]]:
        """Start hashing a batch, unless the upload is to be hashed at its end."""
        if self._hasher is None:
            return []
        return [self._start_in_thread(hash_all, self._hasher, batch)]

    async def _settle(self) -> None:
        """Wait until everything that was handed over is stored; raises what the store raises."""
        storing, self._storing = self._storing, None
        if storing is not None:
            await asyncio.shield(storing)

    def forget(self, offset: int) -> None:
        """Drop flushed bytes again when the hold ends."""
        self._acknowledged = offset

    def keep(self) -> None:
        """Keep the running digest for the next request that this process gets."""
        if self._hasher is not None:
            hasher = self._hasher.copy()
            self._hashes.keep(self._upload, self._offset, self._algorithm, hasher)

    def _acknowledged_hasher(self, algorithm: Algorithm) -> tuple[_Hash, int]:
        """Return a hasher, and how many of the acknowledged bytes it has seen: all, or none."""
        kept = None
        if self._use_running:
            kept = self._hashes.at(self._upload, self._acknowledged, algorithm)
        return (algorithm.hasher(), 0) if kept is None else (kept, self._acknowledged)

    def _keep_acknowledged(self, algorithm: Algorithm, hasher: _Hash) -> None:
        """Keep a hasher of the acknowledged bytes, which a repeated request need not read again."""
        if self._use_running:
            self._hashes.keep(self._upload, self._acknowledged, algorithm, hasher.copy())

    def _start(self, work: Coroutine[None, None, Result]) -> asyncio.Future[Result]:
        """Start something that goes on if the request is cancelled."""
        return self._noted(asyncio.ensure_future(work))

    def _start_in_thread(
        self, function: Callable[..., Result], *args: object
    ) -> asyncio.Future[Result]:
        """Start something in a thread, which goes on if the request is cancelled."""
        loop = asyncio.get_running_loop()
        return self._noted(loop.run_in_executor(self._pool, function, *args))

    def _noted(self, started: asyncio.Future[Result]) -> asyncio.Future[Result]:
        self._running.add(started)
        started.add_done_callback(self._running.discard)
        return started

    async def _wait_for_running(self) -> None:
        """Wait for all that was started, whatever becomes of it."""
        await asyncio.gather(*self._running, return_exceptions=True)


def hash_all(hasher: _Hash, batch: Sequence[bytes]) -> None:
    """Hash the bytes of a batch."""
    for chunk in batch:
        hasher.update(chunk)
