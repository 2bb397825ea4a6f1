"""The file of one upload, while a request writes to it, and how it becomes a blob.

A long body is synced to the disk as it arrives, so that little is left to sync at its end. A blob
is placed by giving the staged file a second name.
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
from typing import TYPE_CHECKING, TypeVar

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable
from portside.spec.uploads import UploadId
from portside.stores.blobs.batcher import Batcher, hash_all
from portside.stores.blobs.disk.layout import Layout
from portside.stores.blobs.faults import translated
from portside.stores.blobs.hashes import RunningHashes
from portside.stores.directories import PRIVATE, sync_directory
from portside.stores.interfaces import Place, Undo

if TYPE_CHECKING:
    from hashlib import _Hash

Result = TypeVar("Result")

SYNC_EVERY = 32 * 1024 * 1024
"""Bytes between two syncs on the way: a disk that is kept busy early is done early."""

READ_SIZE = 1024 * 1024
"""Bytes read at once when a file is hashed."""


class FileStaging(Batcher):
    """The file of one upload, locked by its holder; uploads leave `reserve` bytes of the disk free.

    See `Staging`.
    """

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
        super().__init__(upload, hashes, pool)
        self._descriptor = descriptor
        self._layout = layout
        self._reserve = reserve
        self._may_be_blob = False
        self._is_entry_durable = False
        self._unsynced = 0
        self._syncing: asyncio.Future[None] | None = None
        self.is_resumed = False

    @property
    def is_empty(self) -> bool:
        """Whether the file holds no bytes."""
        return os.fstat(self._descriptor).st_size == 0

    async def resume(self, offset: int, algorithm: Algorithm) -> None:
        """Cut the file down to `offset`."""
        self._acknowledged = offset
        await self._run(self._cut, offset)
        self.is_resumed = True
        self._is_entry_durable = offset > 0
        self._begin(offset, algorithm)

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
        """Continue in a copy: a commit that failed later linked this file, and it may be a blob.

        The copy is locked before it takes the name, so that no other request can hold it.
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

    async def _hand_over(self) -> None:
        """Start writing and hashing the batch; sync from time to time."""
        await self._settle()
        size = self._batch_size
        batch = self._take()
        jobs = [self._start_in_thread(self._append, batch), *self._start_hashing(batch)]
        self._storing = asyncio.gather(*jobs)
        self._unsynced += size
        if self._unsynced >= SYNC_EVERY and self._is_sync_idle():
            self._unsynced = 0
            self._syncing = self._start_in_thread(os.fdatasync, self._descriptor)

    def _is_sync_idle(self) -> bool:
        if self._syncing is None:
            return True
        if self._syncing.done():
            # The system reports an error of a sync once, and then forgets it: it must be raised.
            with translated("writing an upload"):
                self._syncing.result()
            return True
        return False

    async def _settle(self) -> None:
        with translated("writing an upload"):
            await super()._settle()

    async def _end_batch(self) -> list[bytes]:
        """Wait for all that is under way, and return the batch that was not handed over yet."""
        await self._settle()
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            with translated("writing an upload"):
                await asyncio.shield(syncing)
        return self._take()

    async def flush(self) -> int:
        """Write and sync all, and the directory's entry if the file is new.

        From then on the bytes stay, whatever becomes of the row that acknowledges them: a commit
        that seems to have failed may still turn out to have succeeded after a crash.
        """
        batch = await self._end_batch()
        await self._run(partial(self._store, batch, sync_entry=not self._is_entry_durable))
        self._is_entry_durable = True
        self._acknowledged = self._offset
        return self._offset

    async def finish(self, algorithm: Algorithm) -> Digest:
        """Write, sync and hash all; the staged entry need not be durable, the blob's will be."""
        batch = await self._end_batch()
        await self._run(partial(self._store, batch, sync_entry=False))
        if self._hasher is None or algorithm is not self._algorithm:
            hasher = await self._hash_staged(algorithm)
        else:
            hasher = self._hasher
        return Digest.finish(algorithm, hasher)

    def _append(self, batch: list[bytes]) -> None:
        """Write a batch if that leaves the reserve free: deleting must work on a full disk too."""
        if self._reserve:
            disk = os.fstatvfs(self._descriptor)
            if disk.f_bavail * disk.f_frsize < self._reserve + sum(map(len, batch)):
                raise OSError(errno.ENOSPC, "the disk is full, but for the reserve")
        _write_all(self._descriptor, batch)

    def _store(self, batch: list[bytes], *, sync_entry: bool) -> None:
        self._append(batch)
        if self._hasher is not None:
            hash_all(self._hasher, batch)
        os.fdatasync(self._descriptor)
        if sync_entry:
            sync_directory(self._layout.uploads)

    async def _hash_staged(self, algorithm: Algorithm) -> _Hash:
        """Hash all; what is acknowledged is read once, however often a digest turns out wrong."""
        hasher, seen = self._acknowledged_hasher(algorithm)
        if seen < self._acknowledged:
            await self._run(self._hash_file, hasher, 0, self._acknowledged)
            self._keep_acknowledged(algorithm, hasher)
        await self._run(self._hash_file, hasher, self._acknowledged, self._offset)
        return hasher

    def _hash_file(self, hasher: _Hash, start: int, stop: int) -> None:
        position = start
        while piece := os.pread(self._descriptor, min(READ_SIZE, stop - position), position):
            hasher.update(piece)
            position += len(piece)

    async def place(self, digest: Digest) -> Place:
        """Return the function that links the file at the blob's key; the staged name stays."""
        self._may_be_blob = True
        return partial(_place, self._layout.upload(self._upload), self._layout.blob(digest))

    async def close(self) -> None:
        """Wait for threads that use the file, drop what was not acknowledged, and unlock it.

        On a full disk, bytes that no one will ask for are what every other request needs.
        """
        await self._wait_for_running()
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

    async def _run(self, function: Callable[..., Result], *args: object) -> Result:
        with translated("writing an upload"):
            return await asyncio.shield(self._start_in_thread(function, *args))


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


def _place(staged: str, target: str) -> Undo | None:
    """Link the staged file at the key of its digest; raises StorageFull and Unavailable."""
    with translated("placing a blob"):
        directory = os.path.dirname(target)
        undo: Undo | None = partial(_take_back, target)
        try:
            os.link(staged, target)
        except FileNotFoundError:
            _make_directory(directory)
            os.link(staged, target)
        except FileExistsError:
            _replace(staged, target)
            undo = None
        sync_directory(directory)
    return undo


def _make_directory(directory: str) -> None:
    """Create a directory durably; one that cannot be made durable is removed again.

    Its parents are not created: without them every blob would be missing, and no one would notice.
    """
    with suppress(FileExistsError):
        os.mkdir(directory, PRIVATE)
    try:
        sync_directory(os.path.dirname(directory))
    except OSError:
        with suppress(OSError):
            os.rmdir(directory)
        raise


def _take_back(target: str) -> None:
    with suppress(OSError):
        os.unlink(target)


def _replace(staged: str, target: str) -> None:
    """Replace a file by the staged bytes: they were verified, and the file was not."""
    if os.path.samefile(staged, target):
        return
    beside = f"{staged}.placing"
    with suppress(FileNotFoundError):
        os.unlink(beside)
    os.link(staged, beside)
    os.replace(beside, target)
