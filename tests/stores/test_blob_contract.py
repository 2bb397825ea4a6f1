"""The contract of every blob store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import BlobUnknown, Unavailable, UploadBusy
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.interfaces import InspectableBlobs
from portside.stores.marks import Mark
from support.blobs import finish, listed, read_part, stage
from support.content import make_blob

SHA256 = Algorithm.SHA256


class TestUploads:
    """Staged bytes."""

    @pytest.mark.parametrize("algorithm", Algorithm)
    @pytest.mark.parametrize("size", [0, 1, 5_000_000])
    async def test_whole(self, blobs: InspectableBlobs, size: int, algorithm: Algorithm) -> None:
        """Bytes that were staged in several holds are placed whole, under the right digest."""
        content = make_blob(size, "whole")
        upload = UploadId.fresh()
        middle = await stage(blobs, upload, 0, content[: size // 3], keep=True)
        offset = await stage(blobs, upload, middle, content[size // 3 :], keep=True)
        assert offset == size
        digest = await finish(blobs, upload, offset, algorithm)
        assert digest == Digest.of(content, algorithm)
        assert await blobs.stat(digest) == size
        assert await read_part(blobs, digest, ByteRange(0, size)) == content
        assert await read_part(blobs, digest, ByteRange(size // 2, size)) == content[size // 2 :]

    async def test_what_was_not_acknowledged_is_dropped(self, blobs: InspectableBlobs) -> None:
        """Bytes behind the offset never become part of the blob."""
        upload = UploadId.fresh()
        await stage(blobs, upload, 0, b"kept", keep=True)
        await stage(blobs, upload, 4, b"forgotten", keep=False)
        await stage(blobs, upload, 4, b" too", keep=True)
        digest = await finish(blobs, upload, 8, SHA256)
        assert digest == Digest.of(b"kept too")

    @pytest.mark.parametrize("size", [3_000_000, 12_000_000])
    async def test_in_one_request(self, blobs: InspectableBlobs, size: int) -> None:
        """All that came is hashed, by whichever algorithm the digest names in the end."""
        content = make_blob(size, "one request")
        async with blobs.hold(UploadId.fresh(), fresh=True) as staging:
            await staging.resume(0, SHA256)
            for start in range(0, size, 700_000):
                await staging.write(content[start : start + 700_000])
            for algorithm in (Algorithm.SHA512, SHA256):
                digest = await staging.finish(algorithm)
                assert digest == Digest.of(content, algorithm)
            await asyncio.to_thread(await staging.place(digest))
        assert await read_part(blobs, digest, ByteRange(0, size)) == content

    async def test_another_process(self, make_blobs: Callable[[], InspectableBlobs]) -> None:
        """A store that did not receive the first bytes hashes them again."""
        blobs, other = make_blobs(), make_blobs()
        upload = UploadId.fresh()
        await stage(blobs, upload, 0, b"first", keep=True)
        await stage(other, upload, 5, b"second", keep=True)
        digest = await finish(blobs, upload, 11, SHA256)
        assert digest == Digest.of(b"firstsecond")

    async def test_holds_exclude_each_other(self, blobs: InspectableBlobs) -> None:
        """One request at a time holds an upload; another one waits, and then gives up."""
        upload = UploadId.fresh()
        async with blobs.hold(upload) as staging:
            await staging.resume(0, SHA256)
            with pytest.raises(UploadBusy):
                async with blobs.hold(upload):
                    pass
        async with blobs.hold(upload):
            pass

    async def test_lost_bytes(self, blobs: InspectableBlobs) -> None:
        """An upload with fewer bytes than were acknowledged cannot be resumed."""
        upload = UploadId.fresh()
        await stage(blobs, upload, 0, b"four", keep=True)
        async with blobs.hold(upload) as staging:
            with pytest.raises(Unavailable):
                await staging.resume(5, SHA256)

    async def test_a_blob_does_not_change_with_its_upload(self, blobs: InspectableBlobs) -> None:
        """An upload whose commit failed after placing is resumed without changing the blob."""
        upload = UploadId.fresh()
        await stage(blobs, upload, 0, b"begun", keep=True)
        async with blobs.hold(upload) as staging:
            await staging.resume(5, SHA256)
            await staging.write(b" and ended")
            digest = await staging.finish(SHA256)
            await asyncio.to_thread(await staging.place(digest))
        await stage(blobs, upload, 5, b" otherwise", keep=True)
        assert await read_part(blobs, digest, ByteRange(0, 15)) == b"begun and ended"
        other = await finish(blobs, upload, 15, SHA256)
        assert other == Digest.of(b"begun otherwise")
        assert await listed(blobs.orphaned_files()) == []

    @pytest.mark.parametrize("is_placed", [True, False])
    async def test_a_fresh_one_goes_with_its_hold(
        self, blobs: InspectableBlobs, is_placed: bool
    ) -> None:
        """A discarded upload has no staged bytes, whether it became a blob or not."""
        async with blobs.hold(UploadId.fresh(), fresh=True) as staging:
            await staging.resume(0, SHA256)
            await staging.write(b"content")
            digest = await staging.finish(SHA256)
            assert digest == Digest.of(b"content")
            if is_placed:
                await asyncio.to_thread(await staging.place(digest))
        assert await listed(blobs.staged_uploads()) == []
        assert await listed(blobs.stored_blobs()) == ([(digest, 7)] if is_placed else [])

    async def test_stale(self, blobs: InspectableBlobs) -> None:
        """Uploads are listed by the time of their last byte, and can be dropped, even twice."""
        upload = UploadId.fresh()
        await stage(blobs, upload, 0, b"x", keep=True)
        assert await blobs.list_stale_uploads(0) == []
        assert await blobs.list_stale_uploads(2**60) == [upload]
        for _ in range(2):
            await blobs.discard(upload)
        assert await listed(blobs.staged_uploads()) == []


class TestBlobs:
    """Placed bytes."""

    async def test_unknown(self, blobs: InspectableBlobs) -> None:
        """A missing blob has no size and cannot be read; removing it is not an error."""
        digest = Digest.of(b"unknown")
        assert await blobs.stat(digest) is None
        with pytest.raises(BlobUnknown):
            await read_part(blobs, digest, ByteRange(0, 1))
        await asyncio.to_thread(blobs.remove(digest))

    async def test_placed_again(self, blobs: InspectableBlobs) -> None:
        """The same content can be placed again, which repairs a damaged blob."""
        for _ in range(3):
            upload = UploadId.fresh()
            await stage(blobs, upload, 0, b"content", keep=True)
            digest = await finish(blobs, upload, 7, SHA256)
            assert await blobs.verify(digest)
        assert await listed(blobs.stored_blobs()) == [(digest, 7)]
        await asyncio.to_thread(blobs.remove(digest))
        assert await listed(blobs.stored_blobs()) == []
        assert await listed(blobs.orphaned_files()) == []

    async def test_read_while_removed(self, blobs: InspectableBlobs) -> None:
        """A reader that has begun gets all of it."""
        content = make_blob(1_000_000, "read")
        upload = UploadId.fresh()
        await stage(blobs, upload, 0, content, keep=True)
        digest = await finish(blobs, upload, len(content), SHA256)
        pieces = []
        async for piece in blobs.read(digest, ByteRange(0, len(content))):
            pieces.append(piece)
            await asyncio.to_thread(blobs.remove(digest))
        assert b"".join(pieces) == content

    async def test_too_short(self, blobs: InspectableBlobs) -> None:
        """A body that ends before the blob should is an error, and not the end."""
        digest = await finish(blobs, UploadId.fresh(), 0, SHA256)
        with pytest.raises(Unavailable):
            await read_part(blobs, digest, ByteRange(0, 7))
        upload = UploadId.fresh()
        await stage(blobs, upload, 0, b"content", keep=True)
        digest = await finish(blobs, upload, 7, SHA256)
        with pytest.raises(Unavailable):
            await read_part(blobs, digest, ByteRange(0, 8))

    async def test_probe(self, blobs: InspectableBlobs) -> None:
        """A store that works says so."""
        await blobs.put_mark(Mark("a registry", "a store"))
        await blobs.probe_reads()
        await blobs.probe()


class TestMarks:
    """The mark that names the registry whose blobs these are."""

    async def test_the_first_stays(self, blobs: InspectableBlobs) -> None:
        """Of two that leave a mark, one is heard, and it is no stray."""
        assert await blobs.read_mark() is None
        mark = Mark("a registry", "a store")
        await blobs.put_mark(mark)
        await blobs.put_mark(Mark("another", "one"))
        assert await blobs.read_mark() == mark
        assert await listed(blobs.orphaned_files()) == []
        assert await listed(blobs.stored_blobs()) == []
