"""Staged bytes are hashed once, however often a client names a wrong digest."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from portside.spec.digests import Algorithm, Digest
from portside.spec.uploads import UploadId
from portside.stores.blobs.disk.store import DiskBlobs

CONTENT = b"content"


async def test_on_a_disk(tmp_path: Path) -> None:
    """A file that changed behind the registry's back shows that it is not read again."""
    upload = UploadId.fresh()

    async def digest_with(last: bytes) -> Digest:
        async with blobs.hold(upload) as staging:
            await staging.resume(len(CONTENT), Algorithm.SHA256)
            await staging.write(last)
            return await staging.finish(Algorithm.SHA512)

    with closing(DiskBlobs(tmp_path, hold_timeout=0)) as blobs:
        blobs.create()
        async with blobs.hold(upload) as staging:
            await staging.resume(0, Algorithm.SHA256)
            await staging.write(CONTENT)
            await staging.flush()
            staging.keep()
        for last in (b"", b" and more", b""):
            assert await digest_with(last) == Digest.of(CONTENT + last, Algorithm.SHA512)
            (tmp_path / "uploads" / upload).write_bytes(bytes(len(CONTENT)))
