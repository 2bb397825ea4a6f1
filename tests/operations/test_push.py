"""A push whose last step fails leaves what a client, and the space, can rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from portside.operations.push import Chunk, Push
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import BlobUploadUnknown, StorageFull, Unavailable
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.store import Metadata
from support.sqlite import open_database

A = RepositoryName("a")


class Full(Metadata):
    """A store without room for a new offset."""

    is_full = True

    async def advance_upload(
        self, session: UploadSession, *, origin: int, quota: int | None = None
    ) -> None:
        """Find no room."""
        if self.is_full:
            raise StorageFull("no room")
        await super().advance_upload(session, origin=origin, quota=quota)


class Stuck(DiskBlobs):
    """A store that discards nothing."""

    async def discard(self, upload: UploadId) -> None:
        """Fail."""
        raise Unavailable(f"discarding {upload}")


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    """Yield the pieces of a body."""
    for piece in pieces:
        yield piece


def pushing(metadata: Metadata, blobs: DiskBlobs) -> Push:
    """Push into a pair of stores, without limits."""
    return Push(
        metadata,
        blobs,
        max_blob_bytes=0,
        max_open_uploads=0,
        sparse_indexes=False,
        clock=lambda: 1,
    )


async def test_no_room_for_the_offset(tmp_path: Path) -> None:
    """Bytes that could not be acknowledged free their space, and can be sent again."""
    with (
        closing(await open_database(tmp_path, clock=lambda: 1)) as database,
        closing(DiskBlobs(tmp_path, hold_timeout=0)) as blobs,
    ):
        blobs.create()
        metadata = Full(database)
        push = pushing(metadata, blobs)
        upload = (await push.open_upload(A, Algorithm.SHA256)).id
        for is_full, kept in ((False, 5), (True, 5), (False, 10)):
            metadata.is_full = is_full
            if is_full:
                with pytest.raises(StorageFull):
                    await push.append(A, upload, Chunk(body(b"w", b"orld")))
            else:
                await push.append(A, upload, Chunk(body(b"hello" if kept == 5 else b"world")))
            assert await blobs.staged_size(upload) == kept
        digest = Digest.of(b"helloworld")
        await push.finish(A, upload, digest, Chunk(body()))
        assert (await metadata.get_blob(A, digest)).size == 10


async def test_bytes_that_cannot_be_discarded(tmp_path: Path) -> None:
    """They fail neither the end of an upload nor its cancellation; the sweep removes them."""
    with (
        closing(await open_database(tmp_path, clock=lambda: 1)) as database,
        closing(Stuck(tmp_path, hold_timeout=0)) as blobs,
    ):
        blobs.create()
        metadata = Metadata(database)
        push = pushing(metadata, blobs)
        for is_cancelled in (False, True):
            upload = (await push.open_upload(A, Algorithm.SHA256)).id
            await push.append(A, upload, Chunk(body(b"hello")))
            if is_cancelled:
                await push.cancel(A, upload)
            else:
                await push.finish(A, upload, Digest.of(b"hello"), Chunk(body()))
            with pytest.raises(BlobUploadUnknown):
                await push.get_upload(A, upload)
        assert (await metadata.get_blob(A, Digest.of(b"hello"))).size == 5
