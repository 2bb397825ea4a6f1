"""What holds for object stores beyond the contract: many nodes, and no disk."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Protocol

import httpx
import obstore
import pytest
from obstore.store import MemoryStore, ObjectStore

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable, UploadBusy
from portside.spec.uploads import UploadId
from portside.stores.blobs.objects import leases
from portside.stores.blobs.objects.layout import blob_key, fresh_chunk_key, lease_key
from portside.stores.blobs.objects.leases import Lease
from portside.stores.blobs.objects.placing import Sizes
from portside.stores.blobs.objects.store import YOUNG, ObjectBlobs
from support.blobs import finish, listed, read, stage
from support.content import make_blob
from support.s3 import S3
from support.waiting import PATIENCE

SHA256 = Algorithm.SHA256
LIFE = 60_000_000
SMALL = Sizes(part=5 * 1024 * 1024, in_flight=1, chunk=6_000_000, copy=3_000_000)


class Clock(Protocol):
    """The clock of the fixture."""

    now: int

    def __call__(self) -> int:
        """Return the time."""
        ...


Node = Callable[..., ObjectBlobs]


@pytest.fixture
def node(object_store: ObjectStore, clock: Clock) -> Iterator[Node]:
    """Start as many nodes over one object store as a test needs."""
    with ExitStack() as stack:

        def start(sizes: Sizes | None = None) -> ObjectBlobs:
            blobs = ObjectBlobs(
                object_store, hold_timeout=0.1, clock=clock, lease_life=LIFE, sizes=sizes
            )
            stack.callback(blobs.close)
            return blobs

        yield start


def keys(store: ObjectStore, prefix: str) -> list[str]:
    """List the keys below a prefix."""
    return sorted(entry["path"] for page in obstore.list(store, prefix) for entry in page)


class TestManyNodes:
    """Requests of one upload reach different nodes."""

    async def test_every_request_on_another_node(
        self, node: Node, object_store: ObjectStore
    ) -> None:
        """The chunks of three nodes become one blob on a fourth, and nothing else is left."""
        content = make_blob(9_000_000, "nodes")
        upload = UploadId.fresh()
        offset = 0
        for part in (content[:1], content[1:7_000_000], content[7_000_000:]):
            offset = await stage(node(), upload, offset, part)
        digest = await finish(node(), upload, offset)
        assert digest == Digest.of(content)
        assert await read(node(), digest, len(content)) == content
        assert keys(object_store, "uploads") == []
        assert keys(object_store, "blobs") == [blob_key(digest)]

    async def test_one_holder(self, node: Node) -> None:
        """The second request waits, then gives up; once the first is done, it gets in."""
        first, second = node(), node()
        upload = UploadId.fresh()
        async with first.hold(upload):
            assert await second.is_held(upload)
            with pytest.raises(UploadBusy):
                async with second.hold(upload):
                    pass
        assert not await second.is_held(upload)
        async with second.hold(upload):
            pass

    async def test_several_at_once(self, node: Node) -> None:
        """Of several requests at the same moment, never two hold the upload."""
        upload = UploadId.fresh()
        inside = 0
        most = 0

        async def one() -> None:
            nonlocal inside, most
            try:
                async with node().hold(upload):
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0)
                    inside -= 1
            except UploadBusy:
                pass

        await asyncio.gather(*(one() for _ in range(4)))
        assert most == 1

    async def test_a_dead_holder_is_waited_for_until_its_lease_expires(
        self, node: Node, object_store: ObjectStore, clock: Clock
    ) -> None:
        """A node that was killed leaves its lease behind."""
        upload = UploadId.fresh()
        await stage(node(), upload, 0, b"begun")
        dead = Lease(object_store, lease_key(upload), life=LIFE, clock=clock)
        assert await dead.try_acquire()
        clock.now += LIFE - 1
        with pytest.raises(UploadBusy):
            await stage(node(), upload, 5, b" too early")
        clock.now += 1
        assert await stage(node(), upload, 5, b" and on") == 12
        with pytest.raises(Unavailable):
            dead.check()
        with pytest.raises(Unavailable):
            await dead.renew()

    async def test_a_hold_renews_its_lease(self, object_store: ObjectStore) -> None:
        """What the lease says changes while the hold goes on, before it ends, with nobody asking.

        A machine that stands still for a moment may miss one end, and not the next one.
        """
        upload, life = UploadId.fresh(), 600_000

        def now() -> int:
            return time.time_ns() // 1000

        def end() -> int:
            note = json.loads(bytes(obstore.get(object_store, lease_key(upload)).bytes()))
            return int(note["expires"])

        blobs = ObjectBlobs(object_store, hold_timeout=0, clock=now, lease_life=life)
        with closing(blobs):
            async with blobs.hold(upload):
                last = following = end()
                async with asyncio.timeout(PATIENCE):
                    while not last < following < last + life:
                        last, following = following, await asyncio.to_thread(end)

    async def test_a_renewed_lease_does_not_expire(
        self, object_store: ObjectStore, clock: Clock
    ) -> None:
        """A long body is not interrupted."""
        key = lease_key(UploadId.fresh())
        lease = Lease(object_store, key, life=LIFE, clock=clock)
        assert await lease.try_acquire()
        for _ in range(3):
            clock.now += LIFE - 1
            await lease.renew()
            other = Lease(object_store, key, life=LIFE, clock=clock)
            assert not await other.try_acquire()
        await lease.release()
        assert await other.try_acquire()

    async def test_a_holder_that_was_too_slow_acknowledges_nothing(
        self, node: Node, clock: Clock
    ) -> None:
        """Its bytes do not count, even if they reach the store in the end."""
        slow, quick = node(), node()
        upload = UploadId.fresh()
        await stage(slow, upload, 0, b"begun")
        async with slow.hold(upload) as staging:
            await staging.resume(5, SHA256)
            await staging.write(b" slowly")
            clock.now += LIFE
            assert await stage(quick, upload, 5, b" quickly") == 13
            with pytest.raises(Unavailable):
                await staging.flush()
        assert await finish(quick, upload, 13) == Digest.of(b"begun quickly")

    async def test_a_release_leaves_the_lease_of_another(
        self, object_store: ObjectStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A holder that returns too late does not remove the lease of its successor.

        Nor does one that never learned whether it got the lease.
        """
        monkeypatch.setattr(leases, "RELEASE_PAUSE", 0)
        key = lease_key(UploadId.fresh())
        late = Lease(object_store, key, life=LIFE, clock=clock)
        heir = Lease(object_store, key, life=LIFE, clock=clock)
        assert await late.try_acquire()
        clock.now += LIFE
        assert await heir.try_acquire()
        await late.release()
        await heir.renew()
        for other in (late, Lease(object_store, key, life=LIFE, clock=clock)):
            await other.keep_releasing()
            await heir.renew()


class TestChunks:
    """Staged objects."""

    async def test_what_nobody_acknowledged_is_no_part_of_it(
        self, node: Node, object_store: ObjectStore
    ) -> None:
        """Chunks beyond the offset, or that end elsewhere, are removed when the upload ends."""
        upload = UploadId.fresh()
        await stage(node(), upload, 0, b"kept")
        for offset, content in ((4, b"beyond"), (0, b"ends elsewhere"), (2, b"x")):
            obstore.put(object_store, fresh_chunk_key(upload, offset), content)
        assert await stage(node(), upload, 4, b" too") == 8
        assert await finish(node(), upload, 8) == Digest.of(b"kept too")
        assert keys(object_store, "uploads") == []

    async def test_what_is_acknowledged_late_is_there(self, node: Node, clock: Clock) -> None:
        """A request that resumes does not drop what the one before it was about to acknowledge."""
        upload = UploadId.fresh()
        await stage(node(), upload, 0, b"begun")
        async with node().hold(upload) as late:
            await late.resume(5, SHA256)
            await late.write(b" slowly")
            assert await late.flush() == 12
            clock.now += LIFE
            async with node().hold(upload) as heir:
                await heir.resume(5, SHA256)
        assert await finish(node(), upload, 12) == Digest.of(b"begun slowly")

    async def test_of_two_chunks_for_one_offset_the_placed_one_is_hashed(
        self, node: Node, object_store: ObjectStore
    ) -> None:
        """A running digest of the other one would make a wrong blob."""
        for byte in "0f":
            blobs, upload = node(), UploadId.fresh()
            async with blobs.hold(upload) as staging:
                await staging.resume(0, SHA256)
                await staging.write(b"acknowledged")
                await staging.flush()
                staging.keep()
            other = fresh_chunk_key(upload, 0)
            obstore.put(object_store, f"{other[:-16]}{byte * 16}", b"left over :(")
            digest = await finish(blobs, upload, 12)
            assert await blobs.verify(digest)

    async def test_a_body_that_is_cut_off_keeps_what_arrived(self, node: Node) -> None:
        """The client asks for the offset, and continues from there on another node."""
        content = make_blob(8_000_000, "cut")
        upload = UploadId.fresh()
        async with node().hold(upload) as staging:
            await staging.resume(0, SHA256)
            await staging.write(content[:5_500_000])
            reached = await staging.flush()
        assert reached == 5_500_000
        assert await stage(node(), upload, reached, content[reached:]) == len(content)
        assert await finish(node(), upload, len(content)) == Digest.of(content)

    @pytest.mark.parametrize("end", [RuntimeError, asyncio.CancelledError])
    async def test_a_hold_that_fails_leaves_nothing_new(
        self, node: Node, object_store: ObjectStore, end: type[BaseException]
    ) -> None:
        """Bytes that were not flushed are removed, and so is the lease."""
        upload = UploadId.fresh()
        await stage(node(), upload, 0, b"kept")
        before = keys(object_store, f"uploads/{upload}")

        async def fail() -> None:
            async with node().hold(upload) as staging:
                await staging.resume(4, SHA256)
                await staging.write(make_blob(6_000_000, "gone"))
                raise end

        with pytest.raises(end):
            await fail()
        assert keys(object_store, f"uploads/{upload}") == before

    async def test_a_long_body_becomes_several_chunks_and_one_blob(
        self, node: Node, object_store: ObjectStore
    ) -> None:
        """A store limits the parts of an object, and the bytes that it copies at once."""
        content = make_blob(20_000_000, "long")
        upload = UploadId.fresh()
        await stage(node(SMALL), upload, 0, content)
        assert len(keys(object_store, f"uploads/{upload}")) > 2
        digest = await finish(node(SMALL), upload, len(content))
        assert digest == Digest.of(content)
        assert await node().verify(digest)

    async def test_one_chunk_too_large_to_copy(self, node: Node) -> None:
        """It is read and written again."""
        content = make_blob(5_500_000, "large")
        upload = UploadId.fresh()
        await stage(node(SMALL), upload, 0, content)
        digest = await finish(node(SMALL), upload, len(content))
        assert await node().verify(digest)

    async def test_removed_between_the_join_and_the_transaction(self, node: Node) -> None:
        """It is not acknowledged, and can be placed again."""
        content = make_blob(5_500_000, "removed")
        blobs, upload = node(SMALL), UploadId.fresh()
        await stage(blobs, upload, 0, content)
        async with blobs.hold(upload) as staging:
            await staging.resume(len(content), SHA256)
            digest = await staging.finish(SHA256)
            place = await staging.place(digest)
            await asyncio.to_thread(blobs.remove(digest))
            with pytest.raises(Unavailable, match="try again"):
                await asyncio.to_thread(place)
        assert await finish(node(SMALL), upload, len(content)) == digest
        assert await node().verify(digest)

    async def test_staged_bytes_that_changed_become_no_blob(
        self, node: Node, object_store: ObjectStore
    ) -> None:
        """Chunks are verified once more while they are joined."""
        content = make_blob(5_500_000, "changed")
        blobs, upload = node(SMALL), UploadId.fresh()
        await stage(blobs, upload, 0, content)
        async with blobs.hold(upload) as staging:
            await staging.resume(len(content), SHA256)
            digest = await staging.finish(SHA256)
            (chunk,) = (key for key in keys(object_store, "uploads") if "lease" not in key)
            obstore.put(object_store, chunk, bytes(len(content)))
            with pytest.raises(Unavailable, match="no longer the content"):
                await staging.place(digest)
        assert keys(object_store, "blobs") == []


class TestBlobs:
    """Placed objects."""

    @pytest.mark.parametrize("damaged", [b"cont", b"CONTENT"])
    @pytest.mark.parametrize("staged", [True, False])
    async def test_a_damaged_one_is_healed(
        self, node: Node, object_store: ObjectStore, damaged: bytes, staged: bool
    ) -> None:
        """The next push of the blob repairs it, whatever is wrong with it."""
        blobs, upload = node(), UploadId.fresh()
        key = blob_key(Digest.of(b"content"))
        obstore.put(object_store, key, damaged)
        offset = await stage(blobs, upload, 0, b"content") if staged else 0
        async with blobs.hold(upload) as staging:
            await staging.resume(offset, SHA256)
            await staging.write(b"content"[offset:])
            digest = await staging.finish(SHA256)
            await asyncio.to_thread(await staging.place(digest))
        assert bytes(obstore.get(object_store, key).bytes()) == b"content"

    async def test_a_blob_can_be_taken_back(self, node: Node) -> None:
        """Placed bytes can be removed if no row refers to them."""
        blobs = node()
        async with blobs.hold(UploadId.fresh(), fresh=True) as staging:
            await staging.resume(0, SHA256)
            await staging.write(b"content")
            digest = await staging.finish(SHA256)
            undo = await asyncio.to_thread(await staging.place(digest))
            assert undo is not None
            await asyncio.to_thread(undo)
            assert await blobs.stat(digest) is None

    async def test_a_short_object_is_no_blob(self, node: Node, object_store: ObjectStore) -> None:
        """A reader is told, instead of being left with too few bytes."""
        digest = Digest.of(b"content")
        obstore.put(object_store, blob_key(digest), b"cont")
        with pytest.raises(Unavailable):
            await read(node(), digest, 7)
        assert await node().verify(digest) is False

    async def test_orphaned_files(self, node: Node, object_store: ObjectStore) -> None:
        """Objects that no registry has stored are reported."""
        obstore.put(object_store, "blobs/sha256/ab/foreign", b"x")
        obstore.put(object_store, lease_key(UploadId.fresh()), b"x")
        (found,) = await listed(node().orphaned_files())
        assert found.path == "blobs/sha256/ab/foreign"
        assert await node().is_orphaned(found)
        obstore.delete(object_store, found.path)
        assert not await node().is_orphaned(found)

    async def test_a_probe_that_crashed_goes(self, node: Node, object_store: ObjectStore) -> None:
        """When it is old."""
        obstore.put(object_store, "probes/0123456789abcdef", b"portside")
        modified = obstore.head(object_store, "probes/0123456789abcdef")["last_modified"]
        written = int(modified.timestamp() * 1_000_000)
        assert await node().drop_orphaned_files(written) == []
        assert await node().drop_orphaned_files(written + 1) == [8]
        assert keys(object_store, "probes") == []

    async def test_an_upload_with_a_lease_alone_is_stale(
        self, node: Node, clock: Clock, object_store: ObjectStore
    ) -> None:
        """A node that was killed before the first chunk leaves an orphaned lease."""
        upload = UploadId.fresh()
        assert await Lease(object_store, lease_key(upload), life=LIFE, clock=clock).try_acquire()
        clock.now += LIFE
        modified = obstore.head(object_store, lease_key(upload))["last_modified"]
        written = int(modified.timestamp() * 1_000_000)
        assert await node().list_stale_uploads(written) == []
        assert await node().list_stale_uploads(written + 1) == [upload]
        async with node().hold(upload):
            await node().discard(upload)
        assert await node().list_stale_uploads(2**60) == []

    async def test_a_chunk_without_a_lease_is_in_use_while_it_is_young(
        self, node: Node, clock: Clock, object_store: ObjectStore
    ) -> None:
        """A blob that comes in one request has a chunk and neither a lease nor a session."""
        upload = UploadId.fresh()
        key = fresh_chunk_key(upload, 0)
        obstore.put(object_store, key, b"content")
        written = int(obstore.head(object_store, key)["last_modified"].timestamp() * 1_000_000)
        clock.now = written + 1_000_000
        assert await node().is_held(upload)
        clock.now = written + YOUNG * 1_000_000 + 1_000_000
        assert not await node().is_held(upload)


class TestS3:
    """What only a real server shows."""

    @pytest.fixture
    def object_store(
        self, make_s3: Callable[[str], ObjectStore], request: pytest.FixtureRequest
    ) -> ObjectStore:
        """Use the server."""
        return make_s3(request.node.name)

    async def test_a_signed_url_needs_no_credentials(
        self, node: Node, object_store: ObjectStore
    ) -> None:
        """The URL reads the blob or a range of it, and nothing else."""
        digest = Digest.of(b"content")
        obstore.put(object_store, blob_key(digest), b"content")
        url = await node().sign(digest, 60)
        assert url is not None
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).content == b"content"
            assert (await client.get(url, headers={"Range": "bytes=1-3"})).content == b"ont"
            assert (await client.get(url.partition("?")[0])).status_code == 403

    async def test_no_bucket(self, make_s3: Callable[..., ObjectStore]) -> None:
        """A registry whose bucket is not there says so when it is tried."""
        blobs = ObjectBlobs(make_s3("x", bucket="missing"), hold_timeout=0.1, clock=lambda: 0)
        with pytest.raises(
            Unavailable, match=r"trying the object store: .* create it, .*\(NoSuchBucket\)$"
        ):
            await blobs.probe()
        with pytest.raises(
            Unavailable, match=r"reading the object store: .* create it, .*\(NoSuchBucket\)$"
        ):
            await blobs.probe_reads()
        blobs.close()


async def test_a_store_that_is_down() -> None:
    """Every request says so, in one line without a signature."""
    store = obstore.store.S3Store(
        "bucket",
        endpoint="http://127.0.0.1:1",
        region="us-east-1",
        access_key_id="key",
        secret_access_key="secret",  # noqa: S106
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    blobs = ObjectBlobs(store, hold_timeout=0.1, clock=lambda: 0)
    with pytest.raises(Unavailable, match=r"reading a blob: [^\n?]+$"):
        await blobs.stat(Digest.of(b""))
    with pytest.raises(Unavailable):
        async with blobs.hold(UploadId.fresh()):
            pass
    blobs.close()


async def test_memory_has_no_signed_urls() -> None:
    """Nor does a directory: the blob is streamed instead."""
    blobs = ObjectBlobs(MemoryStore(), hold_timeout=0.1, clock=lambda: 0)
    assert await blobs.sign(Digest.of(b""), 60) is None
    blobs.close()


MEMORY = """
import asyncio, os, resource, sys
from portside.spec.digests import Algorithm
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.blobs.objects.urls import open_store

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

async def go(size):
    blobs = ObjectBlobs(open_store(sys.argv[1], environment=os.environ), hold_timeout=1,
                        clock=lambda: 0)
    await blobs.probe()
    before = peak()
    piece = os.urandom(64 * 1024)
    upload = UploadId.fresh()
    async with blobs.hold(upload) as staging:
        await staging.resume(0, Algorithm.SHA256)
        for _ in range(size // len(piece)):
            await staging.write(piece)
        digest = await staging.finish(Algorithm.SHA256)
        await asyncio.to_thread(await staging.place(digest))
        await blobs.discard(upload)
    seen = 0
    async for piece in blobs.read(digest, ByteRange(0, size)):
        seen += len(piece)
    assert seen == size
    print(digest, peak() - before)
    blobs.close()

asyncio.run(go(int(sys.argv[2])))
"""


def test_memory_does_not_grow_with_the_blob(s3: S3) -> None:
    """A blob of 100 MiB goes both ways in a few parts of 8 MiB."""
    size = 100 * 1024 * 1024
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, f"s3://registry/memory-{time.time_ns()}", str(size)],
        env={**os.environ, **s3.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    digest, grown = done.stdout.split()
    assert len(digest) == len("sha256:") + hashlib.sha256().digest_size * 2
    assert int(grown) < 64 * 1024 * 1024
