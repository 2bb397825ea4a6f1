"""Blobs and their links.

The row, the links and the bytes of a blob change together, while nobody else can change them. A
link is removed with its repository locked, so that no manifest comes to need it at the same time.

The column `unreferenced` of a link is set for as long as no manifest refers to its blob. It is the
time from which the grace period runs: when the link was made, when the last manifest went that
referred to the blob, or when a client was last told that the blob exists. A link that may be
removed at once has 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from portside.spec.digests import Digest
from portside.spec.locks import Lock
from portside.spec.manifests import ManifestReference
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadSession
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import SOURCE, EventAction, NewEvent
from portside.stores.interfaces import LinkedBlob, Place, Remove, UnreferencedBlob
from portside.stores.metadata.engine import Job, Noun, Transaction
from portside.stores.metadata.events import EVENTS, event_row, record_events
from portside.stores.metadata.quotas import quota_of_blob, require_room, require_within
from portside.stores.metadata.refusals import blob_in_use, blob_unknown
from portside.stores.metadata.repositories import lock_repository, refuse_repository

_GET = """
    SELECT b.size, r.locks, l.unreferenced
    FROM repositories r
    JOIN repository_blobs l ON l.repository = r.id
    JOIN blobs b ON b.digest = l.digest
    WHERE r.name = $1 AND l.digest = $2 AND l.deleted IS NULL
"""
_CONFIRM = """
    UPDATE repository_blobs SET unreferenced = $3
    WHERE repository = (SELECT id FROM repositories WHERE name = $1) AND digest = $2
        AND deleted IS NULL AND unreferenced IS NOT NULL
"""
_UNLINK = """
    DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2 AND deleted IS NULL
"""
_LINKED_ANYWHERE = "SELECT 1 FROM repository_blobs WHERE digest = $1 LIMIT 1"
_MOUNTABLE = """
    SELECT 1
    FROM blobs b
    JOIN repository_blobs l ON l.digest = b.digest
    JOIN repositories r ON r.id = l.repository
    WHERE b.digest = $1 AND b.size = $2 AND (CAST($3 AS TEXT) IS NULL OR r.name = $3)
        AND (r.locks & 8) = 0 AND l.deleted IS NULL
    LIMIT 1
"""
_LINKING = """
    SELECT r.name
    FROM repository_blobs l JOIN repositories r ON r.id = l.repository
    WHERE l.digest = $1 AND l.deleted IS NULL
    LIMIT $2
"""
_DELETE = "DELETE FROM blobs WHERE digest = $1"
# A sparse index may list a blob that is pushed after it, as what it was then taken for: a manifest.
_NEEDED_BY = """
    SELECT m.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = $1 AND f.digest = $2 AND NOT f.weak AND m.deleted IS NULL AND (
        f.kind = 'blob' OR NOT EXISTS (
            SELECT 1 FROM manifests c WHERE c.repository = f.repository AND c.digest = f.digest
        )
    )
    LIMIT 1
"""
_NEEDED_BY_DELETED = """
    SELECT 1
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = $1 AND f.digest = $2 AND NOT f.weak AND m.deleted IS NOT NULL
    LIMIT 1
"""
_HIDE = """
    UPDATE repository_blobs SET deleted = $3
    WHERE repository = $1 AND digest = $2 AND deleted IS NULL
"""
_KNOWN = "SELECT 1 FROM blobs WHERE digest = $1"
_KNOWN_AMONG = "SELECT digest FROM blobs WHERE digest = ANY ($1)"

_UNREFERENCED = """
    SELECT r.name, l.digest, b.size, l.unreferenced, l.repository
    FROM repository_blobs l
    JOIN repositories r ON r.id = l.repository
    JOIN blobs b ON b.digest = l.digest
    WHERE l.unreferenced <= $1 AND (l.unreferenced, l.repository, l.digest) > ($2, $3, $4)
    ORDER BY l.unreferenced, l.repository, l.digest
    LIMIT $5
"""
_REFERRED_TO = "SELECT 1 FROM manifest_references WHERE repository = $1 AND digest = $2 LIMIT 1"
_UNLINK_EXPIRED = """
    DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2 AND unreferenced <= $3
"""
_REFERENCED = """
    UPDATE repository_blobs SET unreferenced = NULL
    WHERE repository = $1 AND digest = ANY ($2) AND unreferenced IS NOT NULL
"""
_NO_LONGER_REFERENCED = """
    UPDATE repository_blobs
    SET unreferenced = CASE WHEN deleted IS NULL THEN CAST($3 AS BIGINT) ELSE 0 END
    WHERE repository = $1 AND unreferenced IS NULL
        AND digest IN (SELECT f.digest FROM manifest_references f WHERE f.manifest = $2)
        AND NOT EXISTS (
            SELECT 1 FROM manifest_references o
            WHERE o.repository = $1 AND o.digest = repository_blobs.digest AND o.manifest <> $2
        )
"""


class BlobLinks(Noun):
    """The BlobLinkStore."""

    async def get_blob(self, repository: RepositoryName, digest: Digest) -> LinkedBlob:
        """Read the link with one query."""
        row = await self._database.find(_GET, str(repository), str(digest))
        if row is None:
            raise blob_unknown(repository, digest)
        size, locks, unreferenced = row
        if locks:
            refuse_repository(locks, Lock.READ, repository)
        return LinkedBlob(size, unreferenced)

    async def confirm_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Renew the time of the link; a manifest that refers to it by now keeps it as well."""
        row = (str(repository), str(digest))
        if await self._database.execute(_CONFIRM, *row, self._database.clock()) == 0:
            await self.get_blob(repository, digest)

    async def commit_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        size: int,
        *,
        session: UploadSession | None,
        place: Place,
        by: Actor = NOBODY,
        quota: int | None = None,
    ) -> None:
        """Write the rows, place the bytes, and commit."""
        event = NewEvent(EventAction.BLOB_PUSHED, str(repository), digest=str(digest), size=size)

        async def job(transaction: Transaction) -> None:
            limit = await quota_of_blob(transaction, repository, digest, quota)
            if limit is not None:
                await require_room(transaction, repository, limit, size)
            row = event_row(transaction.now, by, event)
            rows = await transaction.commit_blob(str(repository), digest, size, session, row)
            await transaction.place(place, is_new=rows.may_be_new)
            if not rows.is_linked:
                await transaction.link_blob(str(repository), digest, size)
            if not rows.is_recorded:
                await transaction.insert_many(EVENTS, [row])
            if limit is not None:
                await require_within(transaction, repository, limit, digest, size)

        await self._database.write_placing(job, blob=digest)

    async def mount_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        source: RepositoryName | None,
        *,
        size: int,
        by: Actor = NOBODY,
        quota: int | None = None,
    ) -> None:
        """Add a link if there is one to take it from, which stays until this one is there."""
        named = str(source) if source is not None else None
        details = {SOURCE: named} if named is not None else None
        event = NewEvent(
            EventAction.BLOB_MOUNTED,
            str(repository),
            digest=str(digest),
            size=size,
            details=details,
        )

        async def job(transaction: Transaction) -> None:
            if await transaction.find(_MOUNTABLE, str(digest), size, named) is None:
                raise blob_unknown(source, digest)
            limit = await quota_of_blob(transaction, repository, digest, quota)
            row = event_row(transaction.now, by, event)
            await transaction.link_blob(str(repository), digest, size, row)
            if limit is not None:
                await require_within(transaction, repository, limit, digest, size)

        await self._database.write(job, blob=digest)

    async def list_linking(self, digest: Digest, limit: int) -> list[RepositoryName]:
        """Read the links by their index."""
        rows = await self._database.find_all(_LINKING, str(digest), limit)
        return [RepositoryName(name) for (name,) in rows]

    async def unlink_blob(
        self, repository: RepositoryName, digest: Digest, *, remove: Remove, by: Actor = NOBODY
    ) -> None:
        """Delete the link, and with the last one the row; the bytes go after the commit.

        A link that a deleted manifest needs is hidden, so that the manifest can be restored.
        """

        async def job(transaction: Transaction) -> bool:
            owner = await lock_repository(transaction, str(repository))
            if owner is None:
                raise blob_unknown(repository, digest)
            refuse_repository(owner.locks, Lock.WRITE, repository)
            needed = await transaction.find(_NEEDED_BY, owner.id, str(digest))
            if needed is not None:
                raise blob_in_use(digest, needed[0])
            link = (owner.id, str(digest))
            is_needed = await transaction.find(_NEEDED_BY_DELETED, *link) is not None
            change = (_HIDE, *link, transaction.now) if is_needed else (_UNLINK, *link)
            if await transaction.execute(*change) == 0:
                raise blob_unknown(repository, digest)
            event = NewEvent(EventAction.BLOB_DELETED, str(repository), digest=str(digest))
            await record_events(transaction, by, [event])
            return not is_needed and await _delete_unlinked(transaction, digest)

        await self._database.write_removing(job, blob=digest, remove=remove)

    async def known_blobs(self, digests: Sequence[Digest]) -> set[Digest]:
        """Read the rows of the blobs, which have one while any repository links them."""
        rows = await self._database.find_all(_KNOWN_AMONG, list(map(str, digests)))
        return {Digest(digest) for (digest,) in rows}

    async def remove_orphaned_blob(self, digest: Digest, *, remove: Remove) -> bool:
        """Look for the row where nobody can be adding it, and remove the bytes if there is none."""
        return await self._database.write_removing(is_unknown(digest), blob=digest, remove=remove)

    async def list_unreferenced(
        self, until: int, after: UnreferencedBlob | None = None, *, limit: int
    ) -> list[UnreferencedBlob]:
        """Read the index of unreferenced links, the longest unreferenced first."""
        start = (-1, 0, "") if after is None else (after.since, after.key, str(after.digest))
        rows = await self._database.find_all(_UNREFERENCED, until, *start, limit)
        return [
            UnreferencedBlob(RepositoryName(name), Digest(digest), *rest)
            for name, digest, *rest in rows
        ]

    async def collect_blob(self, found: UnreferencedBlob, until: int, *, remove: Remove) -> bool:
        """Look once more with the repository locked, and delete the link as a client would."""
        was_collected = False

        async def job(transaction: Transaction) -> bool:
            nonlocal was_collected
            was_collected = False
            await lock_repository(transaction, str(found.repository))
            link = (found.key, str(found.digest))
            if await transaction.find(_REFERRED_TO, *link) is not None:
                await transaction.execute(_REFERENCED, found.key, [str(found.digest)])
                return False
            # A client that is told of the blob renews the link without locking the repository.
            if await transaction.execute(_UNLINK_EXPIRED, *link, until) == 0:
                return False
            was_collected = True
            return await _delete_unlinked(transaction, found.digest)

        await self._database.write_removing(job, blob=found.digest, remove=remove)
        return was_collected


async def _delete_unlinked(transaction: Transaction, digest: Digest) -> bool:
    """Delete a blob if no repository links it any more; return whether that is so."""
    if await transaction.find(_LINKED_ANYWHERE, str(digest)) is not None:
        return False
    await transaction.execute(_DELETE, str(digest))
    return True


async def reference_blobs(
    transaction: Transaction, owner: int, references: Iterable[ManifestReference]
) -> None:
    """Note that a manifest refers to blobs of a repository."""
    await transaction.execute(_REFERENCED, owner, [str(item.digest) for item in references])


async def unreference_blobs(transaction: Transaction, owner: int, manifest: int) -> None:
    """Note that a manifest is about to go, for the blobs to which no other one refers."""
    await transaction.execute(_NO_LONGER_REFERENCED, owner, manifest, transaction.now)


def is_unknown(digest: Digest) -> Job[bool]:
    """Return a job that returns whether a blob has no row."""

    async def job(transaction: Transaction) -> bool:
        return await transaction.find(_KNOWN, str(digest)) is None

    return job
