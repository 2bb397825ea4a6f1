"""A blob store over an object store, shared by all nodes of a registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, Unavailable
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.blobs.hashes import RunningHashes
from portside.stores.blobs.objects.faults import translated
from portside.stores.blobs.objects.inventory import ObjectInventory
from portside.stores.blobs.objects.keys import (
    blob_key,
    fresh_probe_key,
    lease_key,
    parse_chunk_key,
    upload_prefix,
)
from portside.stores.blobs.objects.leases import LIFE, Lease
from portside.stores.blobs.objects.memory import UploadMemory
from portside.stores.blobs.objects.placing import Sizes, confirm
from portside.stores.blobs.objects.staging import Means, ObjectStaging
from portside.stores.blobs.turns import Pauses, wait_for_turn
from portside.stores.interfaces import Place, Remove
from portside.stores.unfinished import Unfinished

if TYPE_CHECKING:
    from obstore.store import ObjectStore


THREADS = 8
"""Threads that hash; what waits for the network needs none."""

PIECE = 256 * 1024
"""Bytes that are read at least at once, and handed on twice of them at most.

A slow reader keeps several of them waiting. Smaller ones cost more of the processor.
"""

PAUSES = Pauses(0.02, 0.5)


class ObjectBlobs(ObjectInventory):
    """Blobs as objects at a key made of their digest, uploads as chunks beside them.

    Nothing is kept on the node, so that every request of one upload may reach another one. Running
    digests are, in memory, and are only a shortcut. An upload is held by a lease; `leases` says
    what holds if a store has no conditional puts. `hold_timeout` is how long, in seconds, a request
    waits for another one to let go, and `lease_life`, in microseconds, how long it waits for one
    that died. `clock` gives microseconds since 1970, and `location` is what people call the store.
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
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="portside-objects")
        super().__init__(store, pool=pool, clock=clock)
        self.location = location
        self._hold_timeout = hold_timeout
        self._lease_life = lease_life
        self._hashes = RunningHashes()
        self._brief = brief or store
        sizes = sizes or Sizes()
        memory = UploadMemory(sizes.together, share=sizes.share, patience=sizes.patience)
        self._means = Means(store, self._brief, self._hashes, pool, sizes, memory)
        self._unfinished = Unfinished()

    def create(self) -> None:
        """Make nothing: whether the bucket or container is there, the first probe says."""

    def close(self) -> None:
        """Let go of the threads, after what they are doing."""
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
        with translated("reading a blob"):
            try:
                found = await obstore.get_async(
                    self._store, blob_key(digest), options={"range": (part.start, part.stop)}
                )
            except FileNotFoundError as error:
                raise _gone(digest) from error
            left = part.length
            async for gathered in found.stream(min_chunk_size=PIECE):
                left -= len(gathered)
                for piece in _pieces(gathered):
                    yield piece
        if left:
            raise Unavailable(f"reading a blob: {left} bytes at the end of {digest} did not come")

    @asynccontextmanager
    async def hold(self, upload: UploadId, *, fresh: bool = False) -> AsyncIterator[ObjectStaging]:
        """Lease the upload, and renew the lease for as long as the hold lasts; a fresh one is ours.

        What was written to a fresh one was never acknowledged, and so goes as everything does that
        was not.
        """
        if fresh:
            staging = ObjectStaging(upload, None, self._means)
            try:
                yield staging
            finally:
                await self._unfinished.to_its_end(staging.close())
            return
        lease = await self._acquire(upload)
        renewing = asyncio.create_task(lease.keep_renewing())
        staging = ObjectStaging(upload, lease, self._means)
        try:
            yield staging
        finally:
            await self._unfinished.to_its_end(self._leave(staging, lease, renewing))

    async def _acquire(self, upload: UploadId) -> Lease:
        async def attempt() -> Lease | None:
            lease = Lease(self._brief, lease_key(upload), life=self._lease_life, clock=self._clock)
            return lease if await self._or_release(lease) else None

        return await wait_for_turn(upload, self._hold_timeout, attempt, PAUSES)

    async def _or_release(self, lease: Lease) -> bool:
        """Try to get a lease; one that comes when nobody waits for it any more is given back."""
        trying = asyncio.create_task(lease.try_acquire())
        try:
            return await asyncio.shield(trying)
        except asyncio.CancelledError:
            self._unfinished.begin(self._give_back(trying, lease))
            raise
        except Unavailable:
            self._unfinished.begin(lease.keep_releasing())
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
        """Let go, if need be when the store works again; nobody waits for that."""
        if not await lease.release(renewing):
            self._unfinished.begin(lease.keep_releasing())

    async def discard(self, upload: UploadId) -> None:
        """Remove the upload's chunks; its lease goes when its holder lets go."""
        self._hashes.forget(upload)
        with translated("dropping an upload"):
            found = await obstore.list(self._store, upload_prefix(upload)).collect_async()
            keys = [entry["path"] for entry in found if parse_chunk_key(entry["path"], 0)]
            if keys:
                with suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, keys)

    def remove(self, digest: Digest) -> Remove:
        """Give the function that removes the object."""
        return partial(_remove, self._brief, blob_key(digest))

    def confirm(self, digest: Digest, size: int) -> Place:
        """Return the function that looks at the object."""
        return partial(_confirm, self._brief, size, blob_key(digest))

    async def probe(self) -> None:
        """Put a small object and remove it."""
        key = fresh_probe_key()
        with translated("trying the object store"):
            await obstore.put_async(self._brief, key, b"portside")
            await obstore.delete_async(self._brief, key)

    async def sign(self, digest: Digest, seconds: int) -> str | None:
        """Sign a URL of the blob; a directory and memory have none."""
        if not isinstance(self._store, (S3Store, AzureStore, GCSStore)):
            return None
        with translated("signing a URL"):
            life = timedelta(seconds=seconds)
            return await obstore.sign_async(self._store, "GET", blob_key(digest), life)


def _pieces(gathered: bytes) -> Iterator[bytes]:
    """Cut what came at once, and was large, into pieces."""
    if len(gathered) <= 2 * PIECE:
        yield gathered
        return
    view = memoryview(gathered)
    for start in range(0, len(gathered), PIECE):
        yield bytes(view[start : start + PIECE])


def _confirm(store: ObjectStore, size: int, key: str) -> None:
    confirm(store, size, key)


def _remove(store: ObjectStore, key: str) -> None:
    with translated("removing a blob"), suppress(FileNotFoundError):
        obstore.delete(store, key)


def _gone(digest: Digest) -> BlobUnknown:
    return BlobUnknown(f"the bytes of {digest} are not in this registry; push the blob again")
