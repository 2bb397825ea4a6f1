"""Collect: free the space of what is unreferenced, deleted, expired or orphaned.

`docs/topics/garbage-collection.md` says why nothing that can be reached is ever collected.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

from portside.operations.backup.hold import is_held
from portside.operations.grace import GracePeriod
from portside.spec.digests import Digest
from portside.spec.errors import BlobUploadUnknown, Unavailable, UploadBusy
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.actors import Actor, background_actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.interfaces import (
    BlobLinkStore,
    BlobStore,
    InspectableBlobs,
    MetadataStore,
    Remove,
    UnreferencedBlob,
    UploadStore,
)
from portside.stores.tag_history import TrimPosition

PAGE = 100
"""Links, manifests or blobs that are listed at once: no request is answered while SQLite reads."""

ORPHANED_AGE = 3600
"""Seconds after which a file that nobody has locked is what a crash left."""

COLLECTOR = background_actor("garbage collection")
"""Who collects, unless a person does."""

Step = Callable[[], AbstractAsyncContextManager[None]]
"""Makes the block within which one thing is removed; it may wait at its end."""


@dataclass
class Collected:
    """What a round of the garbage collector removed; `bytes` were freed.

    A round `is_held` if it left blobs to the next one, because a backup needs them.
    """

    manifests: int = 0
    links: int = 0
    blobs: int = 0
    bytes: int = 0
    is_held: bool = False

    def __bool__(self) -> bool:
        return bool(self.manifests or self.links)


class Collector:
    """Purges what was deleted, and removes blobs to which no manifest refers.

    Deleted manifests are kept for `keep_deleted` microseconds, the history of tags for
    `tag_history`. Each removal is a transaction of its own within a `step`, so that other requests
    get their turn. Any number of collectors may work at once. A round that removes something is
    recorded as an event `by` an actor.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        blobs: BlobStore,
        *,
        grace: GracePeriod,
        keep_deleted: int,
        tag_history: int,
        step: Step = nullcontext,
        by: Actor = COLLECTOR,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._grace = grace
        self._keep_deleted = keep_deleted
        # Tags are restored with their manifests by what the history says of them.
        self._tag_history = max(tag_history, keep_deleted)
        # What was looked at once is not looked at again.
        self._trimmed: TrimPosition | None = None
        self._step = step
        self._by = by

    async def collect(self) -> Collected:
        """Remove all that is due now; raises Unavailable if it is not known what is needed."""
        if await self._metadata.list_undescribed(1):
            undescribed = (
                "it is not known what the manifests refer to that an older version received; run"
                " `portside migrate` first"
            )
            raise Unavailable(undescribed)
        collected = Collected()
        await self._purge_manifests(collected)
        await self._unlink_blobs(collected)
        await self._trim_tag_history()
        if collected:
            event = NewEvent(EventAction.CONTENT_COLLECTED, details=asdict(collected))
            await self._metadata.record_event(event, self._by)
        return collected

    async def plan(self) -> Collected:
        """Return what `collect` would remove now."""
        now, until = self._grace.clock(), self._grace.expired
        found = await self._metadata.measure_collectable(
            now - self._keep_deleted, until, at_once=until >= now
        )
        return Collected(*found)

    async def _purge_manifests(self, collected: Collected) -> None:
        until = self._grace.clock() - self._keep_deleted
        while True:
            expired = await self._metadata.list_expired_manifests(until, limit=PAGE)
            for found in expired:
                async with self._step():
                    collected.manifests += await self._metadata.purge_manifest(
                        found, until, by=self._by
                    )
            if len(expired) < PAGE:
                return

    async def _unlink_blobs(self, collected: Collected) -> None:
        until = self._grace.expired
        last: UnreferencedBlob | None = None
        while True:
            due = await self._metadata.list_unreferenced(until, last, limit=PAGE)
            for last in due:
                if await is_held(self._metadata):
                    collected.is_held = True
                    return
                async with self._step():
                    await self._unlink(last, until, collected)
            if len(due) < PAGE:
                return

    async def _trim_tag_history(self) -> None:
        until = self._grace.clock() - self._tag_history
        while True:
            async with self._step():
                last = await self._metadata.trim_tag_history(until, self._trimmed, limit=PAGE)
            if last is None:
                return
            self._trimmed = last
            # A read of SQLite does not suspend, and the first round looks at every change.
            await asyncio.sleep(0)

    async def _unlink(self, found: UnreferencedBlob, until: int, collected: Collected) -> None:
        remove = self._blobs.remove(found.digest)

        def remove_counted() -> None:
            remove()
            collected.blobs += 1
            collected.bytes += found.size

        collected.links += await self._metadata.collect_blob(found, until, remove=remove_counted)


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


class CollectedOrphans(NamedTuple):
    """The bytes that were freed, and the number of blobs that could not be removed."""

    bytes: int
    kept: int


async def collect_orphaned(
    links: BlobLinkStore, blobs: InspectableBlobs, before: int
) -> CollectedOrphans:
    """Remove the bytes of blobs that the metadata does not know, which a crashed push leaves.

    Other files of crashed requests go if they were last written before a time (microseconds since
    1970). Safe while the registry runs.
    """
    freed: list[int] = []
    orphaned = 0
    async for digest, size in _unknown_blobs(links, blobs):
        remove = partial(_remove, blobs.remove(digest), size, freed)
        orphaned += await links.remove_orphaned_blob(digest, remove=remove)
    kept = orphaned - len(freed)
    freed += await blobs.drop_orphaned_files(before)
    return CollectedOrphans(sum(freed), kept)


async def _unknown_blobs(
    links: BlobLinkStore, blobs: InspectableBlobs
) -> AsyncIterator[tuple[Digest, int]]:
    """List stored blobs that the metadata does not know at the moment, with their sizes."""
    page: dict[Digest, int] = {}

    async def unknown() -> list[tuple[Digest, int]]:
        known = await links.known_blobs(list(page))
        return [(digest, size) for digest, size in page.items() if digest not in known]

    async for digest, size in blobs.stored_blobs():
        page[digest] = size
        if len(page) == PAGE:
            for found in await unknown():
                yield found
            page.clear()
    for found in await unknown():
        yield found


async def plan_orphaned(
    links: BlobLinkStore, blobs: InspectableBlobs, before: int
) -> CollectedOrphans:
    """Return what `collect_orphaned` would free, if all of it can be removed."""
    sizes = [size async for _, size in _unknown_blobs(links, blobs)]
    files = await blobs.drop_orphaned_files(before, dry_run=True)
    return CollectedOrphans(sum(sizes) + sum(files), 0)


def _remove(remove: Remove, size: int, freed: list[int]) -> None:
    """Remove a blob's bytes and count them; the metadata store logs what fails."""
    remove()
    freed.append(size)
