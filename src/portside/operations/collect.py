"""Collect: give back the space of what nobody will finish or use."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from portside.spec.errors import BlobUploadUnknown, UploadBusy
from portside.spec.uploads import UploadEvent, UploadId, UploadSession
from portside.stores.inspection import CheckableBlobs
from portside.stores.interfaces import BlobLinkStore, BlobStore, UploadStore


async def expire_uploads(uploads: UploadStore, blobs: BlobStore, before: int) -> int:
    """End the upload sessions that were last used before a time (microseconds since 1970).

    Bytes without a session, which a crash can leave, go with them. A session that is in use is
    left alone. Gives the number of sessions and leftovers that went.
    """
    gone = 0
    for session in await uploads.list_stale_uploads(before):
        with suppress(UploadBusy, BlobUploadUnknown):
            await _expire(uploads, blobs, session, before)
            gone += 1
    for upload in await blobs.list_stale_uploads(before):
        with suppress(UploadBusy):
            gone += await _drop_leftover(uploads, blobs, upload)
    return gone


async def _expire(
    uploads: UploadStore, blobs: BlobStore, stale: UploadSession, before: int
) -> None:
    async with blobs.hold(stale.id):
        session = await uploads.get_upload(stale.repository, stale.id)
        if session.updated < before:
            await uploads.close_upload(session.after(UploadEvent.EXPIRE))
            await blobs.discard(session.id)


async def _drop_leftover(uploads: UploadStore, blobs: BlobStore, upload: UploadId) -> bool:
    async with blobs.hold(upload):
        if await uploads.has_upload(upload):
            return False
        await blobs.discard(upload)
        return True


class CollectableBlobs(BlobStore, CheckableBlobs, Protocol):
    """A blob store that can list what it holds."""


async def collect_strays(links: BlobLinkStore, blobs: CollectableBlobs) -> int:
    """Remove the bytes of blobs that nothing knows of, as a crash within a push leaves them.

    Safe while the registry runs. Gives the number of bytes that went.
    """
    freed = 0
    for digest, size in blobs.objects():
        if await links.drop_stray(digest, remove=blobs.remove(digest)):
            freed += size
    return freed
