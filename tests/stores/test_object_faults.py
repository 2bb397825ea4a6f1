"""What becomes of requests while the object store fails, and what they cost while it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from portside.operations.collect import expire_uploads
from portside.operations.push import Chunk, Push
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable, UploadBusy
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.blobs.objects.layout import lease_key
from portside.stores.blobs.objects.leases import Lease
from portside.stores.blobs.objects.placing import Sizes
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.blobs.objects.urls import Patience, open_store
from portside.stores.metadata.store import Metadata
from support.blobs import listed, read
from support.content import make_blob
from support.faulty_http import Faulty, faulty
from support.s3 import BUCKET, S3
from support.sqlite import open_database
from support.waiting import PATIENCE

SHA256 = Algorithm.SHA256
REPOSITORY = RepositoryName("a")
LIFE = 60_000_000
PART = 5 * 1024 * 1024
ENDLESS = 1_000_000
FORBEARANCE = Patience(connect=10, silence=20, whole=60, retries=20)
"""A store that is slow, as it is on a slow machine, is not down."""

HASTE = FORBEARANCE._replace(retries=1)
"""One that fails is down soon."""

LITTLE = HASTE._replace(connect=1, silence=2)
"""One that says nothing is down soon."""

hasty = pytest.mark.parametrize("patience", [HASTE], ids=["hasty"], indirect=True)


@pytest.fixture
def way(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """Put a way that can fail before the server."""
    with faulty(s3.endpoint) as way:
        for name, value in s3.environment_at(way.url).items():
            monkeypatch.setenv(name, value)
        yield way


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> Patience:
    """Wait for a store."""
    found: Patience = getattr(request, "param", FORBEARANCE)
    return found


@pytest.fixture
def blobs(way: Faulty, patience: Patience, request: pytest.FixtureRequest) -> Iterator[ObjectBlobs]:
    """Keep blobs behind the way, with little patience and small parts."""
    url = f"s3://{BUCKET}/{request.node.name}"
    store = open_store(url, environment={"AWS_ENDPOINT_URL": way.url}, patience=patience)
    sizes = Sizes(part=PART, in_flight=1)
    with closing(ObjectBlobs(store, hold_timeout=0.1, clock=now, sizes=sizes)) as blobs:
        yield blobs


@pytest.fixture
async def metadata(tmp_path: Path) -> AsyncIterator[Metadata]:
    """Keep metadata in a file."""
    with closing(await open_database(tmp_path, clock=now)) as database:
        yield Metadata(database)


@pytest.fixture
def receiver(metadata: Metadata, blobs: ObjectBlobs) -> Push:
    """Receive into both."""
    return Push(
        metadata, blobs, max_blob_bytes=0, max_open_uploads=0, sparse_indexes=False, clock=now
    )


def now() -> int:
    """Return the time in microseconds since 1970."""
    return time.time_ns() // 1000


def body(content: bytes) -> Chunk:
    """Send content in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 256 * 1024):
            yield content[start : start + 256 * 1024]

    return Chunk(pieces())


def methods(way: Faulty) -> list[str]:
    """Return the methods of all requests, and what kind of key each was for."""
    named = []
    for line in way.requests:
        method, target, _ = line.split(" ")
        kind = "uploads" if "/uploads/" in target else "blobs" if "/blobs/" in target else "bucket"
        named.append(f"{method} {kind}")
    return named


class TestCost:
    """Requests to the store."""

    async def test_a_small_blob_in_one_request(self, receiver: Push, way: Faulty) -> None:
        """It is put, and that is all."""
        content = make_blob(300_000, "small")
        await receiver.blob(REPOSITORY, Digest.of(content), body(content))
        assert methods(way) == ["PUT blobs"]

    async def test_a_large_blob_in_one_request(self, receiver: Push, way: Faulty, s3: S3) -> None:
        """It goes through the node once; the store copies it, and removes what was staged."""
        content = make_blob(PART + 300_000, "large")
        await receiver.blob(REPOSITORY, Digest.of(content), body(content))
        assert methods(way) == [
            *("POST uploads", "PUT uploads", "PUT uploads", "POST uploads"),
            *("PUT blobs", "HEAD blobs", "POST bucket"),
        ]
        assert s3.list_unfinished() == []

    async def test_a_small_blob_by_a_session(self, receiver: Push, way: Faulty) -> None:
        """A lease, a look for what is there already, and the blob."""
        content = make_blob(300_000, "session")
        session = await receiver.open_upload(REPOSITORY, SHA256)
        await receiver.finish(REPOSITORY, session.id, Digest.of(content), body(content))
        assert methods(way) == [
            *("PUT uploads", "GET bucket", "PUT blobs", "GET bucket", "POST bucket")
        ]

    async def test_a_blob_that_is_refused_is_not_staged(self, receiver: Push, way: Faulty) -> None:
        """A wrong digest costs nothing."""
        with pytest.raises(Exception, match="have the digest"):
            await receiver.blob(REPOSITORY, Digest.of(b"other"), body(b"content"))
        assert methods(way) == []


class TestErrors:
    """Answers that are none."""

    async def test_one_error_is_not_noticed(
        self, receiver: Push, blobs: ObjectBlobs, way: Faulty
    ) -> None:
        """Requests are sent again."""
        content = make_blob(PART + 1, "once")
        digest = Digest.of(content)
        for where in ("uploads HTTP", "partNumber", "uploadId", "PUT", "HEAD"):
            way.fail(503, 1, where=where)
        await receiver.blob(REPOSITORY, digest, body(content))
        way.fail(500, 1, where="GET")
        assert await read(blobs, digest, len(content)) == content

    @hasty
    async def test_what_was_acknowledged_stays(
        self, receiver: Push, metadata: Metadata, way: Faulty, blobs: ObjectBlobs
    ) -> None:
        """A request that fails moves nothing; it can be sent again when the store is back."""
        content = make_blob(400_000, "stays")
        digest = Digest.of(content)
        session = await receiver.open_upload(REPOSITORY, SHA256)
        await receiver.append(REPOSITORY, session.id, body(content[:100_000]))
        way.fail(503, ENDLESS, where="/0000")
        with pytest.raises(Unavailable):
            await receiver.append(REPOSITORY, session.id, body(content[100_000:]))
        way.heal()
        assert (await metadata.get_upload(REPOSITORY, session.id)).offset == 100_000
        await receiver.append(REPOSITORY, session.id, body(content[100_000:]))
        way.fail(500, ENDLESS, where="/blobs/")
        with pytest.raises(Unavailable):
            await receiver.finish(REPOSITORY, session.id, digest, body(b""))
        with pytest.raises(Unavailable):
            await blobs.stat(digest)
        way.heal()
        await receiver.finish(REPOSITORY, session.id, digest, body(b""))
        assert await read(blobs, digest, len(content)) == content

    @hasty
    async def test_an_answer_that_is_cut_off(
        self, receiver: Push, way: Faulty, blobs: ObjectBlobs
    ) -> None:
        """A reader gets every byte, or an error; here, the rest is asked for."""
        content = make_blob(3_000_000, "cut")
        digest = Digest.of(content)
        await receiver.blob(REPOSITORY, digest, body(content))
        way.cut(1, after=1_000_000, where="GET")
        assert await read(blobs, digest, len(content)) == content
        way.cut(ENDLESS, after=500, where="GET")
        with pytest.raises(Unavailable):
            await read(blobs, digest, len(content))


class TestStalls:
    """A store that says nothing."""

    @pytest.fixture
    def patience(self) -> Patience:
        """Do not wait for long."""
        return LITTLE

    @pytest.mark.parametrize("request_kind", ["push", "pull"])
    async def test_ends_in_time(
        self, receiver: Push, way: Faulty, blobs: ObjectBlobs, request_kind: str
    ) -> None:
        """A request that waits is told to try again, and can."""
        content = make_blob(100_000, request_kind)
        digest = Digest.of(content)

        async def ask() -> None:
            if request_kind == "push":
                await receiver.blob(REPOSITORY, digest, body(content))
            else:
                await read(blobs, digest, len(content))

        await receiver.blob(REPOSITORY, digest, body(content))
        way.stall()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(Unavailable):
                await ask()
        way.heal()
        await ask()


class TestLostAnswers:
    """Requests that had their effect, as nobody knows."""

    @pytest.fixture
    def lease(self, blobs: ObjectBlobs) -> Callable[[UploadId], Lease]:
        """Lease uploads."""

        def make(upload: UploadId) -> Lease:
            return Lease(blobs._store, lease_key(upload), life=LIFE, clock=now)  # noqa: SLF001

        return make

    async def test_a_lease_is_ours_all_the_same(
        self, lease: Callable[[UploadId], Lease], way: Faulty
    ) -> None:
        """The condition of the request that is sent again fails because of the one before it."""
        upload = UploadId.fresh()
        held = lease(upload)
        way.lose(1, where="PUT")
        assert await held.try_acquire()
        way.lose(1, where="PUT")
        await held.renew()
        assert not await lease(upload).try_acquire()
        await held.renew()
        await held.release()
        other = lease(upload)
        assert await other.try_acquire()

    async def test_a_push(self, receiver: Push, way: Faulty, blobs: ObjectBlobs) -> None:
        """Every kind of request is lost once, and the blob is whole."""
        content = make_blob(PART + 1, "lost")
        digest = Digest.of(content)
        session = await receiver.open_upload(REPOSITORY, SHA256)
        for where in ("/lease", "partNumber", "list-type", "?delete"):
            way.lose(1, where=where)
        await receiver.append(REPOSITORY, session.id, body(content))
        way.lose(1, where="PUT /registry/test_a_push/blobs")
        await receiver.finish(REPOSITORY, session.id, digest, body(b""))
        assert await read(blobs, digest, len(content)) == content


@hasty
class TestLeasesThatStay:
    """Leases whose holder could not let go, for the store failed."""

    @staticmethod
    async def append_at_last(receiver: Push, session: UploadSession) -> None:
        """Try again until the session is free, which takes a store that works a moment."""
        async with asyncio.timeout(LIFE / 2_000_000):
            while True:
                try:
                    await receiver.append(REPOSITORY, session.id, body(b"content"))
                except UploadBusy:
                    continue
                return

    async def test_one_that_nobody_knew_of(self, receiver: Push, way: Faulty) -> None:
        """The store leased the upload, and never said so."""
        session = await receiver.open_upload(REPOSITORY, SHA256)
        way.lose(ENDLESS, where="/lease")
        with pytest.raises(Unavailable):
            await receiver.append(REPOSITORY, session.id, body(b"content"))
        way.heal()
        await self.append_at_last(receiver, session)

    async def test_one_that_could_not_be_removed(self, receiver: Push, way: Faulty) -> None:
        """The request is answered all the same, and the upload goes on when the store works."""
        session = await receiver.open_upload(REPOSITORY, SHA256)
        way.fail(500, ENDLESS, where="?delete")
        await receiver.append(REPOSITORY, session.id, body(b"content"))
        with pytest.raises(UploadBusy):
            await receiver.append(REPOSITORY, session.id, body(b"content"))
        way.heal()
        await self.append_at_last(receiver, session)


class TestUnfinished:
    """Multipart uploads, which only the store could end if the registry did not."""

    async def test_none_stays(
        self, receiver: Push, metadata: Metadata, blobs: ObjectBlobs, s3: S3
    ) -> None:
        """Neither of a client that goes away, nor of a session that is cancelled or expires."""
        content = make_blob(PART + 100_000, "unfinished")

        async def stop() -> AsyncIterator[bytes]:
            yield content
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await receiver.blob(REPOSITORY, Digest.of(content), Chunk(stop()))
        cancelled = await receiver.open_upload(REPOSITORY, SHA256)
        with pytest.raises(asyncio.CancelledError):
            await receiver.append(REPOSITORY, cancelled.id, Chunk(stop()))
        await receiver.append(REPOSITORY, cancelled.id, body(content))
        await receiver.cancel(REPOSITORY, cancelled.id)
        assert await listed(blobs.staged_uploads()) == []
        expired = await receiver.open_upload(REPOSITORY, SHA256)
        await receiver.append(REPOSITORY, expired.id, body(content))
        assert await listed(blobs.staged_uploads()) == [(expired.id, len(content))]
        await expire_uploads(metadata, blobs, 2**60)
        assert await listed(blobs.staged_uploads()) == []
        assert s3.list_unfinished() == []

    @hasty
    async def test_none_stays_of_a_join_that_fails(
        self, receiver: Push, way: Faulty, s3: S3
    ) -> None:
        """Two chunks cannot be joined while the store fails, and can afterwards."""
        content = make_blob(2 * PART + 100_000, "join")
        session = await receiver.open_upload(REPOSITORY, SHA256)
        await receiver.append(REPOSITORY, session.id, body(content[:PART]))
        await receiver.append(REPOSITORY, session.id, body(content[PART:]))
        way.fail(500, ENDLESS, where="partNumber=2")
        with pytest.raises(Unavailable):
            await receiver.finish(REPOSITORY, session.id, Digest.of(content), body(b""))
        way.heal()
        assert s3.list_unfinished() == []
        await receiver.finish(REPOSITORY, session.id, Digest.of(content), body(b""))


def test_a_way_that_fails_shows_what_passed(s3: S3) -> None:
    """The way itself: what is counted, and that it ends."""
    with ExitStack() as stack:
        way = stack.enter_context(faulty(s3.endpoint))
        assert (way.requests, way.sent) == ([], 0)
        way.settle()
