"""A blob store over an object store, shared by all nodes of a registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import AzureStore, GCSStore, S3Store

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, Unavailable
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.background import BackgroundTasks
from portside.stores.backups import SNAPSHOTS, Snapshot, decode_snapshot, encode_snapshot
from portside.stores.blobs.hashes import RunningHashes
from portside.stores.blobs.holds import Backoff, wait_for_hold
from portside.stores.blobs.objects.faults import is_of_the_store, translated
from portside.stores.blobs.objects.layout import (
    BLOBS,
    PROBES,
    UPLOADS,
    blob_key,
    find_reach,
    fresh_probe_key,
    is_probe_key,
    lease_key,
    parse_blob_key,
    parse_chunk_key,
    parse_snapshot_key,
    parse_upload_key,
    snapshot_key,
    upload_prefix,
)
from portside.stores.blobs.objects.leases import LIFE, Lease, is_live
from portside.stores.blobs.objects.placing import Sizes, keep
from portside.stores.blobs.objects.staging import Means, ObjectStaging, UploadMemory
from portside.stores.blobs.open_reads import OpenReads
from portside.stores.interfaces import OrphanedFile, Place, Remove
from portside.stores.marks import NAME as MARK
from portside.stores.marks import Mark, decode_mark, encode_mark
from portside.stores.repairing import BytesReplaced

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore


THREADS = 8
"""Threads that hash; what waits for the network needs none."""

PIECE = 256 * 1024
"""Bytes that are read at least at once, and handed on twice of them at most.

A slow reader keeps several of them waiting; while many reads are open, they are smaller.
"""

BACKOFF = Backoff(0.02, 0.5)

LIST_PAGE = 1000
"""Objects that are listed at once: what one request to S3 gives."""

YOUNG = 3600
"""Seconds after its last write in which a chunk without a lease may belong to a request."""

READ_SIZE = 1024 * 1024
"""Bytes that are hashed at once."""


class ObjectBlobs:
    """Blobs as objects at a key made of their digest, uploads as chunks beside them.

    Nothing is kept on the node, so that every request of one upload may reach another one. Running
    digests are, in memory, and are only a shortcut. An upload is held by a lease; `leases` says
    what holds if a store has no conditional puts. `hold_timeout` is how long, in seconds, a request
    waits for another one to release an upload, and `lease_life` how long, in microseconds, for one
    that died. `clock` returns microseconds since 1970, and `location` is shown to people.
    `brief` is the same store with less patience, for what must end while a lease or a removal's
    claim still holds.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        hold_timeout: float,
        clock: Callable[[], int],
        brief: ObjectStore | None = None,
        location: str = "the object store",
        lease_life: int = LIFE,
        sizes: Sizes | None = None,
    ) -> None:
        self.location = location
        self._store = store
        self._clock = clock
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="portside-objects")
        self._hold_timeout = hold_timeout
        self._lease_life = lease_life
        self._hashes = RunningHashes()
        self._reads = OpenReads(PIECE)
        self._brief = brief or store
        sizes = sizes or Sizes()
        memory = UploadMemory(sizes.together, share=sizes.share, patience=sizes.patience)
        self._means = Means(store, self._brief, self._hashes, self._pool, sizes, memory)
        self._background = BackgroundTasks()

    @property
    def place(self) -> str:
        """The location: everything is there."""
        return self.location

    def create(self) -> None:
        """Do nothing: the first probe shows whether the bucket or container exists."""

    def close(self) -> None:
        """Wait for the threads to finish, and end them."""
        self._pool.shutdown()

    async def stat(self, digest: Digest) -> int | None:
        """Ask for the object's size."""
        with translated("reading a blob"):
            try:
                return (await obstore.head_async(self._brief, blob_key(digest)))["size"]
            except FileNotFoundError:
                return None

    async def read(self, digest: Digest, part: ByteRange) -> AsyncGenerator[bytes, None]:
        """Read a part from one response, as fast as it is taken from here.

        The response is dropped, and its connection closed, when the generator is.
        """
        if not part.length:
            if await self.stat(digest) is None:
                raise _gone(digest)
            return
        with translated("reading a blob"), self._reads.another():
            try:
                found = await obstore.get_async(
                    self._store, blob_key(digest), options={"range": (part.start, part.stop)}
                )
            except FileNotFoundError as error:
                raise _gone(digest) from error
            left = part.length
            async for gathered in found.stream(min_chunk_size=self._reads.piece):
                left -= len(gathered)
                for piece in _pieces(gathered, self._reads.piece):
                    yield piece
        if left:
            raise Unavailable(f"reading a blob: {left} bytes at the end of {digest} did not come")

    @asynccontextmanager
    async def hold(self, upload: UploadId, *, fresh: bool = False) -> AsyncIterator[ObjectStaging]:
        """Lease the upload and renew the lease until the hold ends; a fresh upload needs none.

        What was written to a fresh one was never acknowledged, and is dropped like everything that
        was not.
        """
        if fresh:
            staging = ObjectStaging(upload, None, self._means)
            try:
                yield staging
            finally:
                await self._background.complete(staging.close())
            return
        lease = await self._acquire(upload)
        renewing = asyncio.create_task(lease.keep_renewing())
        staging = ObjectStaging(upload, lease, self._means)
        try:
            yield staging
        finally:
            await self._background.complete(self._leave(staging, lease, renewing))

    async def _acquire(self, upload: UploadId) -> Lease:
        async def attempt() -> Lease | None:
            lease = Lease(self._brief, lease_key(upload), life=self._lease_life, clock=self._clock)
            return lease if await self._or_release(lease) else None

        return await wait_for_hold(upload, self._hold_timeout, attempt, BACKOFF)

    async def _or_release(self, lease: Lease) -> bool:
        """Try to get a lease; release one that comes after the wait for it was cancelled."""
        trying = asyncio.create_task(lease.try_acquire())
        try:
            return await asyncio.shield(trying)
        except asyncio.CancelledError:
            self._background.start(self._give_back(trying, lease))
            raise
        except Unavailable:
            self._background.start(lease.keep_releasing())
            raise

    async def _give_back(self, trying: asyncio.Task[bool], lease: Lease) -> None:
        try:
            if await trying:
                await self._release(lease)
        except Unavailable:
            await lease.keep_releasing()

    async def _leave(
        self, staging: ObjectStaging, lease: Lease, renewing: asyncio.Task[None]
    ) -> None:
        try:
            await staging.close()
        finally:
            await self._release(lease, renewing)

    async def _release(self, lease: Lease, renewing: asyncio.Task[None] | None = None) -> None:
        """Release the lease, if need be later, in the background, when the store works again."""
        if not await lease.release(renewing):
            self._background.start(lease.keep_releasing())

    async def discard(self, upload: UploadId) -> None:
        """Remove the upload's chunks; the holder removes its lease."""
        self._hashes.forget(upload)
        with translated("dropping an upload"):
            found = await obstore.list(self._store, upload_prefix(upload)).collect_async()
            keys = [entry["path"] for entry in found if parse_chunk_key(entry["path"], 0)]
            if keys:
                with suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, keys)

    def remove(self, digest: Digest) -> Remove:
        """Return the function that removes the object."""
        return partial(_remove, self._brief, blob_key(digest))

    def confirm(self, digest: Digest, size: int) -> Place:
        """Return the function that looks at the object."""
        return partial(keep, self._brief, size, blob_key(digest))

    async def probe_reads(self) -> None:
        """Read the mark, which every store has that was served from."""
        with translated("reading the object store"):
            await (await obstore.get_async(self._brief, MARK)).bytes_async()

    async def probe(self) -> None:
        """Put a small object and remove it."""
        key = fresh_probe_key()
        with translated("trying the object store"):
            await obstore.put_async(self._brief, key, b"portside")
            await obstore.delete_async(self._brief, key)

    async def server_time(self) -> int | None:
        """Put a small object, read when the store has put it, and remove it."""
        key = fresh_probe_key()
        with translated("trying the object store"):
            await obstore.put_async(self._brief, key, b"portside")
            found = await obstore.head_async(self._brief, key)
            await obstore.delete_async(self._brief, key)
        return int(found["last_modified"].timestamp()) * 1_000_000

    async def sign(self, digest: Digest, seconds: int) -> str | None:
        """Return a signed URL of the blob; a directory and memory have none."""
        if not isinstance(self._store, (S3Store, AzureStore, GCSStore)):
            return None
        with translated("signing a URL"):
            life = timedelta(seconds=seconds)
            return await obstore.sign_async(self._store, "GET", blob_key(digest), life)

    async def _list(self, prefix: str | None) -> AsyncIterator[ObjectMeta]:
        with translated(f"listing {prefix or 'all objects'}"):
            async for entries in obstore.list(self._store, prefix, chunk_size=LIST_PAGE):
                for entry in entries:
                    yield entry

    async def read_mark(self) -> Mark | None:
        """Read the object of the mark."""
        with translated("reading the mark"):
            content = await self._get(MARK)
        return decode_mark(content) if content is not None else None

    async def _get(self, key: str) -> bytes | None:
        try:
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())
        except FileNotFoundError as error:
            if is_of_the_store(error):
                raise
            return None

    async def put_mark(self, mark: Mark) -> None:
        """Put the object on the condition that there is none."""
        with translated("leaving the mark"), suppress(AlreadyExistsError):
            await obstore.put_async(self._store, MARK, encode_mark(mark), mode="create")

    async def list_snapshots(self) -> list[str]:
        """List the objects, which a directory does not in the order of keys."""
        found = [parse_snapshot_key(entry["path"]) async for entry in self._list(SNAPSHOTS)]
        return sorted(name for name in found if name is not None)

    async def read_snapshot(self, name: str) -> Snapshot | None:
        """Read the object of a snapshot."""
        with translated("reading a snapshot"):
            content = await self._get(snapshot_key(name))
        return decode_snapshot(name, content) if content is not None else None

    async def put_snapshot(self, name: str, snapshot: Snapshot) -> None:
        """Put the object on the condition that there is none."""
        with translated("writing a snapshot"), suppress(AlreadyExistsError):
            content = encode_snapshot(snapshot)
            await obstore.put_async(self._store, snapshot_key(name), content, mode="create")

    async def drop_snapshot(self, name: str) -> None:
        """Delete the object of a snapshot."""
        with translated("removing a snapshot"), suppress(FileNotFoundError):
            await obstore.delete_async(self._store, snapshot_key(name))

    async def holds_blobs(self) -> bool:
        """List up to the first blob."""
        async with aclosing(self.stored_blobs()) as found:
            return await anext(found, None) is not None

    async def stored_blobs(self) -> AsyncGenerator[tuple[Digest, int], None]:
        """List every blob."""
        async for entry in self._list(BLOBS):
            digest = parse_blob_key(entry["path"])
            if digest is not None:
                yield digest, entry["size"]

    async def verify(self, digest: Digest) -> bool | None:
        """Hash the whole object, in a thread."""
        loop = asyncio.get_running_loop()
        hasher = digest.algorithm.hasher()
        with translated("reading a blob"):
            try:
                found = await obstore.get_async(self._store, blob_key(digest))
            except FileNotFoundError:
                return None
            async for piece in found.stream(min_chunk_size=READ_SIZE):
                await loop.run_in_executor(self._pool, hasher.update, piece)
        return Digest.finish(digest.algorithm, hasher) == digest

    async def version(self, digest: Digest) -> str | None:
        """Ask for what the store says of the object: its tag, its version and its time."""
        with translated("looking at a blob"):
            try:
                return _version(await obstore.head_async(self._brief, blob_key(digest)))
            except FileNotFoundError:
                return None

    def require_version(self, digest: Digest, version: str | None) -> Place:
        """Return the function that asks once more."""
        return partial(_require_version, self._brief, blob_key(digest), version)

    async def missing_directories(self) -> list[str]:
        """Return nothing: an object store has no directories."""
        return []

    async def orphaned_files(self) -> AsyncIterator[OrphanedFile]:
        """List the objects that no registry has put there."""
        async for entry in self._list(None):
            if _is_foreign(entry["path"]):
                advice = "not an object of a registry; move it away"
                yield OrphanedFile(entry["path"], advice)

    async def is_orphaned(self, file: OrphanedFile) -> bool:
        """Look for the object once more."""
        if not _is_foreign(file.path):
            return False
        with translated("looking at an object"):
            try:
                await obstore.head_async(self._store, file.path)
            except FileNotFoundError:
                return False
        return True

    async def drop_orphaned_files(self, before: int, *, dry_run: bool = False) -> list[int]:
        """Drop the objects of probes; incomplete multipart uploads are the store's to drop."""
        gone = [entry async for entry in self._list(PROBES) if _written(entry) < before]
        with translated("dropping orphaned objects"):
            for entry in () if dry_run else gone:
                await obstore.delete_async(self._store, entry["path"])
        return [entry["size"] for entry in gone]

    async def staged_uploads(self) -> AsyncIterator[tuple[UploadId, int]]:
        """List every upload that has a chunk, and the bytes up to the first gap."""
        # S3, Azure and Google list in the order of keys, but a directory does not.
        entries = sorted([entry async for entry in self._list(UPLOADS)], key=lambda it: it["path"])
        for upload, found in groupby(entries, lambda entry: parse_upload_key(entry["path"])):
            chunks = [parse_chunk_key(entry["path"], entry["size"]) for entry in found]
            if upload is not None and any(chunks):
                yield upload, find_reach(chunk for chunk in chunks if chunk is not None)

    async def staged_size(self, upload: UploadId) -> int | None:
        """List the upload's chunks."""
        known = [
            chunk
            async for entry in self._list(upload_prefix(upload))
            if (chunk := parse_chunk_key(entry["path"], entry["size"])) is not None
        ]
        return find_reach(known) if known else None

    async def is_held(self, upload: UploadId) -> bool:
        """Read the upload's lease; a blob that comes in one request has none, but is young."""
        with translated("looking at an upload"):
            content = await self._get(lease_key(upload))
        if content is not None:
            return is_live(content, self._clock())
        young = self._clock() - YOUNG * 1_000_000
        entries = [entry async for entry in self._list(upload_prefix(upload))]
        return any(_written(entry) > young for entry in entries)

    async def list_stale_uploads(self, before: int) -> list[UploadId]:
        """List uploads none of whose objects was written since."""
        newest: dict[UploadId, int] = {}
        async for entry in self._list(UPLOADS):
            upload = parse_upload_key(entry["path"])
            if upload is not None:
                newest[upload] = max(newest.get(upload, 0), _written(entry))
        return [upload for upload, written in newest.items() if written < before]


def _pieces(gathered: bytes, size: int) -> Iterator[bytes]:
    """Cut what came at once, and was large, into pieces."""
    if len(gathered) <= 2 * size:
        yield gathered
        return
    view = memoryview(gathered)
    for start in range(0, len(gathered), size):
        yield bytes(view[start : start + size])


def _version(found: ObjectMeta) -> str:
    """Return a text that a write changes: the tag alone is that of the content on many stores."""
    written = found["last_modified"].isoformat()
    return f"{found['size']}-{found['e_tag']}-{found['version']}-{written}"


def _require_version(store: ObjectStore, key: str, version: str | None) -> None:
    with translated("looking at a blob"):
        try:
            found = _version(obstore.head(store, key))
        except FileNotFoundError:
            found = None
    if found != version:
        raise BytesReplaced(key)


def _remove(store: ObjectStore, key: str) -> None:
    with translated("removing a blob"), suppress(FileNotFoundError):
        obstore.delete(store, key)


def _gone(digest: Digest) -> BlobUnknown:
    return BlobUnknown(f"the bytes of {digest} are not in this registry; push the blob again")


def _is_foreign(key: str) -> bool:
    if not key:
        # Some servers list the prefix itself, as the directory that it is to them.
        return False
    known = parse_blob_key(key) is not None or parse_upload_key(key) is not None
    beside = key == MARK or is_probe_key(key) or parse_snapshot_key(key) is not None
    return not known and not beside


def _written(entry: ObjectMeta) -> int:
    """Return the time of an object's last write, in microseconds since 1970."""
    return int(entry["last_modified"].timestamp() * 1_000_000)
