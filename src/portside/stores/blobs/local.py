"""A blob store on a local disk, shared by all processes of one machine."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, Unavailable
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.blobs.faults import translated
from portside.stores.blobs.hashes import RunningHashes
from portside.stores.blobs.layout import Layout, stat_or_none, sync_directory
from portside.stores.blobs.leftovers import describe, drop_leftovers, is_in_use, try_store
from portside.stores.blobs.locking import or_close, try_lock
from portside.stores.blobs.staging import READ_SIZE, FileStaging
from portside.stores.blobs.turns import Pauses, wait_for_turn
from portside.stores.inspection import Stray
from portside.stores.interfaces import Remove
from portside.stores.marks import Mark, decode_mark, encode_mark
from portside.stores.unfinished import Unfinished

THREADS = 32
"""Threads for reads and writes that may block; more requests than these wait their turn."""

PIECE = 120 * 1024
"""Bytes that are read and sent at once.

The C library takes blocks of 128 KiB and more afresh from the system, page by page, and smaller
ones from what was freed a moment ago and is still in the processor's cache: pieces of this size are
sent about twice as fast as those of 128 KiB or 1 MiB.
"""

_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)


PAUSES = Pauses(0.001, 0.05)


class LocalBlobs:
    """Blobs as files at a key made of their digest, uploads as files beside them.

    An upload is held by a lock on its file, which the system lets go of when its holder dies. On a
    disk that several machines share, their locks have to hold for each other: NFS 4 and the file
    systems of clusters do that.
    `hold_timeout` is how long, in seconds, a request waits for another one to let go. Uploads leave
    `reserve` bytes of the disk free.
    """

    def __init__(self, root: Path, *, hold_timeout: float, reserve: int = 0) -> None:
        self._reserve = reserve
        self._layout = Layout(root)
        self._hold_timeout = hold_timeout
        self._hashes = RunningHashes()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="portside-blobs")
        self._unfinished = Unfinished()

    @property
    def place(self) -> Path:
        """Where the blobs are."""
        return self._layout.blobs

    def create(self) -> None:
        """Make the directories; raises StorageFull or Unavailable."""
        with translated(f"preparing {self._layout.root}"):
            self._layout.create()

    def read_mark(self) -> Mark | None:
        """Read the file of the mark."""
        with translated(f"reading {self._layout.mark}"), suppress(FileNotFoundError):
            return decode_mark(self._layout.mark.read_bytes())
        return None

    def put_mark(self, mark: Mark) -> None:
        """Write a file beside, and link it, which fails if there is one."""
        beside = self._layout.mark.with_suffix(f".{secrets.token_hex(8)}")
        with translated(f"writing {self._layout.mark}"):
            try:
                with open(beside, "xb") as file:
                    file.write(encode_mark(mark))
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileExistsError):
                    os.link(beside, self._layout.mark)
            finally:
                beside.unlink(missing_ok=True)
            sync_directory(self._layout.root)

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

    async def read(self, digest: Digest, part: ByteRange) -> AsyncGenerator[bytes, None]:
        """Read a part in pieces: at once what the system has in memory, the rest in a thread."""
        loop = asyncio.get_running_loop()
        with translated("reading a blob"):
            path = self._layout.blob(digest)
            # Not in a thread: what a cancelled request has opened there, nobody would close.
            descriptor = _open(path, digest)
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
    async def hold(self, upload: UploadId, *, fresh: bool = False) -> AsyncIterator[FileStaging]:
        """Lock the upload's file; one that was made only to be locked goes away again.

        A fresh one is locked as well, by which others can tell that it is in use.
        """
        descriptor = await self._lock(upload)
        staging = FileStaging(
            upload,
            descriptor,
            layout=self._layout,
            hashes=self._hashes,
            pool=self._pool,
            reserve=self._reserve,
        )
        try:
            yield staging
        finally:
            await self._unfinished.to_its_end(self._leave(upload, staging, fresh=fresh))

    async def _leave(self, upload: UploadId, staging: FileStaging, *, fresh: bool) -> None:
        try:
            if fresh:
                with suppress(Unavailable):
                    await self.discard(upload)
            elif not staging.is_resumed and staging.is_empty:
                await self.discard(upload)
        finally:
            await staging.close()

    async def _lock(self, upload: UploadId) -> int:
        loop = asyncio.get_running_loop()

        async def attempt() -> int | None:
            with translated("opening an upload"):
                trying = loop.run_in_executor(self._pool, try_lock, self._layout.upload(upload))
                return await or_close(trying)

        return await wait_for_turn(upload, self._hold_timeout, attempt, PAUSES)

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
        """Give the function that removes the blob's file.

        To unlink a large file takes long: it gets the name of an upload that nobody knows, and goes
        in a thread, or with the uploads that have expired.
        """
        leftover = self._layout.upload(UploadId.fresh())
        return partial(_remove, self._layout.blob(digest), leftover, self._pool)

    async def drop_leftovers(self, before: int) -> list[int]:
        """Drop the files that uploads and probes left beside themselves."""
        loop = asyncio.get_running_loop()
        with translated("dropping leftovers"):
            return await loop.run_in_executor(self._pool, drop_leftovers, self._layout, before)

    async def probe(self) -> None:
        """Write, sync and remove a small file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._pool, try_store, self._layout)

    def holds_blobs(self) -> bool:
        """Tell whether there is any blob; raises Unavailable."""
        return next(self.objects(), None) is not None

    def objects(self) -> Iterator[tuple[Digest, int]]:
        """Walk over every blob."""
        with translated(f"listing {self._layout.blobs}"):
            yield from self._layout.list_blobs()

    def size(self, digest: Digest) -> int | None:
        """Look at the file, without an event loop."""
        with translated("reading a blob"):
            found = stat_or_none(self._layout.blob(digest))
        return found.st_size if found is not None else None

    def verify(self, digest: Digest) -> bool | None:
        """Hash the whole file."""
        hasher = digest.algorithm.hasher()
        with translated("reading a blob"), suppress(FileNotFoundError):
            with open(self._layout.blob(digest), "rb") as file:
                while piece := file.read(READ_SIZE):
                    hasher.update(piece)
            return Digest.finish(digest.algorithm, hasher) == digest
        return None

    def missing(self) -> Iterator[str]:
        """Look for the directories that every push relies on."""
        for directory in self._layout.directories:
            if not directory.is_dir():
                yield str(directory)

    def strays(self) -> Iterator[Stray]:
        """Walk over what does not belong here."""
        with translated(f"listing {self._layout.root}"):
            for path in self._layout.list_strays():
                if not is_in_use(path):
                    yield describe(path)

    def is_stray(self, stray: Stray) -> bool:
        """Look at the place and the lock of a file once more."""
        with translated("looking at a file"):
            return self._layout.is_stray(stray.path) and not is_in_use(stray.path)

    def staged(self) -> Iterator[tuple[UploadId, int]]:
        """Walk over every upload."""
        with translated(f"listing {self._layout.uploads}"):
            yield from self._layout.list_uploads()

    def staged_size(self, upload: UploadId) -> int | None:
        """Look at the upload's file."""
        with translated("looking at an upload"):
            found = stat_or_none(self._layout.upload(upload))
        return found.st_size if found is not None else None

    def is_held(self, upload: UploadId) -> bool:
        """Try the lock of the upload's file."""
        with translated("looking at an upload"):
            return is_in_use(self._layout.upload(upload))


def _is_in_memory(descriptor: int, position: int) -> bool:
    """Tell whether a byte can be read without waiting for the disk, as far as can be known."""
    if _NO_WAIT is None:
        return False
    try:
        return os.preadv(descriptor, [bytearray(1)], position, _NO_WAIT) == 1
    except OSError:
        return False


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _remove(path: str, leftover: str, pool: ThreadPoolExecutor) -> None:
    with translated("removing a blob"), suppress(FileNotFoundError):
        os.rename(path, leftover)
        pool.submit(_unlink, leftover)


def _open(path: str, digest: Digest) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        gone = f"the bytes of {digest} are not in this registry; push the blob again"
        raise BlobUnknown(gone) from error
