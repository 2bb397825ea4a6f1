"""One upload's chunks, while a request writes to it.

Bytes are gathered into batches. While one is sent and hashed, in two threads at once, the next one
is received. What a request writes becomes one object, by a multipart upload that shows nothing
before it is complete: `kill -9` leaves no bytes that anybody could take for part of the upload.
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
from portside.stores.blobs.objects.placing import Sizes, place
from portside.stores.interfaces import Place

if TYPE_CHECKING:
    from hashlib import _Hash

    from obstore import AsyncWritableFile
    from obstore.store import ObjectStore

Result = TypeVar("Result")

BATCH = 1024 * 1024
"""Bytes. Large enough that handing a batch to a thread costs nothing beside sending it."""


class Means(NamedTuple):
    """What every hold of one blob store works with."""

    store: ObjectStore
    hashes: RunningHashes
    pool: ThreadPoolExecutor
    sizes: Sizes


class _Opened(NamedTuple):
    """A chunk that is being written."""

    key: str
    start: int
    writer: AsyncWritableFile


class ObjectStaging:
    """The chunks of one upload, leased by its holder."""

    def __init__(self, upload: UploadId, lease: Lease, means: Means) -> None:
        self._upload = upload
        self._lease = lease
        self._store, self._hashes, self._pool, self._sizes = means
        self._algorithm = Algorithm.SHA256
        self._hasher: _Hash | None = None
        self._chunks: list[Chunk] = []
        self._written: list[Chunk] = []
        self._opened: _Opened | None = None
        self._offset = 0
        self._acknowledged = 0
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._sending: asyncio.Future[list[None]] | None = None
        self._running: set[asyncio.Future[Any]] = set()

    async def resume(self, offset: int, algorithm: Algorithm) -> None:
        """Find the chunks up to `offset`, and drop all others."""
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
        self._lease.check()
        await self._drop([chunk for chunk in known if chunk not in chain])
        self._chunks = chain
        self._offset = self._acknowledged = offset
        self._algorithm = algorithm
        self._hasher = self._hashes.at(self._upload, offset, algorithm)

    async def write(self, chunk: bytes) -> None:
        """Append bytes to the batch, and hand it over when it is full."""
        self._batch.append(chunk)
        self._batch_size += len(chunk)
        if self._batch_size >= BATCH:
            await self._hand_over()

    async def _hand_over(self) -> None:
        """Start sending and hashing the batch, as soon as the one before it is done."""
        await self._settle()
        if not self._batch:
            return
        self._lease.check()
        if self._opened is not None and self._offset - self._opened.start >= self._sizes.chunk:
            await self._complete()
        if self._opened is None:
            self._opened = self._open()
        batch = b"".join(self._batch)
        self._batch, self._batch_size = [], 0
        jobs = [self._start(_send(self._opened.writer, batch))]
        if self._hasher is not None:
            jobs.append(self._start_in_thread(self._hasher.update, batch))
        self._sending = asyncio.gather(*jobs)
        self._offset += len(batch)

    def _open(self) -> _Opened:
        key = fresh_chunk_key(self._upload, self._offset)
        writer = obstore.open_writer_async(
            self._store,
            key,
            buffer_size=self._sizes.part,
            max_concurrency=self._sizes.in_flight,
        )
        return _Opened(key, self._offset, writer)

    async def _settle(self) -> None:
        """Wait until what was handed over is sent."""
        sending, self._sending = self._sending, None
        if sending is not None:
            with translated("writing an upload"):
                await asyncio.shield(sending)

    async def _complete(self) -> None:
        """Make the chunk that is being written an object."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        chunk = Chunk(opened.key, opened.start, self._offset - opened.start)
        self._chunks.append(chunk)
        self._written.append(chunk)
        with translated("writing an upload"):
            await asyncio.shield(self._start(_close(opened.writer)))

    async def flush(self) -> int:
        """Send all, and complete the chunk; from then on its bytes stay."""
        await self._hand_over()
        await self._settle()
        await self._complete()
        self._lease.check()
        self._acknowledged = self._offset
        return self._offset

    def forget(self, offset: int) -> None:
        """Drop flushed chunks again when the hold ends."""
        self._acknowledged = offset

    def keep(self) -> None:
        """Let the next request of this process go on with the hasher."""
        if self._hasher is not None:
            self._hashes.keep(self._upload, self._offset, self._algorithm, self._hasher.copy())

    async def finish(self, algorithm: Algorithm) -> Digest:
        """Send all and complete the chunk; chunks that this process did not hash are read again."""
        await self._hand_over()
        await self._settle()
        await self._complete()
        if self._hasher is None or algorithm is not self._algorithm:
            hasher = await self._hash_chunks(algorithm)
        else:
            hasher = self._hasher
        self._lease.check()
        return Digest.finish(algorithm, hasher)

    async def _hash_chunks(self, algorithm: Algorithm) -> _Hash:
        hasher = algorithm.hasher()
        for chunk in self._chunks:
            size = 0
            with translated("reading an upload"):
                found = await obstore.get_async(self._store, chunk.key)
                async for piece in found.stream(min_chunk_size=BATCH):
                    await asyncio.shield(self._start_in_thread(hasher.update, piece))
                    size += len(piece)
            if size != chunk.size:
                raise Unavailable(f"reading an upload: {chunk.key} is not as long as it was")
        return hasher

    def place(self, digest: Digest) -> Place:
        """Give the function that makes the chunks the object of the blob; they stay."""
        return partial(place, self._store, tuple(self._chunks), blob_key(digest), self._sizes)

    async def close(self) -> None:
        """Wait for what still runs, and drop what was not acknowledged.

        A chunk that is being written is completed first: an object can be removed, and a multipart
        upload that nobody ends would stay, unseen, until the store itself drops it.
        """
        await asyncio.gather(*self._running, return_exceptions=True)
        with suppress(Unavailable):
            await self._complete()
        with suppress(Unavailable):
            self._lease.check()
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
        return self._noted(asyncio.get_running_loop().run_in_executor(self._pool, function, *args))

    def _noted(self, started: asyncio.Future[Result]) -> asyncio.Future[Result]:
        self._running.add(started)
        started.add_done_callback(self._running.discard)
        return started


async def _send(writer: AsyncWritableFile, batch: bytes) -> None:
    await writer.write(batch)


async def _close(writer: AsyncWritableFile) -> None:
    await writer.close()
