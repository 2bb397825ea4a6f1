"""A blob store in a directory, shared by all processes of one machine."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, Unavailable
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.background import BackgroundTasks
from portside.stores.backups import SUFFIX, Snapshot, decode_snapshot, encode_snapshot
from portside.stores.blobs.disk.documents import (
    drop_document,
    list_documents,
    put_document,
    read_document,
)
from portside.stores.blobs.disk.layout import Layout, stat_or_none
from portside.stores.blobs.disk.locks import is_in_use, or_close, try_lock
from portside.stores.blobs.disk.orphaned import describe, drop_orphaned_files, try_reads, try_store
from portside.stores.blobs.disk.staging import READ_SIZE, FileStaging
from portside.stores.blobs.faults import translated
from portside.stores.blobs.hashes import RunningHashes
from portside.stores.blobs.holds import Backoff, wait_for_hold
from portside.stores.blobs.open_reads import OpenReads
from portside.stores.interfaces import OrphanedFile, Place, Remove
from portside.stores.marks import Mark, decode_mark, encode_mark
from portside.stores.repairing import BytesReplaced
from portside.stores.reserve import Reserve

THREADS = 32
"""Threads for reads and writes that may block; further requests wait for one."""

PIECE = 120 * 1024
"""Bytes that are read and sent at once, while few reads are open.

The C library takes blocks of 128 KiB and more afresh from the system, page by page, and smaller
ones from what was freed a moment ago and is still in the processor's cache: pieces of this size are
sent about twice as fast as those of 128 KiB or 1 MiB.
"""

_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)

BACKOFF = Backoff(0.001, 0.05)

LIST_BATCH = 1000
"""Files that a thread looks at before the event loop gets them: a hop for each would take longer
than the look."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class DiskBlobs:
    """Blobs as files at a key made of their digest, uploads as files beside them.

    An upload is held by a lock on its file, which the system releases when its holder dies. On a
    disk that several machines share, a lock must hold for all of them: it does on NFS 4 and on
    cluster file systems. `hold_timeout` is how long, in seconds, a request waits for another one to
    release an upload. Uploads leave `reserve` bytes of the disk free.
    """

    def __init__(self, root: Path, *, hold_timeout: float, reserve: int = 0) -> None:
        self._reserve = reserve
        self._space = Reserve(root, reserve)
        self._layout = Layout(root)
        self._hold_timeout = hold_timeout
        self._hashes = RunningHashes()
        self._reads = OpenReads(PIECE)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="portside-blobs")
        self._background = BackgroundTasks()

    @property
    def location(self) -> Path:
        """The directory that holds the blobs."""
        return self._layout.blobs

    @property
    def place(self) -> Path:
        """The directory of everything."""
        return self._layout.root

    def create(self) -> None:
        """Create the directories; raises StorageFull or Unavailable."""
        with translated(f"preparing {self._layout.root}"):
            self._layout.create()

    async def read_mark(self) -> Mark | None:
        """Read the file of the mark."""
        content = await self._run(read_document, self._layout.mark)
        return decode_mark(content) if content is not None else None

    async def put_mark(self, mark: Mark) -> None:
        """Write the file of the mark."""
        await self._run(put_document, self._layout.mark, encode_mark(mark))

    async def list_snapshots(self) -> list[str]:
        """List the files."""
        return await self._run(list_documents, self._layout.snapshots, SUFFIX)

    async def read_snapshot(self, name: str) -> Snapshot | None:
        """Read the file of a snapshot."""
        content = await self._run(read_document, self._snapshot(name))
        return decode_snapshot(name, content) if content is not None else None

    async def put_snapshot(self, name: str, snapshot: Snapshot) -> None:
        """Write the file of a snapshot."""
        await self._run(put_document, self._snapshot(name), encode_snapshot(snapshot))

    async def drop_snapshot(self, name: str) -> None:
        """Remove the file of a snapshot."""
        await self._run(drop_document, self._snapshot(name))

    def _snapshot(self, name: str) -> Path:
        return self._layout.snapshots / f"{name}{SUFFIX}"

    def close(self) -> None:
        """Wait for the threads to finish, and end them."""
        self._pool.shutdown()

    async def stat(self, digest: Digest) -> int | None:
        """Read the file's size on the event loop, which costs less than a hop to a thread."""
        try:
            return os.stat(self._layout.blob(digest)).st_size
        except FileNotFoundError:
            return None
        except OSError:
            with translated("reading a blob"):
                raise

    async def read(self, digest: Digest, part: ByteRange) -> AsyncGenerator[bytes, None]:
        """Read in pieces: what the system has in memory at once, and the rest in a thread."""
        loop = asyncio.get_running_loop()
        with translated("reading a blob"), self._reads.another():
            path = self._layout.blob(digest)
            # Not in a thread: no one would close what a cancelled request has opened there.
            descriptor = _open(path, digest)
            try:
                position = part.start
                while position < part.stop:
                    wanted = min(self._reads.piece, part.stop - position)
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
        """Lock the upload's file; a file that was created only to be locked is removed again.

        A fresh upload is locked as well, which shows a check that it is in use.
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
            await self._background.complete(self._leave(upload, staging, fresh=fresh))

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

        return await wait_for_hold(upload, self._hold_timeout, attempt, BACKOFF)

    async def discard(self, upload: UploadId) -> None:
        """Remove the upload's file."""
        self._hashes.forget(upload)
        loop = asyncio.get_running_loop()
        with translated("dropping an upload"):
            await loop.run_in_executor(self._pool, _unlink, self._layout.upload(upload))

    async def list_stale_uploads(self, before: int) -> list[UploadId]:
        """Look at the time of every upload's file."""
        with translated("listing uploads"):
            return await self._run(self._layout.list_stale_uploads, before)

    def remove(self, digest: Digest) -> Remove:
        """Return the function that removes the blob's file.

        Unlinking a large file takes long: the file is renamed to an upload without a session, which
        a thread unlinks, or the sweep of expired uploads after a crash.
        """
        trash = self._layout.upload(UploadId.fresh())
        return partial(_remove, self._layout.blob(digest), trash, self._pool)

    async def probe_reads(self) -> None:
        """Read the directories of blobs."""
        await self._run(try_reads, self._layout)

    async def probe(self) -> None:
        """Write, sync and remove a small file, and look at the space that is left."""
        await self._run(try_store, self._layout)
        self._space.require()

    async def server_time(self) -> int | None:
        """Return None: the clock is that of this machine, or nobody depends on it."""
        return None

    async def sign(self, _: Digest, __: int) -> str | None:
        """Return None: clients have no access to the disk."""
        return None

    def confirm(self, digest: Digest, size: int) -> Place:
        """Return the function that looks at the blob's file."""
        return partial(_confirm, self._layout.blob(digest), size)

    async def drop_orphaned_files(self, before: int, *, dry_run: bool = False) -> list[int]:
        """Drop the temporary files of uploads and probes."""
        drop = partial(drop_orphaned_files, dry_run=dry_run)
        with translated("dropping orphaned files"):
            return await self._run(drop, self._layout, before)

    async def holds_blobs(self) -> bool:
        """Look for the first blob."""
        with translated(f"listing {self._layout.blobs}"):
            return await self._run(next, self._layout.list_blobs(), None) is not None

    def stored_blobs(self) -> AsyncIterator[tuple[Digest, int]]:
        """Walk over every blob."""
        return self._each(self._layout.list_blobs(), f"listing {self._layout.blobs}")

    async def verify(self, digest: Digest) -> bool | None:
        """Hash the whole file in a thread, which stops early if no one waits for it any more."""
        stop = threading.Event()
        try:
            with translated("reading a blob"):
                return await self._run(_verify, self._layout.blob(digest), digest, stop)
        finally:
            stop.set()

    async def version(self, digest: Digest) -> str | None:
        """Read the file's number, size and times, which no two writes share."""
        with translated("looking at a blob"):
            return await self._run(_version, self._layout.blob(digest))

    def require_version(self, digest: Digest, version: str | None) -> Place:
        """Return the function that looks at the file once more."""
        return partial(_require_version, self._layout.blob(digest), version)

    async def missing_directories(self) -> list[str]:
        """Look for the directories that every push needs."""
        return [str(path) for path in self._layout.directories if not path.is_dir()]

    def orphaned_files(self) -> AsyncIterator[OrphanedFile]:
        """Walk over every file, and try the locks of those that are no blob and no upload."""
        found = (describe(path) for path in self._layout.list_orphaned() if not is_in_use(path))
        return self._each(found, f"listing {self._layout.root}")

    async def is_orphaned(self, file: OrphanedFile) -> bool:
        """Look at the path of a file and at its lock once more."""
        with translated("looking at a file"):
            return self._layout.is_orphaned(file.path) and not is_in_use(file.path)

    def staged_uploads(self) -> AsyncIterator[tuple[UploadId, int]]:
        """Walk over every upload."""
        return self._each(self._layout.list_uploads(), f"listing {self._layout.uploads}")

    async def staged_size(self, upload: UploadId) -> int | None:
        """Look at the upload's file."""
        with translated("looking at an upload"):
            found = stat_or_none(self._layout.upload(upload))
        return found.st_size if found is not None else None

    async def is_held(self, upload: UploadId) -> bool:
        """Try the lock of the upload's file."""
        with translated("looking at an upload"):
            return is_in_use(self._layout.upload(upload))

    async def _run(self, function: Callable[..., Result], *args: object) -> Result:
        """Run what may block in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    async def _each(self, items: Iterator[Item], doing: str) -> AsyncIterator[Item]:
        """Take items in a thread, many at a time; an error comes after the items before it."""
        is_done = False
        while not is_done:
            batch, error = await self._run(_take, items)
            for item in batch:
                yield item
            if error is not None:
                with translated(doing):
                    raise error
            is_done = len(batch) < LIST_BATCH


def _take(items: Iterator[Item]) -> tuple[list[Item], OSError | None]:
    batch: list[Item] = []
    try:
        batch.extend(islice(items, LIST_BATCH))
    except OSError as error:
        return batch, error
    return batch, None


def _confirm(path: str, size: int) -> None:
    with translated("placing a blob"):
        found = stat_or_none(path)
    placed = found.st_size if found is not None else None
    if placed != size:
        raise Unavailable(f"placing a blob: {path} should have {size} bytes and has {placed}")


def _version(path: str) -> str | None:
    found = stat_or_none(path)
    if found is None:
        return None
    written = found.st_mtime_ns, found.st_ctime_ns
    return f"{found.st_dev}-{found.st_ino}-{found.st_size}-{written[0]}-{written[1]}"


def _require_version(path: str, version: str | None) -> None:
    with translated("looking at a blob"):
        if _version(path) != version:
            raise BytesReplaced(path)


def _verify(path: str, digest: Digest, stop: threading.Event) -> bool | None:
    hasher = digest.algorithm.hasher()
    with suppress(FileNotFoundError):
        with open(path, "rb") as file:
            while not stop.is_set() and (piece := file.read(READ_SIZE)):
                hasher.update(piece)
        return Digest.finish(digest.algorithm, hasher) == digest
    return None


def _is_in_memory(descriptor: int, position: int) -> bool:
    """Whether a byte can be read without waiting for the disk, as far as can be known."""
    if _NO_WAIT is None:
        return False
    try:
        return os.preadv(descriptor, [bytearray(1)], position, _NO_WAIT) == 1
    except OSError:
        return False


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _remove(path: str, trash: str, pool: ThreadPoolExecutor) -> None:
    with translated("removing a blob"):
        try:
            os.rename(path, trash)
        except FileNotFoundError:
            # Either the blob is gone already, or the directory that it would move to.
            if os.path.lexists(path):
                raise
        else:
            pool.submit(_unlink, trash)


def _open(path: str, digest: Digest) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        gone = f"the bytes of {digest} are not in this registry; push the blob again"
        raise BlobUnknown(gone) from error
