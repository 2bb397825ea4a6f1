"""What a directory holds while uploads go on, fail, and are cut off."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable, UploadBusy
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.interfaces import OrphanedFile
from support.blobs import finish, listed, read_part, stage
from support.waiting import until

SHA256 = Algorithm.SHA256
LONG = 3_000_000


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[DiskBlobs]:
    """Make a store."""
    with closing(DiskBlobs(tmp_path, hold_timeout=0.05)) as store:
        store.create()
        yield store


def open_files() -> set[str]:
    """Return the files that this process has open, as far as they are files of a store."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in found if "/uploads/" in name or "/blobs/" in name}


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: the write that would is cut short, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_write_that_is_cut_short(blobs: DiskBlobs) -> None:
    """What the system writes in part is written on, or the request fails and keeps the offset."""
    upload = UploadId.fresh()
    await stage(blobs, upload, 0, b"kept", keep=True)
    for size in (1_500_000, LONG):
        with files_up_to(size), pytest.raises(Unavailable, match="writing an upload"):
            await stage(blobs, upload, 4, bytes(LONG))
    assert await blobs.staged_size(upload) == 4
    assert await finish(blobs, upload, 4) == Digest.of(b"kept")


async def test_bytes_that_a_crash_left(blobs: DiskBlobs, tmp_path: Path) -> None:
    """Bytes behind the offset are no part of the blob, however short what follows is."""
    upload = UploadId.fresh()
    await stage(blobs, upload, 0, b"kept", keep=True)
    (tmp_path / "uploads" / upload).write_bytes(b"kept, and never acknowledged")
    async with blobs.hold(upload) as staging:
        await staging.resume(4, SHA256)
        await staging.write(b"!")
        digest = await staging.finish(SHA256)
        await asyncio.to_thread(await staging.place(digest))
    assert digest == Digest.of(b"kept!")
    assert await blobs.stat(digest) == 5


async def test_what_was_not_acknowledged_takes_no_room(blobs: DiskBlobs) -> None:
    """It goes when its hold ends, flushed or not; a hold alone leaves no file."""
    upload = UploadId.fresh()
    await stage(blobs, upload, 0, b"kept", keep=True)
    for is_flushed in (True, False):
        async with blobs.hold(upload) as staging:
            await staging.resume(4, SHA256)
            await staging.write(bytes(LONG))
            if is_flushed:
                await staging.flush()
                staging.forget(4)
        assert await blobs.staged_size(upload) == 4
    async with blobs.hold(UploadId.fresh()):
        pass
    assert await listed(blobs.staged_uploads()) == [(upload, 4)]


async def test_nothing_stays_open(blobs: DiskBlobs, tmp_path: Path) -> None:
    """However a request ends, and however often it tries, it closes what it has opened."""
    upload = UploadId.fresh()
    await stage(blobs, upload, 0, b"begun", keep=True)
    async with blobs.hold(upload) as staging:
        await staging.resume(5, SHA256)
        digest = await staging.finish(SHA256)
        await asyncio.to_thread(await staging.place(digest))
        held = open_files()
        with pytest.raises(UploadBusy):
            async with blobs.hold(upload):
                pass
        assert open_files() == held
    assert open_files() == set()
    # The bytes are those of a blob by now, so that this goes on in a copy.
    async with blobs.hold(upload) as staging:
        await staging.resume(5, SHA256)
        assert open_files() == {str(tmp_path / "uploads" / upload)}
        assert await blobs.is_held(upload)
    async for _ in blobs.read(digest, ByteRange(0, 5)):
        break
    pieces = blobs.read(digest, ByteRange(0, 5))
    await anext(pieces)
    await pieces.aclose()
    with pytest.raises(Unavailable):
        await read_part(blobs, digest, ByteRange(0, 6))
    waiting = asyncio.ensure_future(blobs.hold(upload).__aenter__())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with blobs.hold(upload):
        pass
    # The attempt that was cancelled closes what it has opened as soon as its thread has ended.
    await asyncio.to_thread(until, lambda: not open_files())


async def test_a_copy_that_fails(blobs: DiskBlobs, tmp_path: Path) -> None:
    """The upload and the blob stay as they were, and nothing is left beside them."""
    upload = UploadId.fresh()
    content = bytes(LONG)
    await stage(blobs, upload, 0, content, keep=True)
    async with blobs.hold(upload) as staging:
        await staging.resume(LONG, SHA256)
        digest = await staging.finish(SHA256)
        await asyncio.to_thread(await staging.place(digest))
    with files_up_to(1_500_000), pytest.raises(Unavailable, match="writing an upload"):
        async with blobs.hold(upload) as staging:
            await staging.resume(LONG, SHA256)
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == [upload]
    assert await finish(blobs, upload, LONG) == digest
    assert open_files() == set()


async def test_placed_bytes_are_taken_back_only_where_there_were_none(blobs: DiskBlobs) -> None:
    """Over a blob that was there, placing leaves nothing to undo."""
    undos = []
    for _ in range(2):
        async with blobs.hold(UploadId.fresh(), fresh=True) as staging:
            await staging.resume(0, SHA256)
            await staging.write(b"content")
            digest = await staging.finish(SHA256)
            undos.append(await asyncio.to_thread(await staging.place(digest)))
    assert undos[1] is None
    assert undos[0] is not None
    undos[0]()
    assert await blobs.stat(digest) is None


async def test_what_is_stale(blobs: DiskBlobs, tmp_path: Path) -> None:
    """Uploads and temporary files are old once they were written before a time, in microseconds."""
    uploads = tmp_path / "uploads"
    before = 1_700_000_000_000_001
    young, old, held = (UploadId.fresh() for _ in range(3))
    for upload, age in ((young, 0), (old, 1), (held, 1)):
        for suffix in ("", ".copy", ".placing"):
            path = uploads / f"{upload}{suffix}"
            path.write_bytes(b"four")
            os.utime(path, ns=(0, (before - age) * 1000))
    assert sorted(await blobs.list_stale_uploads(before)) == sorted([old, held])
    async with blobs.hold(held):
        assert await blobs.drop_orphaned_files(before) == [4, 4]
    names = {path.name for path in uploads.iterdir()}
    beside = {f"{upload}{suffix}" for upload in (young, held) for suffix in (".copy", ".placing")}
    assert names == {young, old, held} | beside


async def test_what_is_linked_frees_nothing(blobs: DiskBlobs, tmp_path: Path) -> None:
    """A temporary name of bytes that have another one is dropped, and counts for nothing."""
    kept, beside = tmp_path / "uploads" / "kept", tmp_path / "uploads" / f"{UploadId.fresh()}.copy"
    kept.write_bytes(b"four")
    os.link(kept, beside)
    assert await blobs.drop_orphaned_files(2**62) == [0]
    assert not beside.exists()


async def test_what_has_no_place(blobs: DiskBlobs, tmp_path: Path) -> None:
    """A file is orphaned while it is there and is neither a blob at its key nor an upload."""
    upload = UploadId.fresh()
    await stage(blobs, upload, 0, b"content", keep=True)
    async with blobs.hold(UploadId.fresh(), fresh=True) as staging:
        await staging.resume(0, SHA256)
        await staging.write(b"content")
        digest = await staging.finish(SHA256)
        await asyncio.to_thread(await staging.place(digest))
    known = tmp_path / "blobs" / "sha256" / digest.encoded[:2] / digest.encoded
    elsewhere = known.with_name("0" * 64)
    misplaced = tmp_path / "blobs" / "sha512" / "00" / digest.encoded
    misplaced.parent.mkdir()
    for path in (elsewhere, misplaced):
        path.write_bytes(b"content")
    expected = {str(elsewhere), str(misplaced)}
    assert {file.path for file in await listed(blobs.orphaned_files())} == expected
    for path in (known, elsewhere, misplaced, tmp_path / "uploads" / upload, tmp_path / "none"):
        is_orphaned = await blobs.is_orphaned(OrphanedFile(str(path), ""))
        assert is_orphaned is (str(path) in expected)
