"""Stores whose calls are observed; they are wrapped only where metrics or traces are on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.interfaces import BlobStore, Place, Remove, Staging
from portside.stores.metadata.engine import ChangeCounter, Database, Job, Result
from portside.telemetry.observers import CallObserver

Outcome = TypeVar("Outcome")


class ObservedDatabase:
    """A Database whose reads and writes are observed.

    What is read within a `snapshot` or a `stream` is not: these are long lists, read in the
    background or by commands.
    """

    def __init__(self, database: Database, observer: CallObserver) -> None:
        self._database = database
        self._observer = observer
        self.find = observer.finding(database.find)
        self.clock = database.clock
        self.freshness = database.freshness
        self.can_store = database.can_store
        self.load = database.load
        self.stream = database.stream
        self.snapshot = database.snapshot
        self.snapshot_apart = database.snapshot_apart
        self.hold_blob = database.hold_blob
        self.writers_of = database.writers_of
        self.claim = database.claim
        self.damage = database.damage
        self.probe_reads = database.probe_reads
        self.probe = database.probe

    @property
    def change_counter(self) -> ChangeCounter:
        """The database's own."""
        return self._database.change_counter

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        """Return all rows."""
        with self._observer.during("read", sql):
            return await self._database.find_all(sql, *parameters)

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run one statement as a transaction of its own."""
        with self._observer.during("write", sql):
            return await self._database.execute(sql, *parameters)

    async def write(self, job: Job[Result], *, blob: Digest | None = None) -> Result:
        """Run a job in a transaction."""
        with self._observer.during("write", job):
            return await self._database.write(job, blob=blob)

    async def write_placing(self, job: Job[Result], *, blob: Digest) -> Result:
        """Run a job that places the bytes of a blob."""
        with self._observer.during("place", job):
            return await self._database.write_placing(job, blob=blob)

    async def write_removing(self, job: Job[bool], *, blob: Digest, remove: Remove) -> bool:
        """Run a job, after which the bytes of a blob may be removed."""
        with self._observer.during("remove", job):
            return await self._database.write_removing(job, blob=blob, remove=remove)


class ObservedBlobs:
    """A BlobStore whose calls are observed.

    A read is observed up to its first piece: the rest is sent as fast as the client takes it.
    """

    def __init__(self, blobs: BlobStore, observer: CallObserver) -> None:
        self._blobs = blobs
        self._observer = observer
        self.create = blobs.create
        self.close = blobs.close
        self.list_stale_uploads = blobs.list_stale_uploads

    async def stat(self, digest: Digest) -> int | None:
        """Return the size in bytes of a stored blob; None if it is missing."""
        with self._observer.during("stat", digest):
            return await self._blobs.stat(digest)

    async def read(self, digest: Digest, part: ByteRange) -> AsyncGenerator[bytes, None]:
        """Read a part in pieces."""
        pieces = self._blobs.read(digest, part)
        try:
            with self._observer.during("read", digest):
                piece = await anext(pieces, None)
            while piece is not None:
                yield piece
                try:
                    piece = await anext(pieces, None)
                except Unavailable as error:
                    self._observer.failed("read", error)
                    raise
        finally:
            await pieces.aclose()

    async def sign(self, digest: Digest, seconds: int) -> str | None:
        """Return a URL from which anyone can read a blob."""
        with self._observer.during("sign", digest):
            return await self._blobs.sign(digest, seconds)

    @asynccontextmanager
    async def hold(self, upload: UploadId, *, fresh: bool = False) -> AsyncIterator[Staging]:
        """Hold an upload; what is observed is the wait for it."""
        async with AsyncExitStack() as held:
            with self._observer.during("hold", upload):
                staging = await held.enter_async_context(self._blobs.hold(upload, fresh=fresh))
            yield _ObservedStaging(staging, self._observer)

    async def discard(self, upload: UploadId) -> None:
        """Drop the bytes of an upload."""
        with self._observer.during("discard", upload):
            await self._blobs.discard(upload)

    def remove(self, digest: Digest) -> Remove:
        """Return the function that removes the bytes of a blob."""
        return _observed(self._observer, "remove", digest, self._blobs.remove(digest))

    async def probe_reads(self) -> None:
        """Return if the store can be read."""
        with self._observer.during("probe"):
            await self._blobs.probe_reads()

    async def probe(self) -> None:
        """Return if uploads can be stored."""
        with self._observer.during("probe"):
            await self._blobs.probe()


class _ObservedStaging:
    """A Staging whose calls are observed."""

    def __init__(self, staging: Staging, observer: CallObserver) -> None:
        self._staging = staging
        self._observer = observer
        self.forget = staging.forget
        self.keep = staging.keep

    async def resume(self, offset: int, algorithm: Algorithm) -> None:
        """Continue at an offset."""
        with self._observer.during("resume"):
            await self._staging.resume(offset, algorithm)

    async def write(self, chunk: bytes) -> None:
        """Append bytes; what is observed is the wait for those before them."""
        with self._observer.during("write"):
            await self._staging.write(chunk)

    async def flush(self) -> int:
        """Make everything written so far durable."""
        with self._observer.during("flush"):
            return await self._staging.flush()

    async def finish(self, algorithm: Algorithm) -> Digest:
        """Prepare the bytes to be placed."""
        with self._observer.during("finish"):
            return await self._staging.finish(algorithm)

    async def place(self, digest: Digest) -> Place:
        """Return the function that makes the finished bytes the content of a digest."""
        with self._observer.during("prepare", digest):
            place = await self._staging.place(digest)
        return _observed(self._observer, "place", digest, place)


def _observed(
    observer: CallObserver, call: str, digest: Digest, function: Callable[[], Outcome]
) -> Callable[[], Outcome]:
    """Return a function that is observed, as a part of the request that asks for it.

    It is called in a thread of the database, which serves all requests, and perhaps a second time
    while the first one, which was given up, has not ended.
    """
    context = copy_context()

    def run() -> Outcome:
        with observer.during(call, digest):
            return function()

    return lambda: context.copy().run(run)
