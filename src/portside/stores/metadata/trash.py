"""The trash: manifests that were deleted, and can be restored until they are purged.

A deleted manifest keeps its row and its references, and so its blobs. Nothing but this module and
a push of the same manifest sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from portside.spec.digests import Digest
from portside.spec.locks import Lock
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import OrderedPageRequest, Page, PageRequest, Position, cut
from portside.spec.patterns import EVERY_NAME, NameRange
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.metadata.blobs import unreference_blobs
from portside.stores.metadata.discovery import before_nul
from portside.stores.metadata.engine import Noun, Transaction
from portside.stores.metadata.events import record_events
from portside.stores.metadata.refusals import (
    manifest_incomplete,
    name_unknown,
    not_in_trash,
    nothing_in_trash,
)
from portside.stores.metadata.repositories import (
    LockedRow,
    count_changes,
    lock_repository,
    refuse_repository,
)
from portside.stores.metadata.tag_history import (
    note_untagged,
    record_change,
    record_tags_of_manifest,
    record_tags_of_repository,
)
from portside.stores.trash import (
    DeletedManifest,
    Restored,
    TrashedManifest,
    TrashedRepository,
    TrashedTag,
)

# ruff: noqa: S608  # statements are put together of constants

_REPOSITORY_COLUMNS = """
    SELECT
        r.name, r.created, r.deleted,
        (SELECT COUNT(*) FROM manifests m WHERE m.repository = r.id AND m.deleted = r.deleted),
        (
            SELECT COUNT(*)
            FROM tag_history h
            JOIN manifests m ON m.repository = h.repository AND m.digest = h.digest
            WHERE h.repository = r.id AND h.action = 'deleted' AND h.at >= r.deleted
                AND m.deleted = r.deleted
        ),
        COALESCE(
            (
                SELECT m.deleted_by FROM manifests m
                WHERE m.repository = r.id AND m.deleted = r.deleted
                LIMIT 1
            ),
            ''
        )
    FROM repositories r
"""
TRASHED_REPOSITORIES = f"""
    {_REPOSITORY_COLUMNS}
    WHERE r.name >= $1 AND r.name < $2 AND (
        EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id AND m.deleted > $3)
        OR EXISTS (
            SELECT 1 FROM tag_history h
            JOIN manifests m ON m.repository = h.repository AND m.digest = h.digest
            WHERE h.repository = r.id AND h.action = 'deleted' AND h.at > $3
        )
    )
    ORDER BY r.name
    LIMIT $4
"""
DELETED_REPOSITORIES = f"""
    {_REPOSITORY_COLUMNS}
    WHERE r.name >= $1 AND r.name < $2 AND r.deleted > $3 AND EXISTS (
        SELECT 1 FROM manifests m WHERE m.repository = r.id AND m.deleted = r.deleted
    )
    ORDER BY r.name
    LIMIT $4
"""
_KEY = "SELECT id, deleted FROM repositories WHERE name = $1"
TRASHED_MANIFESTS = """
    SELECT m.id, m.digest, m.media_type, m.size, m.image_size, m.created, m.deleted, m.deleted_by
    FROM manifests m
    WHERE m.repository = $1 AND m.deleted >= $2 AND (m.deleted, m.digest) > ($2, $3)
    ORDER BY m.deleted, m.digest
    LIMIT $4
"""
_TAGS_DELETED_WITH_EACH = """
    SELECT m.id, h.name
    FROM manifests m
    JOIN tag_history h ON h.repository = m.repository AND h.digest = m.digest
        AND h.at >= m.deleted AND h.action = 'deleted'
    WHERE m.id = ANY ($1)
    ORDER BY m.id, h.name
"""
# Without those that were restored to the same manifest, or deleted from it again, later.
TRASHED_TAGS = """
    SELECT
        h.name, h.digest,
        COALESCE(
            (
                SELECT s.at FROM tag_history s
                WHERE s.repository = h.repository AND s.name = h.name AND s.at < h.at
                    AND s.action <> 'deleted'
                ORDER BY s.at DESC
                LIMIT 1
            ),
            m.created
        ),
        h.at, h.identity, m.deleted
    FROM tag_history h
    JOIN manifests m ON m.repository = h.repository AND m.digest = h.digest
    WHERE h.repository = $1 AND h.action = 'deleted' AND h.at >= $2
        AND (h.at, h.name) > ($2, $3)
        AND NOT EXISTS (
            SELECT 1 FROM tag_history l
            WHERE l.repository = h.repository AND l.name = h.name AND l.at > h.at
                AND l.digest = h.digest
        )
    ORDER BY h.at, h.name
    LIMIT $4
"""
_DELETE_TAGS_OF_MANIFEST = "DELETE FROM tags WHERE manifest = $1 RETURNING name"
_DELETE_TAGS_OF_REPOSITORY = "DELETE FROM tags WHERE repository = $1"
_DELETE_TAG = "DELETE FROM tags WHERE repository = $1 AND name = $2"
_DISCARD = "UPDATE manifests SET deleted = $2, deleted_by = $3 WHERE id = $1"
_DISCARD_ALL = """
    UPDATE manifests SET deleted = $2, deleted_by = $3 WHERE repository = $1 AND deleted IS NULL
"""
_PURGE = "DELETE FROM manifests WHERE id = $1 RETURNING size"
_TAKES_LESS = "UPDATE repositories SET manifest_bytes = manifest_bytes - $2 WHERE id = $1"
_LISTED = """
    SELECT 1 FROM manifest_references
    WHERE repository = $1 AND digest = $2 AND kind = 'manifest' AND NOT weak
    LIMIT 1
"""
_DELETED_PARENTS = """
    SELECT m.id, m.digest
    FROM manifest_references f JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = $1 AND f.digest = $2 AND f.kind = 'manifest' AND f.required
        AND m.deleted IS NOT NULL
"""
# Nobody can read the blobs of a repository that was deleted, so none of them has a grace period.
_HIDE_BLOBS = """
    UPDATE repository_blobs
    SET deleted = $2, unreferenced = CASE WHEN EXISTS (
        SELECT 1 FROM manifest_references f
        WHERE f.repository = $1 AND f.digest = repository_blobs.digest
    ) THEN CAST(NULL AS BIGINT) ELSE 0 END
    WHERE repository = $1
"""
_EXPIRED = """
    SELECT r.name, m.digest, m.id, m.deleted
    FROM manifests m JOIN repositories r ON r.id = m.repository
    WHERE m.deleted <= $1
    ORDER BY m.deleted, m.id
    LIMIT $2
"""
_IS_EXPIRED = "SELECT 1 FROM manifests WHERE id = $1 AND deleted <= $2"
_DELETED_MANIFEST = """
    SELECT id, digest, deleted FROM manifests
    WHERE repository = $1 AND digest = $2 AND deleted > $3
"""
# Everything that was deleted with the repository, or all that is deleted if it was used since.
_DELETED_WITH_REPOSITORY = """
    SELECT m.id, m.digest, m.deleted
    FROM manifests m JOIN repositories r ON r.id = m.repository
    WHERE m.repository = $1 AND m.deleted > $2
        AND (r.deleted IS NULL OR m.deleted = r.deleted)
    ORDER BY m.id
"""
# What an image index lists, and what was deleted together with its subject.
_DELETED_WITH = """
    SELECT c.id, c.digest, c.deleted
    FROM manifest_references f
    JOIN manifests c ON c.repository = f.repository AND c.digest = f.digest
    WHERE f.manifest = $1 AND f.kind = 'manifest' AND c.deleted IS NOT NULL
    UNION
    SELECT s.id, s.digest, s.deleted
    FROM manifests m JOIN manifests s ON s.repository = m.repository AND s.subject = m.digest
    WHERE m.id = $1 AND s.deleted = $2
"""
# What was restored is untagged from now on, and not since long ago.
_RESTORE = """
    UPDATE manifests SET deleted = NULL, deleted_by = '', untagged = $2
    WHERE id = $1 AND deleted IS NOT NULL
"""
_RESTORE_BLOBS = """
    UPDATE repository_blobs SET deleted = NULL, unreferenced = NULL
    WHERE repository = $1
        AND digest IN (SELECT f.digest FROM manifest_references f WHERE f.manifest = $2)
        AND (deleted IS NOT NULL OR unreferenced IS NOT NULL)
"""
# What a deleted manifest needs and is not in use; the blobs that it needs may be deleted as well.
_LACKED = """
    SELECT f.kind, f.digest
    FROM manifest_references f
    WHERE f.manifest = $1 AND f.required AND NOT EXISTS (
        SELECT 1 FROM manifests c
        WHERE f.kind = 'manifest' AND c.repository = f.repository AND c.digest = f.digest
            AND c.deleted IS NULL
    ) AND NOT EXISTS (
        SELECT 1 FROM repository_blobs l
        WHERE f.kind = 'blob' AND l.repository = f.repository AND l.digest = f.digest
    )
"""
# The clock of this node may have been behind that of the node with the change before.
_TAGS_DELETED_WITH = """
    SELECT MAX(at), name FROM tag_history
    WHERE repository = $1 AND digest = $2 AND at >= $3 AND action = 'deleted'
    GROUP BY name
"""
# It is in use again, and as old as it was.
_USE_AGAIN = "UPDATE repositories SET deleted = NULL WHERE id = $1 AND deleted IS NOT NULL"
_RESTORE_TAG = """
    INSERT INTO tags (repository, name, manifest, created, updated) VALUES ($1, $2, $3, $4, $4)
    ON CONFLICT DO NOTHING
"""


class Trash(Noun):
    """The TrashStore."""

    async def list_trashed_repositories(
        self,
        page: PageRequest,
        names: Sequence[NameRange] = EVERY_NAME,
        *,
        since: int = 0,
        deleted: bool = False,
    ) -> Page[TrashedRepository]:
        """Read one range after the other until there are enough."""
        sql = DELETED_REPOSITORIES if deleted else TRASHED_REPOSITORIES
        last = before_nul(page.last)
        found: list[Any] = []
        for part in names:
            behind = part.after(last)
            if behind.start < behind.stop:
                most = page.limit + 1 - len(found)
                found += await self._database.find_all(sql, *behind, since, most)
            if len(found) > page.limit:
                break
        return cut([TrashedRepository(*row) for row in found], page)

    async def list_trashed_manifests(
        self, repository: RepositoryName, page: OrderedPageRequest, *, since: int = 0
    ) -> Page[TrashedManifest]:
        """Read one page, and the tags that were deleted with its manifests."""
        key, is_used = await self._find(repository)
        rows = await self._database.find_all(
            TRASHED_MANIFESTS, key, *_behind(page, since), page.limit + 1
        )
        if not rows and not is_used:
            raise name_unknown(repository)
        found = cut(rows, page)
        tags: dict[int, list[str]] = {row[0]: [] for row in found.items}
        if tags:
            each = await self._database.find_all(_TAGS_DELETED_WITH_EACH, list(tags))
            for manifest, name in each:
                tags[manifest].append(name)
        manifests = [_manifest(row, tags[row[0]]) for row in found.items]
        return Page(manifests, found.more)

    async def list_trashed_tags(
        self, repository: RepositoryName, page: OrderedPageRequest, *, since: int = 0
    ) -> Page[TrashedTag]:
        """Read one page."""
        key, is_used = await self._find(repository)
        rows = await self._database.find_all(
            TRASHED_TAGS, key, *_behind(page, since), page.limit + 1
        )
        if not rows and not is_used:
            raise name_unknown(repository)
        return cut([TrashedTag(*row) for row in rows], page)

    async def _find(self, repository: RepositoryName) -> tuple[int, bool]:
        """Return the key of a repository, and whether it is in use; raises NameUnknown."""
        row = await self._database.find(_KEY, str(repository))
        if row is None:
            raise name_unknown(repository)
        return row[0], row[1] is None

    async def list_expired_manifests(self, until: int, *, limit: int) -> list[DeletedManifest]:
        """Read the index of deleted manifests, the longest deleted first."""
        rows = await self._database.find_all(_EXPIRED, until, limit)
        return [
            DeletedManifest(RepositoryName(name), Digest(digest), *rest)
            for name, digest, *rest in rows
        ]

    async def purge_manifest(
        self, found: DeletedManifest, until: int, *, by: Actor = NOBODY
    ) -> int:
        """Delete the rows, and with them the references, whose blobs begin their grace period."""

        async def job(transaction: Transaction) -> int:
            owner = await lock_repository(transaction, str(found.repository))
            still = await transaction.find(_IS_EXPIRED, found.key, until)
            if owner is None or still is None:
                return 0
            purged = await _purge(transaction, owner.id, found.key, str(found.digest))
            await record_events(transaction, by, _purged(found.repository, purged))
            return len(purged)

        return await self._database.write(job)

    async def purge_image(
        self, repository: RepositoryName, digest: Digest, *, by: Actor = NOBODY
    ) -> list[str]:
        """Purge one manifest after the other, each with what cannot be restored without it."""

        async def job(transaction: Transaction) -> list[str]:
            locked = await lock_repository(transaction, str(repository))
            if locked is None:
                raise not_in_trash(repository, digest)
            found = await transaction.find(_DELETED_MANIFEST, locked.id, str(digest), 0)
            if found is None:
                raise not_in_trash(repository, digest)
            purged: list[str] = []
            waiting = [_Deleted(*found)]
            while waiting:
                manifest = waiting.pop()
                rows = await transaction.find_all(_DELETED_WITH, manifest.key, manifest.deleted)
                purged += await _purge(transaction, locked.id, manifest.key, manifest.digest)
                waiting += [
                    other
                    for other in map(_Deleted._make, rows)
                    if await transaction.find(_LISTED, locked.id, other.digest) is None
                ]
            await record_events(transaction, by, _purged(repository, purged))
            return sorted(purged)

        return await self._database.write(job)

    async def restore_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        since: int = 0,
        tags: Sequence[Tag] | None = None,
        by: Actor = NOBODY,
    ) -> Restored:
        """Restore the row, and what was deleted with it."""

        async def job(transaction: Transaction) -> Restored:
            locked = await lock_repository(transaction, str(repository))
            if locked is None:
                raise not_in_trash(repository, digest)
            refuse_repository(locked.locks, Lock.WRITE, repository)
            found = await transaction.find(_DELETED_MANIFEST, locked.id, str(digest), since)
            if found is None:
                raise not_in_trash(repository, digest)
            restored = await restore_deleted(transaction, locked, [found], tags, by.name)
            events = content_restored(repository, restored.manifests, restored.tags)
            await record_events(transaction, by, events)
            return restored.named

        return await self._database.write(job)

    async def restore_repository(
        self, repository: RepositoryName, *, since: int = 0, by: Actor = NOBODY
    ) -> Restored:
        """Restore the rows that were deleted together."""

        async def job(transaction: Transaction) -> Restored:
            locked = await lock_repository(transaction, str(repository))
            if locked is None:
                raise nothing_in_trash(repository)
            found = await transaction.find_all(_DELETED_WITH_REPOSITORY, locked.id, since)
            if not found:
                raise nothing_in_trash(repository)
            refuse_repository(locked.locks, Lock.WRITE, repository)
            restored = await restore_deleted(transaction, locked, found, None, by.name)
            event = NewEvent(
                EventAction.REPOSITORY_RESTORED, str(repository), details=restored.counted
            )
            await record_events(transaction, by, [event])
            return restored.named

        return await self._database.write(job)


class _Restored(NamedTuple):
    """What Restored names; tags are pairs of a name and the digest that it points to."""

    manifests: list[str]
    tags: list[tuple[str, str]]
    incomplete: list[str]

    @property
    def named(self) -> Restored:
        """What was restored by its names."""
        return Restored(self.manifests, sorted(name for name, _ in self.tags), self.incomplete)

    @property
    def counted(self) -> dict[str, int]:
        """The details of the event of a repository."""
        return {"manifests": len(self.manifests), "tags": len(self.tags)}


def manifest_deleted(
    repository: str, digest: str, tags: Sequence[str], media_type: str = ""
) -> list[NewEvent]:
    """Return the events of a manifest that was deleted, last, and of its tags."""
    return [
        *(NewEvent(EventAction.TAG_DELETED, repository, tag, digest) for tag in tags),
        NewEvent(EventAction.MANIFEST_DELETED, repository, "", digest, media_type),
    ]


def _purged(repository: str, digests: Sequence[str]) -> list[NewEvent]:
    return [NewEvent(EventAction.MANIFEST_PURGED, repository, digest=digest) for digest in digests]


def content_restored(
    repository: str,
    manifests: Sequence[str],
    tags: Sequence[tuple[str, str]],
    *,
    before: str | None = None,
) -> list[NewEvent]:
    """Return the events of manifests that were restored, and after them of tags.

    `before` is what the tags pointed to until then.
    """
    details = {"before": before} if before is not None else None
    return [
        *(NewEvent(EventAction.MANIFEST_RESTORED, repository, digest=name) for name in manifests),
        *(NewEvent(EventAction.TAG_RESTORED, repository, *pair, details=details) for pair in tags),
    ]


async def discard_tags(
    transaction: Transaction, owner: int, tags: Sequence[tuple[str, str]], by: str
) -> None:
    """Delete tags of a repository: pairs of a name and the digest that it points to."""
    await transaction.execute_each(_DELETE_TAG, [(owner, name) for name, _ in tags])
    await record_change(transaction, owner, "deleted", tags, by)
    await note_untagged(transaction, owner, [digest for _, digest in tags])


async def discard_manifest(transaction: Transaction, manifest: int, by: str) -> list[str]:
    """Move a manifest to the trash, and delete its tags, whose names are returned."""
    await record_tags_of_manifest(transaction, manifest, by)
    names = await transaction.find_all(_DELETE_TAGS_OF_MANIFEST, manifest)
    await transaction.execute(_DISCARD, manifest, transaction.now, by)
    return sorted(name for (name,) in names)


async def discard_repository(transaction: Transaction, owner: int, by: str) -> None:
    """Move the manifests of a repository to the trash, delete its tags, and hide its blobs."""
    await record_tags_of_repository(transaction, owner, by)
    await transaction.execute(_DELETE_TAGS_OF_REPOSITORY, owner)
    await transaction.execute(_DISCARD_ALL, owner, transaction.now, by)
    await transaction.execute(_HIDE_BLOBS, owner, transaction.now)


async def _purge(transaction: Transaction, owner: int, key: int, digest: str) -> list[str]:
    """Purge a manifest, and before it those that cannot be restored without it; return all."""
    # A client decides how many indexes list one another: deeper than calls can be nested.
    doomed = {key: digest}
    waiting = [digest]
    while waiting:
        for parent, name in await transaction.find_all(_DELETED_PARENTS, owner, waiting.pop()):
            if parent not in doomed:
                doomed[parent] = name
                waiting.append(name)
    purged: list[str] = []
    for one, name in reversed(doomed.items()):
        await unreference_blobs(transaction, owner, one)
        row = await transaction.find(_PURGE, one)
        # What is purged with an image may have gone with another part of it.
        if row is not None:
            purged.append(name)
            await transaction.execute(_TAKES_LESS, owner, row[0])
    return purged


async def restore_row(transaction: Transaction, owner: int, manifest: int) -> None:
    """Restore a manifest that was deleted, and its blobs."""
    await transaction.execute(_RESTORE, manifest, transaction.now)
    await transaction.execute(_RESTORE_BLOBS, owner, manifest)


class _Deleted(NamedTuple):
    """The row of a deleted manifest."""

    key: int
    digest: str
    deleted: int


async def restore_deleted(
    transaction: Transaction,
    locked: LockedRow,
    asked: Sequence[Sequence[Any]],
    tags: Sequence[Tag] | None,
    by: str,
) -> _Restored:
    """Restore manifests and all that they need; the first one gets the `tags`.

    What can no longer be whole stays in the trash. Raises ManifestUnknown if that is all of it.
    """
    found = await _deleted_together(transaction, asked)
    lacked = await _find_lacked(transaction, found)
    whole = [manifest for manifest in found if manifest.digest not in lacked]
    digests = [digest for _, digest, _ in asked]
    if lacked.keys() >= {*digests}:
        raise manifest_incomplete(digests[0], lacked[digests[0]])
    for manifest in whole:
        await restore_row(transaction, locked.id, manifest.key)
    if tags is None:
        restored = await _restore_tags(transaction, locked.id, whole)
    else:
        restored = [
            (str(tag), digests[0])
            for tag in tags
            if await transaction.execute(
                _RESTORE_TAG, locked.id, str(tag), asked[0][0], transaction.now
            )
        ]
    await record_change(transaction, locked.id, "restored", restored, by)
    await transaction.execute(_USE_AGAIN, locked.id)
    await count_changes(transaction, locked.id, manifests=len(whole), tags=len(restored))
    return _Restored(
        sorted(manifest.digest for manifest in whole), sorted(restored), sorted(lacked)
    )


async def _deleted_together(
    transaction: Transaction, asked: Sequence[Sequence[Any]]
) -> list[_Deleted]:
    """Return deleted manifests with those that come back with them."""
    found: dict[int, _Deleted] = {}
    waiting = [_Deleted(*row) for row in asked]
    while waiting:
        manifest = waiting.pop()
        if manifest.key not in found:
            found[manifest.key] = manifest
            rows = await transaction.find_all(_DELETED_WITH, manifest.key, manifest.deleted)
            waiting += [_Deleted(*row) for row in rows]
    return list(found.values())


async def _find_lacked(transaction: Transaction, found: Sequence[_Deleted]) -> dict[str, str]:
    """Return which of some deleted manifests lack something, even if all come back, and what.

    The trash may have been emptied in part, and what an index lists be gone before it.
    """
    needed = {
        manifest.digest: await transaction.find_all(_LACKED, manifest.key) for manifest in found
    }
    lacked: dict[str, str] = {}
    size = -1
    while size < len(lacked):
        size = len(lacked)
        for digest, references in needed.items():
            for kind, named in references:
                if kind != "manifest" or named not in needed or named in lacked:
                    lacked.setdefault(digest, named)
    return lacked


async def _restore_tags(
    transaction: Transaction, owner: int, manifests: Sequence[_Deleted]
) -> list[tuple[str, str]]:
    """Restore the tags that were deleted with manifests; return them with their digests.

    If several had the same tag, it points to that one again from which it was deleted last.
    """
    found: list[tuple[int, str, _Deleted]] = []
    for manifest in manifests:
        row = (owner, manifest.digest, manifest.deleted)
        times = await transaction.find_all(_TAGS_DELETED_WITH, *row)
        found += [(time, name, manifest) for time, name in times]
    now = transaction.now
    return [
        (name, manifest.digest)
        for _, name, manifest in sorted(found, reverse=True)
        if await transaction.execute(_RESTORE_TAG, owner, name, manifest.key, now)
    ]


def _manifest(row: Any, tags: Sequence[str]) -> TrashedManifest:
    key, digest, media_type, size, image_size, created, deleted, deleted_by = row
    return TrashedManifest(
        key=key,
        digest=digest,
        media_type=media_type,
        size=size,
        image_size=image_size,
        created=created,
        deleted=deleted,
        deleted_by=deleted_by,
        tags=tuple(tags),
    )


def _behind(page: OrderedPageRequest, since: int) -> Position:
    """Return the position behind which a page begins: that of the page, or that of `since`."""
    after = Position(page.after.time, before_nul(page.after.name))
    # No name and no digest is greater than a tilde.
    return max(after, Position(since, "~"))
