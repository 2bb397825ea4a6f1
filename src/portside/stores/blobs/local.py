"""A blob store on a local disk, shared by all processes of one machine."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from portside.spec.digests import Digest
from portside.spec.errors import UploadBusy
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.blobs.faults import translated
from portside.stores.blobs.hashes import RunningHashes
from portside.stores.blobs.layout import Layout
from portside.stores.blobs.staging import READ_SIZE, FileStaging
from portside.stores.interfaces import Remove

THREADS = 32
"""Threads for reads and writes that may block; more requests than these wait their turn."""

PIECE = 120 * 1024
"""Bytes that are read and sent at once.

The C library takes blocks of 128 KiB and more afresh from the system, page by page, and smaller
ones from what was freed a moment ago and is still in the processor's cache: pieces of this size are
sent about twice as fast as those of 128 KiB or 1 MiB.
"""

_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)

_FIRST_RETRY = 0.001
_LAST_RETRY = 0.05


class LocalBlobs:
    """Blobs as files at a key made of their digest, uploads as files beside them.

    An upload is held by a lock on its file, which the system lets go of when its holder dies.
    `hold_timeout` is how long, in seconds, a request waits for another one to let go.
    """

    def __init__(self, root: Path, *, hold_timeout: float) -> None:
        self._layout = Layout(root)
        self._hold_timeout = hold_timeout
        self._hashes = RunningHashes()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="portside-blobs")

    def create(self) -> None:
        """Make the directories; raises StorageFull or Unavailable."""
        with translated(f"preparing {self._layout.root}"):
            self._layout.create()

    def close(self) -> None:
        """Let go of the threads, after what they are doing."""
        self._pool.shutdown()

    async def stat(self, digest: Digest) -> int | None:
        """Ask for the file's size, on the event loop: it costs less than to ask a thread to."""
        try:
            return os.stat(self._layout.blob(digest)).st_size
        except FileNotFoundError:
            return None
        except OSError:
            with translated("reading a blob"):
                raise

    async def read(self, digest: Digest, part: ByteRange) -> AsyncIterator[bytes]:
        """Read a part in pieces: at once what the system has in memory, the rest in a thread."""
        loop = asyncio.get_running_loop()
        with translated("reading a blob"):
            path = self._layout.blob(digest)
            descriptor = await loop.run_in_executor(self._pool, os.open, path, os.O_RDONLY)
            try:
                position = part.start
                while position < part.stop:
                    wanted = min(PIECE, part.stop - position)
                    if _is_in_memory(descriptor, position + wanted - 1):
                        piece = os.pread(descriptor, wanted, position)
                    else:
                        piece = await loop.run_in_executor(
                            self._pool, os.pread, descriptor, wanted, position
                        )
                    if not piece:
                        raise OSError(errno.EIO, f"{path} is shorter than it should be")
                    position += len(piece)
                    yield piece
            finally:
                os.close(descriptor)

    @asynccontextmanager
    async def hold(self, upload: UploadId) -> AsyncIterator[FileStaging]:
        """Lock the upload's file; one that was made only to be locked goes away again."""
        descriptor = await self._lock(upload)
        staging = FileStaging(
            upload, descriptor, layout=self._layout, hashes=self._hashes, pool=self._pool
        )
        try:
            yield staging
        finally:
            if not staging.is_resumed and staging.is_empty:
                await self.discard(upload)
            await staging.close()

    async def _lock(self, upload: UploadId) -> int:
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self._hold_timeout
        pause = _FIRST_RETRY
        while True:
            with translated("opening an upload"):
                held = await loop.run_in_executor(
                    self._pool, _try_lock, self._layout.upload(upload)
                )
            if held is not None:
                return held
            if time.monotonic() >= deadline:
                busy = f"upload session {upload} has been in use for {self._hold_timeout:g} s"
                raise UploadBusy(busy)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_RETRY)

    async def discard(self, upload: UploadId) -> None:
        """Remove the upload's file."""
        self._hashes.forget(upload)
        loop = asyncio.get_running_loop()
        with translated("dropping an upload"):
            await loop.run_in_executor(self._pool, _unlink, self._layout.upload(upload))

    async def list_stale_uploads(self, before: int) -> list[UploadId]:
        """Look at the time of every upload's file."""
        loop = asyncio.get_running_loop()
        with translated("listing uploads"):
            return await loop.run_in_executor(self._pool, self._layout.list_stale_uploads, before)

    def remove(self, digest: Digest) -> Remove:
        """Give the function that removes the blob's file."""
        return partial(_remove, self._layout.blob(digest))

    async def probe(self) -> None:
        """Write, sync and remove a small file."""
        loop = asyncio.get_running_loop()
        with translated("probing the blob store"):
            await loop.run_in_executor(self._pool, self._probe)

    def _probe(self) -> None:
        path = self._layout.root / f".probe-{secrets.token_hex(8)}"
        try:
            with path.open("xb") as file:
                file.write(b"portside")
                file.flush()
                os.fsync(file.fileno())
        finally:
            path.unlink(missing_ok=True)

    def objects(self) -> Iterator[tuple[Digest, int]]:
        """Walk over every blob."""
        with translated("listing blobs"):
            yield from self._layout.list_blobs()

    def staged(self) -> Iterator[tuple[UploadId, int]]:
        """Walk over every upload."""
        with translated("listing uploads"):
            yield from self._layout.list_uploads()

    def strays(self) -> Iterator[str]:
        """Walk over what does not belong here."""
        with translated("listing files"):
            yield from (str(path) for path in self._layout.list_strays())

    def verify(self, digest: Digest) -> bool:
        """Hash the whole file."""
        hasher = digest.algorithm.hasher()
        with translated("reading a blob"), open(self._layout.blob(digest), "rb") as file:
            while piece := file.read(READ_SIZE):
                hasher.update(piece)
        return Digest.finish(digest.algorithm, hasher) == digest


def _is_in_memory(descriptor: int, position: int) -> bool:
    """Tell whether a byte can be read without waiting for the disk, as far as can be known."""
    if _NO_WAIT is None:
        return False
    try:
        return os.preadv(descriptor, [bytearray(1)], position, _NO_WAIT) == 1
    except OSError:
        return False


def _try_lock(path: str) -> int | None:
    """Open and lock a file, which is made if it is not there; None if another request has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    if not _is_still_at(path, descriptor):
        # Its last holder dropped the file, or put another one there, between our open and our lock.
        os.close(descriptor)
        return None
    return descriptor


def _is_still_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _remove(path: str) -> None:
    with translated("removing a blob"):
        _unlink(path)
