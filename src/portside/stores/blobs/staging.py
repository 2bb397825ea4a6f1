"""One upload's file, while a request writes to it.

Bytes are gathered into batches. While one batch is written and hashed, in two threads at once, the
next one is received; more than these two are never in memory. A long body is synced to the disk as
it arrives, so that little is left to wait for at its end.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable
from portside.spec.uploads import UploadId
from portside.stores.blobs.faults import translated
from portside.stores.blobs.hashes import RunningHashes
from portside.stores.blobs.layout import Layout, sync_directory
from portside.stores.blobs.placing import place
from portside.stores.interfaces import Place

if TYPE_CHECKING:
    from hashlib import _Hash

Result = TypeVar("Result")

BATCH = 1024 * 1024
"""Bytes. Large enough that handing a batch to a thread costs nothing beside writing it."""

SYNC_EVERY = 32 * 1024 * 1024
"""Bytes between two syncs on the way: a disk that is kept busy early is done early."""

READ_SIZE = 1024 * 1024
"""Bytes read at once when an upload is hashed again."""


class FileStaging:
    """The file of one upload, locked by its holder."""

    def __init__(
        self,
        upload: UploadId,
        descriptor: int,
        *,
        layout: Layout,
        hashes: RunningHashes,
        pool: ThreadPoolExecutor,
        reserve: int,
    ) -> None:
        self._reserve = reserve
        self._upload = upload
        self._descriptor = descriptor
        self._layout = layout
        self._hashes = hashes
        self._pool = pool
        self._algorithm = Algorithm.SHA256
        self._hasher: _Hash | None = None
        self._offset = 0
        self._acknowledged = 0
        self._may_be_blob = False
        self._is_entry_durable = False
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._unsynced = 0
        self._writing: asyncio.Future[list[None]] | None = None
        self._syncing: asyncio.Future[None] | None = None
        self._running: set[asyncio.Future[Any]] = set()
        self.is_resumed = False

    @property
    def is_empty(self) -> bool:
        """Whether the file holds no byte."""
        return os.fstat(self._descriptor).st_size == 0

    async def resume(self, offset: int, algorithm: Algorithm) -> None:
        """Go on at `offset`; see the interface."""
        self._acknowledged = offset
        await self._run(self._cut, offset)
        self.is_resumed = True
        self._offset = offset
        self._is_entry_durable = offset > 0
        self._algorithm = algorithm
        self._hasher = self._hashes.at(self._upload, offset, algorithm)

    def _cut(self, offset: int) -> None:
        held = os.fstat(self._descriptor).st_size
        if held < offset:
            lost = (
                f"upload session {self._upload} should hold {offset} bytes and holds {held};"
                " cancel it and start again"
            )
            raise Unavailable(lost)
        if os.fstat(self._descriptor).st_nlink > 1:
            self._part_from_blob(offset)
        elif held > offset:
            os.ftruncate(self._descriptor, offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)

    def _part_from_blob(self, offset: int) -> None:
        """Go on in a copy: this file became a blob's by a commit that failed later, and may be one.

        The copy is locked before it takes the name, so that nobody else can hold it.
        """
        path = self._layout.upload(self._upload)
        beside = f"{path}.copy"
        with suppress(FileNotFoundError):
            os.unlink(beside)
        copy = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _copy_start(self._descriptor, copy, offset)
            os.fsync(copy)
            os.replace(beside, path)
            sync_directory(self._layout.uploads)
        except BaseException:
            os.close(copy)
            with suppress(FileNotFoundError):
                os.unlink(beside)
            raise
        os.close(self._descriptor)
        self._descriptor = copy

    async def write(self, chunk: bytes) -> None:
        """Append bytes to the batch, and hand it over when it is full."""
        self._batch.append(chunk)
        self._batch_size += len(chunk)
        if self._batch_size >= BATCH:
            await self._hand_over()

    async def _hand_over(self) -> None:
        """Start writing and hashing the batch, as soon as the one before it is done."""
        await self._settle()
        batch, size = self._batch, self._batch_size
        self._batch, self._batch_size = [], 0
        jobs = [self._start(self._append, batch)]
        if self._hasher is not None:
            jobs.append(self._start(_hash_all, self._hasher, batch))
        self._writing = asyncio.gather(*jobs)
        self._offset += size
        self._unsynced += size
        if self._unsynced >= SYNC_EVERY and self._is_sync_idle():
            self._unsynced = 0
            self._syncing = self._start(os.fdatasync, self._descriptor)

    def _is_sync_idle(self) -> bool:
        if self._syncing is None:
            return True
        if self._syncing.done():
            # An error of a sync is told once and then forgotten by the system: it must be raised.
            with translated("writing an upload"):
                self._syncing.result()
            return True
        return False

    async def _settle(self) -> None:
        """Wait until what was handed over is written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            with translated("writing an upload"):
                await asyncio.shield(writing)

    async def _end_batch(self) -> list[bytes]:
        """Wait for all that is under way, and give the batch that was not yet handed over."""
        await self._settle()
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            with translated("writing an upload"):
                await asyncio.shield(syncing)
        batch, self._batch = self._batch, []
        self._offset += self._batch_size
        self._batch_size = 0
        return batch

    async def flush(self) -> int:
        """Write and sync all, and the directory's entry if the file is new.

        From then on the bytes stay, whatever becomes of the row that says so: a commit that seems
        to have failed can still come to hold, after a crash.
        """
        batch = await self._end_batch()
        await self._run(self._store, batch, sync_entry=not self._is_entry_durable)
        self._is_entry_durable = True
        self._acknowledged = self._offset
        return self._offset

    def forget(self, offset: int) -> None:
        """Drop flushed bytes again when the file is closed."""
        self._acknowledged = offset

    def keep(self) -> None:
        """Let the next request of this worker go on with the hasher."""
        if self._hasher is not None:
            self._hashes.keep(self._upload, self._offset, self._algorithm, self._hasher.copy())

    async def finish(self, algorithm: Algorithm) -> Digest:
        """Write, sync and hash all; the staged entry need not be durable, the blob's will be."""
        batch = await self._end_batch()
        await self._run(self._store, batch, sync_entry=False)
        if self._hasher is None or algorithm is not self._algorithm:
            hasher = await self._run(self._hash_file, algorithm)
        else:
            hasher = self._hasher
        return Digest.finish(algorithm, hasher)

    def _append(self, batch: list[bytes]) -> None:
        """Write a batch, if it leaves the reserve; a registry that is full must still delete."""
        if self._reserve:
            disk = os.fstatvfs(self._descriptor)
            if disk.f_bavail * disk.f_frsize < self._reserve + sum(map(len, batch)):
                raise OSError(errno.ENOSPC, "the disk is full, but for the reserve")
        _write_all(self._descriptor, batch)

    def _store(self, batch: list[bytes], *, sync_entry: bool) -> None:
        self._append(batch)
        if self._hasher is not None:
            _hash_all(self._hasher, batch)
        os.fdatasync(self._descriptor)
        if sync_entry:
            sync_directory(self._layout.uploads)

    def _hash_file(self, algorithm: Algorithm) -> _Hash:
        hasher = algorithm.hasher()
        position = 0
        while piece := os.pread(self._descriptor, READ_SIZE, position):
            hasher.update(piece)
            position += len(piece)
        return hasher

    async def place(self, digest: Digest) -> Place:
        """Give the function that links the file at the blob's key; the staged name stays."""
        self._may_be_blob = True
        return partial(place, self._layout.upload(self._upload), self._layout.blob(digest))

    async def close(self) -> None:
        """Wait for threads that still use the file, drop what was not acknowledged, and let go.

        On a full disk, bytes that nobody will ask for are what everybody else needs.
        """
        await asyncio.gather(*self._running, return_exceptions=True)
        loop = asyncio.get_running_loop()
        with translated("closing an upload"):
            await loop.run_in_executor(self._pool, self._let_go)

    def _let_go(self) -> None:
        try:
            if self.is_resumed and not self._is_blob():
                os.ftruncate(self._descriptor, self._acknowledged)
        finally:
            os.close(self._descriptor)

    def _is_blob(self) -> bool:
        return self._may_be_blob or os.fstat(self._descriptor).st_nlink > 1

    def _start(self, function: Callable[..., Result], *args: object) -> asyncio.Future[Result]:
        """Begin something in a thread; the file stays open until it has ended, come what may."""
        started = asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
        self._running.add(started)
        started.add_done_callback(self._running.discard)
        return started

    async def _run(
        self, function: Callable[..., Result], *args: object, **kwargs: object
    ) -> Result:
        with translated("writing an upload"):
            return await asyncio.shield(self._start(partial(function, *args, **kwargs)))


def _copy_start(source: int, target: int, size: int) -> None:
    position = 0
    while position < size:
        piece = os.pread(source, min(READ_SIZE, size - position), position)
        if not piece:
            raise OSError(errno.EIO, "the upload is shorter than it was")
        _write_all(target, [piece])
        position += len(piece)


def _write_all(descriptor: int, batch: list[bytes]) -> None:
    for chunk in batch:
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]


def _hash_all(hasher: _Hash, batch: list[bytes]) -> None:
    for chunk in batch:
        hasher.update(chunk)
