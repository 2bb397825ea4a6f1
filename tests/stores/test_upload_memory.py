"""What the uploads to an object store take together: a budget, and what it does to those in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing

import obstore
import pytest
from obstore.store import ObjectStore

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.blobs.batcher import BATCH
from portside.stores.blobs.objects.placing import Sizes
from portside.stores.blobs.objects.staging import UploadMemory
from portside.stores.blobs.objects.store import ObjectBlobs
from stores.conftest import Clock
from support.content import make_blob

SHA256 = Algorithm.SHA256
SIZES = Sizes(part=5 * BATCH, in_flight=1)

Node = Callable[..., ObjectBlobs]


@pytest.fixture
def node(object_store: ObjectStore, clock: Callable[[], int]) -> Iterator[Node]:
    """Start nodes with memory for so many uploads, which wait for it so many seconds."""
    with ExitStack() as stack:

        def start(shares: float, patience: float = 60) -> ObjectBlobs:
            blobs = ObjectBlobs(
                object_store,
                hold_timeout=0.1,
                clock=clock,
                sizes=SIZES._replace(together=int(shares * SIZES.share), patience=patience),
            )
            stack.callback(blobs.close)
            return blobs

        yield start


class Pushes:
    """Pushes to one node; `most` is how many were beyond their first batch at one time."""

    def __init__(self, blobs: ObjectBlobs) -> None:
        self.most = 0
        self._blobs = blobs
        self._now = 0

    async def push(self, content: bytes) -> None:
        """Push a blob in one request."""
        async with self._blobs.hold(UploadId.fresh(), fresh=True) as staging:
            await staging.resume(0, SHA256)
            await staging.write(content[:BATCH])
            self._now += 1
            self.most = max(self.most, self._now)
            await staging.write(content[BATCH:])
            digest = await staging.finish(SHA256)
            assert digest == Digest.of(content)
            await asyncio.to_thread(await staging.place(digest))
            self._now -= 1

    async def push_all(self, name: str, *, count: int = 8, size: int = 6 * BATCH) -> None:
        """Push different blobs at once, and read them again."""
        contents = [make_blob(size, (name, number)) for number in range(count)]
        await asyncio.gather(*(self.push(content) for content in contents))
        for content in contents:
            pieces = self._blobs.read(Digest.of(content), ByteRange(0, size))
            assert b"".join([piece async for piece in pieces]) == content


@asynccontextmanager
async def taken(blobs: ObjectBlobs) -> AsyncIterator[None]:
    """Have a share of the memory for the length of a block."""
    async with blobs.hold(UploadId.fresh(), fresh=True) as staging:
        await staging.resume(0, SHA256)
        await staging.write(bytes(BATCH))
        yield


class TestShares:
    """So many at once, and the others in their turn."""

    @pytest.mark.parametrize(("shares", "most"), [(0, 1), (1.9, 1), (3, 3)])
    async def test_no_more_than_there_is_memory_for(
        self, node: Node, shares: float, most: int
    ) -> None:
        """All of them succeed; one is let in however little there is."""
        pushes = Pushes(node(shares))
        await pushes.push_all("many")
        assert pushes.most == most

    async def test_a_small_one_needs_none(self, node: Node) -> None:
        """It passes those that wait."""
        blobs = node(1)
        async with taken(blobs):
            pushes = Pushes(blobs)
            await pushes.push_all("small", size=BATCH - 1)
            assert pushes.most > 1

    async def test_one_that_waits_too_long(self, node: Node, object_store: ObjectStore) -> None:
        """It is told to try again, leaves nothing, and can when there is memory."""
        blobs = node(1, patience=0.01)
        async with taken(blobs):
            with pytest.raises(Unavailable, match="too many uploads at once; try again"):
                await Pushes(blobs).push_all("late", count=1)
            assert await obstore.list(object_store).collect_async() == []
        await Pushes(blobs).push_all("late", count=1)

    @pytest.mark.parametrize("end", [RuntimeError, asyncio.CancelledError])
    async def test_one_that_fails(self, node: Node, end: type[BaseException]) -> None:
        """Its share comes back."""
        blobs = node(1, patience=0.01)
        with pytest.raises(end):
            async with taken(blobs):
                raise end
        await Pushes(blobs).push_all("after", count=1)

    async def test_one_whose_clean_up_fails(self, object_store: ObjectStore, clock: Clock) -> None:
        """Its share comes back as well."""
        is_broken = False

        def now() -> int:
            if is_broken:
                raise RuntimeError("the clock is broken")
            return clock()

        async def break_in_hold(blobs: ObjectBlobs) -> None:
            nonlocal is_broken
            async with blobs.hold(UploadId.fresh()) as staging:
                await staging.resume(0, SHA256)
                await staging.write(bytes(BATCH))
                is_broken = True

        sizes = SIZES._replace(together=SIZES.share, patience=0.01)
        blobs = ObjectBlobs(object_store, hold_timeout=0.1, clock=now, sizes=sizes)
        with closing(blobs):
            with pytest.raises(RuntimeError):
                await break_in_hold(blobs)
            is_broken = False
            await Pushes(blobs).push_all("after", count=1)

    @pytest.mark.parametrize("is_joined", [True, False])
    async def test_staged_bytes_that_are_read_again(self, node: Node, is_joined: bool) -> None:
        """To join chunks, and to hash those of another node, takes a share although none came."""

        async def finish(blobs: ObjectBlobs, upload: UploadId, algorithm: Algorithm) -> Digest:
            async with blobs.hold(upload) as staging:
                await staging.resume(10, SHA256)
                digest = await staging.finish(algorithm)
                if is_joined:
                    await asyncio.to_thread(await staging.place(digest))
                return digest

        blobs, upload = node(1, patience=0.01), UploadId.fresh()
        for number in range(2):
            async with blobs.hold(upload) as staging:
                await staging.resume(number * 5, SHA256)
                await staging.write(b"bytes")
                await staging.flush()
                staging.keep()
        wanted = SHA256 if is_joined else Algorithm.SHA512
        async with taken(blobs):
            with pytest.raises(Unavailable, match="too many uploads"):
                await finish(blobs, upload, wanted)
        assert await finish(blobs, upload, wanted) == Digest.of(b"bytesbytes", wanted)


class TestCancellation:
    """Clients that go away while they wait."""

    async def test_a_push(self, node: Node) -> None:
        """Neither is a share lost, nor is there one more."""
        blobs = node(1)
        pushes = Pushes(blobs)
        async with taken(blobs):
            waiting = [asyncio.create_task(pushes.push(bytes(2 * BATCH))) for _ in range(3)]
            # Up to the memory, none of them waits for anything else.
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 3
        await pushes.push_all("after", count=3)
        assert pushes.most == 1

    async def test_at_the_moment_of_its_turn(self) -> None:
        """The share goes to the next one."""
        memory = UploadMemory(1, share=1, patience=60)
        await memory.acquire()
        first, second = (asyncio.create_task(memory.acquire()) for _ in range(2))
        await asyncio.sleep(0)
        memory.release()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        third = asyncio.create_task(memory.acquire())
        await asyncio.sleep(0)
        assert not third.done()
        memory.release()
        await third
