"""The chunks of one upload, while a request writes to it.

What a request writes becomes one object, by a multipart upload that shows nothing before it is
complete: `kill -9` leaves no bytes that could be taken for part of the upload.

The first part of an upload stays in memory until there is more, or until it has to be kept: a small
blob that comes in one request is never staged.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import obstore

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable
from portside.spec.uploads import UploadId
from portside.stores.blobs.batcher import BATCH, Batcher
from portside.stores.blobs.hashes import RunningHashes
from portside.stores.blobs.objects.faults import translated
from portside.stores.blobs.objects.layout import (
    Chunk,
    blob_key,
    find_chain,
    fresh_chunk_key,
    parse_chunk_key,
    upload_prefix,
)
from portside.stores.blobs.objects.leases import Lease
from portside.stores.blobs.objects.placing import Sizes, confirm, copy, join, put, read_chunk
from portside.stores.interfaces import Place
from portside.stores.limiter import Limiter

if TYPE_CHECKING:
    from hashlib import _Hash

    from obstore import AsyncWritableFile
    from obstore.store import ObjectStore


class UploadMemory(Limiter):
    """The memory that the uploads of one process take together; sizes are in bytes.

    An upload that is larger than a batch takes a share of it, and keeps the share until its hold
    ends. If all shares are taken, the upload waits for one; its body is not read while it waits, so
    its client waits too. An upload that has a share never waits for another: every share comes
    back.
    """

    def __init__(self, budget: int, *, share: int, patience: float) -> None:
        refusal = "too many uploads at once; try again"
        super().__init__(max(1, budget // share), patience=patience, refusal=refusal)


class _Share:
    """What one upload has of the memory: nothing, or one share."""

    def __init__(self, memory: UploadMemory) -> None:
        self._memory = memory
        self._is_taken = False

    async def acquire(self) -> None:
        """Take the share, unless it is taken already; raises Unavailable."""
        if not self._is_taken:
            await self._memory.acquire()
            self._is_taken = True

    def release(self) -> None:
        """Return what was taken."""
        if self._is_taken:
            self._is_taken = False
            self._memory.release()


class Means(NamedTuple):
    """What every hold of one blob store works with.

    `brief` is the same store, for requests that are small and must end soon.
    """

    store: ObjectStore
    brief: ObjectStore
    hashes: RunningHashes
    pool: ThreadPoolExecutor
    sizes: Sizes
    memory: UploadMemory


class _Opened(NamedTuple):
    """A chunk that is being written."""

    key: str
    start: int
    writer: AsyncWritableFile


class ObjectStaging(Batcher):
    """The chunks of one upload, leased by its holder; a fresh one needs no lease. See `Staging`."""

    def __init__(self, upload: UploadId, lease: Lease | None, means: Means) -> None:
        super().__init__(upload, means.hashes, means.pool)
        self._lease = lease
        self._means = means
        self._store = means.store
        self._share = _Share(means.memory)
        self._chunks: list[Chunk] = []
        self._written: list[Chunk] = []
        self._opened: _Opened | None = None
        self._unsent: list[bytes] = []
        self._unsent_size = 0

    async def resume(self, offset: int, algorithm: Algorithm) -> None:
        """Find the chunks up to `offset`; a fresh upload has none.

        Other chunks stay until the upload ends: the request that wrote them may have lost its lease
        a moment ago, and be about to have them acknowledged. While there are any, the running
        digest is not used: it could be that of another chunk of the same length.
        """
        is_certain = True
        if self._lease is not None:
            is_certain = await self._find_chunks(offset)
        self._begin(offset, algorithm, use_running=is_certain)

    async def _find_chunks(self, offset: int) -> bool:
        """List the chunks; return whether there are no others than those up to the offset."""
        with translated("listing an upload"):
            found = await obstore.list(self._store, upload_prefix(self._upload)).collect_async()
        chunks = [parse_chunk_key(entry["path"], entry["size"]) for entry in found]
        known = [chunk for chunk in chunks if chunk is not None]
        chain = find_chain(known, offset)
        if chain is None:
            lost = (
                f"upload session {self._upload} should hold {offset} bytes, and some of them are"
                " not in the object store; cancel it and start again"
            )
            raise Unavailable(lost)
        self._check_lease()
        self._chunks = chain
        return len(known) == len(chain)

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()

    async def _hand_over(self) -> None:
        """Start hashing the batch, and sending it unless it may wait in memory.

        A full batch waits for a share of the memory.
        """
        if self._batch_size >= BATCH:
            await self._share.acquire()
        await self._settle()
        if not self._batch:
            return
        self._check_lease()
        batch = b"".join(self._take())
        self._unsent.append(batch)
        self._unsent_size += len(batch)
        jobs = self._start_hashing([batch])
        if not self._may_wait:
            jobs.append(await self._send())
        self._storing = asyncio.gather(*jobs)

    @property
    def _may_wait(self) -> bool:
        """Whether all of the upload is in memory, and small."""
        is_whole = self._unsent_size == self._offset
        return is_whole and self._unsent_size <= self._means.sizes.part

    async def _send(self) -> asyncio.Future[None]:
        """Start sending what waits, to a chunk that is not too long for it."""
        start = self._offset - self._unsent_size
        if self._opened is not None and start - self._opened.start >= self._means.sizes.chunk:
            await self._complete(start)
        if self._opened is None:
            self._opened = self._open(start)
        unsent, self._unsent, self._unsent_size = self._unsent, [], 0
        return self._start(_send(self._opened.writer, unsent))

    def _open(self, start: int) -> _Opened:
        key = fresh_chunk_key(self._upload, start)
        sizes = self._means.sizes
        writer = obstore.open_writer_async(
            self._store, key, buffer_size=sizes.part, max_concurrency=sizes.in_flight
        )
        return _Opened(key, start, writer)

    async def _settle(self) -> None:
        with translated("writing an upload"):
            await super()._settle()

    async def _complete(self, stop: int) -> None:
        """Make the chunk that is being written, up to an offset, an object."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        chunk = Chunk(opened.key, opened.start, stop - opened.start)
        self._chunks.append(chunk)
        self._written.append(chunk)
        with translated("writing an upload"):
            await asyncio.shield(self._start(_close(opened.writer)))

    async def flush(self) -> int:
        """Send all, and complete the chunk; from then on its bytes stay."""
        await self._stage()
        self._check_lease()
        self._acknowledged = self._offset
        return self._offset

    async def _stage(self) -> None:
        await self._hand_over()
        await self._settle()
        if self._unsent:
            self._storing = await self._send()
            await self._settle()
        await self._complete(self._offset)

    async def finish(self, algorithm: Algorithm) -> Digest:
        """Send what may not wait; read the chunks again that this process did not hash."""
        await self._hand_over()
        await self._settle()
        if not self._may_wait:
            await self._stage()
        if self._hasher is None or algorithm is not self._algorithm:
            hasher = await self._hash_all(algorithm)
        else:
            hasher = self._hasher
        self._check_lease()
        return Digest.finish(algorithm, hasher)

    async def _hash_all(self, algorithm: Algorithm) -> _Hash:
        """Hash all; what is acknowledged is read once, however often a digest turns out wrong."""
        hasher, seen = self._acknowledged_hasher(algorithm)
        await self._share.acquire()
        with translated("reading an upload"):
            for chunk in self._chunks:
                if chunk.stop <= seen:
                    continue
                async for piece in read_chunk(self._store, chunk, self._means.sizes.part):
                    await asyncio.shield(self._start_in_thread(hasher.update, piece))
                if chunk.stop == self._acknowledged:
                    self._keep_acknowledged(algorithm, hasher)
        for batch in self._unsent:
            await asyncio.shield(self._start_in_thread(hasher.update, batch))
        return hasher

    async def place(self, digest: Digest) -> Place:
        """Join what was staged in several chunks; return the function that places the whole."""
        key, sizes = blob_key(digest), self._means.sizes
        if not self._chunks:
            return partial(put, self._store, b"".join(self._unsent), key)
        if self._offset > sizes.copy:
            await self._join(key, digest)
            return partial(confirm, self._means.brief, self._offset, key)
        if len(self._chunks) > 1:
            joined = fresh_chunk_key(self._upload, 0)
            # It is the content of the upload, and does not have to stay.
            self._written.append(Chunk(joined, 0, self._offset))
            await self._join(joined, digest)
            self._chunks = self._written[-1:]
        return partial(copy, self._store, self._chunks[0], key)

    async def _join(self, key: str, digest: Digest) -> None:
        await self._share.acquire()
        work = join(self._store, tuple(self._chunks), key, digest, self._means.sizes)
        await asyncio.shield(self._start(work))
        self._check_lease()

    async def close(self) -> None:
        """Wait for what still runs, drop what was not acknowledged, and release the memory."""
        try:
            await self._clear()
        finally:
            self._share.release()

    async def _clear(self) -> None:
        """Remove everything that was not acknowledged.

        A chunk that is being written is completed first: an object can be removed, but a multipart
        upload that no one ends would stay, unseen, until the store itself drops it.
        """
        await self._wait_for_running()
        with suppress(Unavailable):
            await self._complete(self._offset)
        with suppress(Unavailable):
            self._check_lease()
            await self._drop([chunk for chunk in self._written if chunk.stop > self._acknowledged])

    async def _drop(self, chunks: list[Chunk]) -> None:
        """Remove chunks, some of which may be gone already."""
        if chunks:
            with translated("dropping chunks"), suppress(FileNotFoundError):
                await obstore.delete_async(self._store, [chunk.key for chunk in chunks])


async def _send(writer: AsyncWritableFile, batches: list[bytes]) -> None:
    for batch in batches:
        await writer.write(batch)


async def _close(writer: AsyncWritableFile) -> None:
    await writer.close()
