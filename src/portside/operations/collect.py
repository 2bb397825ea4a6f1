"""Collect: give back the space of what nobody will finish or use."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

from portside.spec.digests import Digest
from portside.spec.errors import BlobUploadUnknown, UploadBusy
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.inspection import CheckableBlobs
from portside.stores.interfaces import BlobLinkStore, BlobStore, Remove, UploadStore


class SweepableBlobs(BlobStore, Protocol):
    """A blob store in which a crash can leave more than uploads."""

    async def drop_leftovers(self, before: int) -> list[int]:
        """Drop what a crash left and nobody uses, last written before a time (µs since 1970).

        Gives the bytes that each of them took.
        """
        ...


async def expire_uploads(uploads: UploadStore, blobs: SweepableBlobs, before: int) -> int:
    """End the upload sessions that were last used before a time (microseconds since 1970).

    Bytes without a session, and other files that a crash can leave, go with them. A session that is
    in use is left alone. Gives the number of sessions and leftovers that went.
    """
    gone = 0
    stale = await uploads.list_stale_uploads(before)
    while stale:
        for session in stale:
            with suppress(UploadBusy, BlobUploadUnknown):
                gone += await _expire(uploads, blobs, session, before)
        stale = await uploads.list_stale_uploads(before, stale[-1])
    for upload in await blobs.list_stale_uploads(before):
        with suppress(UploadBusy):
            gone += await _drop_leftover(uploads, blobs, upload)
    return gone + len(await blobs.drop_leftovers(before))


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


async def _drop_leftover(uploads: UploadStore, blobs: BlobStore, upload: UploadId) -> bool:
    async with blobs.hold(upload):
        if await uploads.has_upload(upload):
            return False
        await blobs.discard(upload)
        return True


class CollectableBlobs(SweepableBlobs, CheckableBlobs, Protocol):
    """A blob store that can list what it holds."""


class Collected(NamedTuple):
    """The bytes that went, and the number of blobs that could not be removed."""

    bytes: int
    kept: int


async def collect_strays(links: BlobLinkStore, blobs: CollectableBlobs, before: int) -> Collected:
    """Remove the bytes of blobs that nothing knows of, as a crash within a push leaves them.

    Other leftovers of a crash go if they were last written before a time (microseconds since 1970).
    Safe while the registry runs.
    """
    freed: list[int] = []
    strays = 0
    for digest, size in blobs.objects():
        remove = partial(_remove, blobs, digest, size, freed)
        strays += await links.drop_stray(digest, remove=remove)
    kept = strays - len(freed)
    freed += await blobs.drop_leftovers(before)
    return Collected(sum(freed), kept)


def _remove(blobs: CollectableBlobs, digest: Digest, size: int, freed: list[int]) -> None:
    """Remove a blob's bytes, and count them if they are gone; the caller logs what fails."""
    remove: Remove = blobs.remove(digest)
    remove()
    if blobs.size(digest) is None:
        freed.append(size)
