"""Collect: free the space of uploads that have expired and of files that are orphaned."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import NamedTuple

from portside.spec.errors import BlobUploadUnknown, UploadBusy
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.interfaces import (
    BlobLinkStore,
    BlobStore,
    InspectableBlobs,
    Remove,
    UploadStore,
)


async def expire_uploads(uploads: UploadStore, blobs: InspectableBlobs, before: int) -> int:
    """End the upload sessions that were last used before a time (microseconds since 1970).

    Bytes without a session, and other files that a crash can leave, go with them. A session that is
    in use is left alone. Return how many sessions and orphaned files were removed.
    """
    gone = 0
    stale = await uploads.list_stale_uploads(before)
    while stale:
        for session in stale:
            with suppress(UploadBusy, BlobUploadUnknown):
                gone += await _expire(uploads, blobs, session, before)
        stale = await uploads.list_stale_uploads(before, stale[-1])
    await uploads.forget_finished_uploads(before)
    for upload in await blobs.list_stale_uploads(before):
        with suppress(UploadBusy):
            gone += await _drop_orphaned(uploads, blobs, upload)
    return gone + len(await blobs.drop_orphaned_files(before))


async def _expire(
    uploads: UploadStore, blobs: BlobStore, stale: UploadSession, before: int
) -> bool:
    async with blobs.hold(stale.id):
        session = await uploads.get_upload(stale.repository, stale.id)
        if session.updated >= before:
            return False
        await uploads.close_upload(session)
        await blobs.discard(session.id)
        return True


async def _drop_orphaned(uploads: UploadStore, blobs: BlobStore, upload: UploadId) -> bool:
    async with blobs.hold(upload):
        if await uploads.has_upload(upload):
            return False
        await blobs.discard(upload)
        return True


class Collected(NamedTuple):
    """The bytes that were freed, and the number of blobs that could not be removed."""

    bytes: int
    kept: int


async def collect_orphaned(links: BlobLinkStore, blobs: InspectableBlobs, before: int) -> Collected:
    """Remove the bytes of blobs that the metadata does not know, which a crashed push leaves.

    Other files of crashed requests go if they were last written before a time (microseconds since
    1970). Safe while the registry runs.
    """
    freed: list[int] = []
    orphaned = 0
    async for digest, size in blobs.stored_blobs():
        remove = partial(_remove, blobs.remove(digest), size, freed)
        orphaned += await links.remove_orphaned_blob(digest, remove=remove)
    kept = orphaned - len(freed)
    freed += await blobs.drop_orphaned_files(before)
    return Collected(sum(freed), kept)


def _remove(remove: Remove, size: int, freed: list[int]) -> None:
    """Remove a blob's bytes and count them; the metadata store logs what fails."""
    remove()
    freed.append(size)
