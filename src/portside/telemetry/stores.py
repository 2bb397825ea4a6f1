"""Stores whose calls are counted and timed; they are wrapped only where metrics are on."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from time import perf_counter
from typing import Any, TypeVar

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import StorageFull, Unavailable
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.interfaces import BlobStore, Place, Remove, Staging
from portside.stores.metadata.engine import ChangeCounter, Database, Job, Result
from portside.telemetry import catalogue
from portside.telemetry.catalogue import Metric
from portside.telemetry.tallies import Sample, SharedTally

Outcome = TypeVar("Outcome")


class Calls:
    """The calls of one store, from any thread: how long they took, and those that failed.

    What the store refuses, such as content that it does not have, is not a failure.
    """

    def __init__(self, seconds: Metric, errors: Metric) -> None:
        self._seconds = seconds
        self._errors = errors
        self._tallies: dict[str, SharedTally] = {}
        self._failures = Counter[tuple[str, str]]()

    def tally(self, call: str) -> SharedTally:
        """Return the tally of a call."""
        return self._tallies.setdefault(call, SharedTally(self._seconds.bounds))

    def failed(self, call: str, error: Unavailable) -> None:
        """Count a call that failed."""
        self._failures[call, "full" if isinstance(error, StorageFull) else "unavailable"] += 1

    @contextmanager
    def timed(self, call: str) -> Iterator[None]:
        """Count and time the call that is made in the block."""
        began = perf_counter()
        try:
            yield
        except Unavailable as error:
            self.failed(call, error)
            raise
        finally:
            self.tally(call).add(perf_counter() - began)

    def samples(self) -> Iterator[Sample]:
        """Read what was counted."""
        for call, tally in tuple(self._tallies.items()):
            yield Sample(self._seconds, tally, (call,))
        for (call, error), count in tuple(self._failures.items()):
            yield Sample(self._errors, count, (call, error))


class MeasuredDatabase:
    """A Database whose reads and writes are counted and timed.

    What is read within a `snapshot` or a `stream` is not: these are long lists, read in the
    background or by commands.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._calls = Calls(catalogue.DATABASE_SECONDS, catalogue.DATABASE_ERRORS)
        self._find = database.find
        self._reads = self._calls.tally("read")
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

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        """Return the first row, or None; written out, as it is what most requests wait for."""
        began = perf_counter()
        try:
            return await self._find(sql, *parameters)
        except Unavailable as error:
            self._calls.failed("read", error)
            raise
        finally:
            seconds = perf_counter() - began
            reads = self._reads
            reads.counts[bisect_left(reads.bounds, seconds)] += 1
            reads.seconds += seconds

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        """Return all rows."""
        with self._calls.timed("read"):
            return await self._database.find_all(sql, *parameters)

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run one statement as a transaction of its own."""
        with self._calls.timed("write"):
            return await self._database.execute(sql, *parameters)

    async def write(self, job: Job[Result], *, blob: Digest | None = None) -> Result:
        """Run a job in a transaction."""
        with self._calls.timed("write"):
            return await self._database.write(job, blob=blob)

    async def write_placing(self, job: Job[Result], *, blob: Digest) -> Result:
        """Run a job that places the bytes of a blob."""
        with self._calls.timed("place"):
            return await self._database.write_placing(job, blob=blob)

    async def write_removing(self, job: Job[bool], *, blob: Digest, remove: Remove) -> bool:
        """Run a job, after which the bytes of a blob may be removed."""
        with self._calls.timed("remove"):
            return await self._database.write_removing(job, blob=blob, remove=remove)

    def samples(self) -> Iterator[Sample]:
        """Read what was counted, and what the engine is doing."""
        yield from self._calls.samples()
        load = self._database.load()
        yield Sample(catalogue.DATABASE_RETRIES, load.retries)
        yield Sample(catalogue.CONNECTIONS_IN_USE, load.in_use)
        yield Sample(catalogue.CONNECTIONS_MOST, load.connections)
        yield Sample(catalogue.CONNECTION_WAITERS, load.waiting)
        yield Sample(catalogue.WRITE_QUEUE, load.queued)


class MeasuredBlobs:
    """A BlobStore whose calls are counted and timed.

    A read is timed up to its first piece: the rest is sent as fast as the client takes it.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._calls = Calls(catalogue.STORAGE_SECONDS, catalogue.STORAGE_ERRORS)
        self.samples = self._calls.samples
        self.create = blobs.create
        self.close = blobs.close
        self.list_stale_uploads = blobs.list_stale_uploads

    async def stat(self, digest: Digest) -> int | None:
        """Return the size in bytes of a stored blob; None if it is missing."""
        with self._calls.timed("stat"):
            return await self._blobs.stat(digest)

    async def read(self, digest: Digest, part: ByteRange) -> AsyncGenerator[bytes, None]:
        """Read a part in pieces."""
        pieces = self._blobs.read(digest, part)
        try:
            with self._calls.timed("read"):
                piece = await anext(pieces, None)
            while piece is not None:
                yield piece
                try:
                    piece = await anext(pieces, None)
                except Unavailable as error:
                    self._calls.failed("read", error)
                    raise
        finally:
            await pieces.aclose()

    async def sign(self, digest: Digest, seconds: int) -> str | None:
        """Return a URL from which anyone can read a blob."""
        with self._calls.timed("sign"):
            return await self._blobs.sign(digest, seconds)

    @asynccontextmanager
    async def hold(self, upload: UploadId, *, fresh: bool = False) -> AsyncIterator[Staging]:
        """Hold an upload; what is timed is the wait for it."""
        async with AsyncExitStack() as held:
            with self._calls.timed("hold"):
                staging = await held.enter_async_context(self._blobs.hold(upload, fresh=fresh))
            yield _MeasuredStaging(staging, self._calls)

    async def discard(self, upload: UploadId) -> None:
        """Drop the bytes of an upload."""
        with self._calls.timed("discard"):
            await self._blobs.discard(upload)

    def remove(self, digest: Digest) -> Remove:
        """Return the function that removes the bytes of a blob."""
        return _timed(self._calls, "remove", self._blobs.remove(digest))

    async def probe_reads(self) -> None:
        """Return if the store can be read."""
        with self._calls.timed("probe"):
            await self._blobs.probe_reads()

    async def probe(self) -> None:
        """Return if uploads can be stored."""
        with self._calls.timed("probe"):
            await self._blobs.probe()


class _MeasuredStaging:
    """A Staging whose calls are counted and timed."""

    def __init__(self, staging: Staging, calls: Calls) -> None:
        self._staging = staging
        self._calls = calls
        self.forget = staging.forget
        self.keep = staging.keep

    async def resume(self, offset: int, algorithm: Algorithm) -> None:
        """Continue at an offset."""
        with self._calls.timed("resume"):
            await self._staging.resume(offset, algorithm)

    async def write(self, chunk: bytes) -> None:
        """Append bytes; what is timed is the wait for those before them."""
        with self._calls.timed("write"):
            await self._staging.write(chunk)

    async def flush(self) -> int:
        """Make everything written so far durable."""
        with self._calls.timed("flush"):
            return await self._staging.flush()

    async def finish(self, algorithm: Algorithm) -> Digest:
        """Prepare the bytes to be placed."""
        with self._calls.timed("finish"):
            return await self._staging.finish(algorithm)

    async def place(self, digest: Digest) -> Place:
        """Return the function that makes the finished bytes the content of a digest."""
        with self._calls.timed("prepare"):
            place = await self._staging.place(digest)
        return _timed(self._calls, "place", place)


def _timed(calls: Calls, call: str, function: Callable[[], Outcome]) -> Callable[[], Outcome]:
    def run() -> Outcome:
        with calls.timed(call):
            return function()

    return run
