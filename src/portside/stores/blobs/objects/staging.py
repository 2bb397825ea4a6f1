"""One upload's chunks, while a request writes to it.

Bytes are gathered into batches. While one is sent and hashed, in two threads at once, the next one
is received. What a request writes becomes one object, by a multipart upload that shows nothing
before it is complete: `kill -9` leaves no bytes that anybody could take for part of the upload.

The first part of an upload stays in memory until there is more, or until it has to be kept: a small
blob that comes in one request is never staged at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import obstore

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable
from portside.spec.uploads import UploadId
from portside.stores.blobs.hashes import RunningHashes
from portside.stores.blobs.objects.chunks import Chunk, find_chain
from portside.stores.blobs.objects.faults import translated
from portside.stores.blobs.objects.keys import (
    blob_key,
    fresh_chunk_key,
    parse_chunk_key,
    upload_prefix,
)
from portside.stores.blobs.objects.leases import Lease
from portside.stores.blobs.objects.memory import Share, UploadMemory
from portside.stores.blobs.objects.placing import Sizes, confirm, copy, join, put, read_chunk
from portside.stores.interfaces import Place

if TYPE_CHECKING:
    from hashlib import _Hash

    from obstore import AsyncWritableFile
    from obstore.store import ObjectStore

Result = TypeVar("Result")

BATCH = 1024 * 1024
"""Bytes. Large enough that handing a batch to a thread costs nothing beside sending it."""


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


class ObjectStaging:
    """The chunks of one upload, leased by its holder; a fresh one needs no lease."""

    def __init__(self, upload: UploadId, lease: Lease | None, means: Means) -> None:
        self._upload = upload
        self._lease = lease
        self._means = means
        self._store = means.store
        self._share = Share(means.memory)
        self._algorithm = Algorithm.SHA256
        self._hasher: _Hash | None = None
        self._chunks: list[Chunk] = []
        self._written: list[Chunk] = []
        self._opened: _Opened | None = None
        self._offset = 0
        self._acknowledged = 0
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self._sending: asyncio.Future[Any] | None = None
        self._running: set[asyncio.Future[Any]] = set()

    async def resume(self, offset: int, algorithm: Algorithm) -> None:
        """Find the chunks up to `offset`; a fresh upload has none.

        Others stay until the upload ends: whoever wrote them may have lost its lease a moment ago,
        and be about to have them acknowledged. While there are any, a running digest is not
        believed, for it could be that of another chunk of the same length.
        """
        is_certain = True
        if self._lease is not None:
            is_certain = await self._find_chunks(offset)
        self._offset = self._acknowledged = offset
        self._algorithm = algorithm
        if is_certain or not offset:
            self._hasher = self._means.hashes.at(self._upload, offset, algorithm)

    async def _find_chunks(self, offset: int) -> bool:
        """List the chunks; tells whether there are no others than those up to the offset."""
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

    async def write(self, chunk: bytes) -> None:
        """Append bytes; a batch that is full is handed over as soon as there is memory for more."""
        self._batch.append(chunk)
        self._batch_size += len(chunk)
        if self._batch_size >= BATCH:
            await self._share.take()
            await self._hand_over()

    async def _hand_over(self) -> None:
        """Start hashing the batch, and sending it if it is not to wait in memory."""
        await self._settle()
        if not self._batch:
            return
        self._check_lease()
        batch = b"".join(self._batch)
        self._batch, self._batch_size = [], 0
        self._offset += len(batch)
        self._unsent.append(batch)
        self._unsent_size += len(batch)
        jobs = []
        if self._hasher is not None:
            jobs.append(self._start_in_thread(self._hasher.update, batch))
        if not self._may_wait:
            jobs.append(await self._send())
        self._sending = asyncio.gather(*jobs)

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
        """Wait until what was handed over is sent."""
        sending, self._sending = self._sending, None
        if sending is not None:
            with translated("writing an upload"):
                await asyncio.shield(sending)

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
            self._sending = await self._send()
            await self._settle()
        await self._complete(self._offset)

    def forget(self, offset: int) -> None:
        """Drop flushed chunks again when the hold ends."""
        self._acknowledged = offset

    def keep(self) -> None:
        """Let the next request of this process go on with the hasher."""
        if self._hasher is not None:
            hasher = self._hasher.copy()
            self._means.hashes.keep(self._upload, self._offset, self._algorithm, hasher)

    async def finish(self, algorithm: Algorithm) -> Digest:
        """Send what is not to wait; chunks that this process did not hash are read again."""
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
        hasher = algorithm.hasher()
        await self._share.take()
        with translated("reading an upload"):
            for chunk in self._chunks:
                async for piece in read_chunk(self._store, chunk, self._means.sizes.part):
                    await asyncio.shield(self._start_in_thread(hasher.update, piece))
        for batch in self._unsent:
            await asyncio.shield(self._start_in_thread(hasher.update, batch))
        return hasher

    async def place(self, digest: Digest) -> Place:
        """Join what was staged in pieces; give the function that puts or copies the whole."""
        key, sizes = blob_key(digest), self._means.sizes
        if not self._chunks:
            return partial(put, self._store, b"".join(self._unsent), key)
        if self._offset > sizes.copy:
            await self._join(key, digest)
            return partial(confirm, self._means.brief, self._offset, key)
        if len(self._chunks) > 1:
            joined = fresh_chunk_key(self._upload, 0)
            # It is the content of the upload, and need not stay.
            self._written.append(Chunk(joined, 0, self._offset))
            await self._join(joined, digest)
            self._chunks = self._written[-1:]
        return partial(copy, self._store, self._chunks[0], key)

    async def _join(self, key: str, digest: Digest) -> None:
        await self._share.take()
        work = join(self._store, tuple(self._chunks), key, digest, self._means.sizes)
        await asyncio.shield(self._start(work))
        self._check_lease()

    async def close(self) -> None:
        """Wait for what still runs, drop what was not acknowledged, and give back the memory."""
        try:
            await self._clear()
        finally:
            self._share.give_back()

    async def _clear(self) -> None:
        """Leave nothing behind.

        A chunk that is being written is completed first: an object can be removed, and a multipart
        upload that nobody ends would stay, unseen, until the store itself drops it.
        """
        await asyncio.gather(*self._running, return_exceptions=True)
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

    def _start(self, work: Coroutine[None, None, Result]) -> asyncio.Future[Result]:
        """Begin something that goes on although the request is cancelled."""
        return self._noted(asyncio.ensure_future(work))

    def _start_in_thread(
        self, function: Callable[..., Result], *args: object
    ) -> asyncio.Future[Result]:
        return self._noted(
            asyncio.get_running_loop().run_in_executor(self._means.pool, function, *args)
        )

    def _noted(self, started: asyncio.Future[Result]) -> asyncio.Future[Result]:
        self._running.add(started)
        started.add_done_callback(self._running.discard)
        return started


async def _send(writer: AsyncWritableFile, batches: list[bytes]) -> None:
    for batch in batches:
        await writer.write(batch)


async def _close(writer: AsyncWritableFile) -> None:
    await writer.close()
