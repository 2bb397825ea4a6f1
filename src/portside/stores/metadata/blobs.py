"""Blobs and their links.

The row, the links and the bytes of a blob change together, while nobody else can change them. A
link is removed with its repository locked, so that no manifest comes to need it at the same time.
"""

from __future__ import annotations

from portside.spec.digests import Digest
from portside.spec.locks import Lock
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadSession
from portside.stores.interfaces import Place, Remove
from portside.stores.metadata.engine import Job, Noun, Transaction
from portside.stores.metadata.refusals import blob_in_use, blob_unknown
from portside.stores.metadata.repositories import lock_repository, refuse_repository

_SIZE = """
    SELECT b.size, r.locks
    FROM repositories r
    JOIN repository_blobs l ON l.repository = r.id
    JOIN blobs b ON b.digest = l.digest
    WHERE r.name = $1 AND l.digest = $2
"""
_UNLINK = "DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2"
_LINKED_ANYWHERE = "SELECT 1 FROM repository_blobs WHERE digest = $1 LIMIT 1"
_MOUNTABLE = """
    SELECT 1
    FROM blobs b
    JOIN repository_blobs l ON l.digest = b.digest
    JOIN repositories r ON r.id = l.repository
    WHERE b.digest = $1 AND b.size = $2 AND (CAST($3 AS TEXT) IS NULL OR r.name = $3)
        AND (r.locks & 8) = 0
    LIMIT 1
"""
_LINKING = """
    SELECT r.name
    FROM repository_blobs l JOIN repositories r ON r.id = l.repository
    WHERE l.digest = $1
    LIMIT $2
"""
_DELETE = "DELETE FROM blobs WHERE digest = $1"
# A sparse index may list a blob that is pushed after it, as what it was then taken for: a manifest.
_NEEDED_BY = """
    SELECT m.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = $1 AND f.digest = $2 AND NOT f.weak AND (
        f.kind = 'blob' OR NOT EXISTS (
            SELECT 1 FROM manifests c WHERE c.repository = f.repository AND c.digest = f.digest
        )
    )
    LIMIT 1
"""
_KNOWN = "SELECT 1 FROM blobs WHERE digest = $1"


class BlobLinks(Noun):
    """The BlobLinkStore."""

    async def get_blob_size(self, repository: RepositoryName, digest: Digest) -> int:
        """Read the size with one query."""
        row = await self._database.find(_SIZE, str(repository), str(digest))
        if row is None:
            raise blob_unknown(repository, digest)
        size: int
        size, locks = row
        if locks:
            refuse_repository(locks, Lock.READ, repository)
        return size

    async def commit_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        size: int,
        *,
        session: UploadSession | None,
        place: Place,
    ) -> None:
        """Write the rows, place the bytes, and commit."""

        async def job(transaction: Transaction) -> None:
            is_new = await transaction.commit_blob(str(repository), digest, size, session)
            await transaction.place(place, is_new=is_new)

        await self._database.write_placing(job, blob=digest)

    async def mount_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        source: RepositoryName | None,
        *,
        size: int,
    ) -> None:
        """Add a link if there is one to take it from, which stays until this one is there."""
        named = str(source) if source is not None else None

        async def job(transaction: Transaction) -> None:
            if await transaction.find(_MOUNTABLE, str(digest), size, named) is None:
                raise blob_unknown(source, digest)
            await transaction.link_blob(str(repository), digest)

        await self._database.write(job, blob=digest)

    async def list_linking(self, digest: Digest, limit: int) -> list[RepositoryName]:
        """Read the links by their index."""
        rows = await self._database.find_all(_LINKING, str(digest), limit)
        return [RepositoryName(name) for (name,) in rows]

    async def unlink_blob(
        self, repository: RepositoryName, digest: Digest, *, remove: Remove
    ) -> None:
        """Delete the link, and with the last one the row; the bytes go after the commit."""

        async def job(transaction: Transaction) -> bool:
            owner = await lock_repository(transaction, str(repository))
            if owner is None:
                raise blob_unknown(repository, digest)
            refuse_repository(owner.locks, Lock.WRITE, repository)
            needed = await transaction.find(_NEEDED_BY, owner.id, str(digest))
            if needed is not None:
                raise blob_in_use(digest, needed[0])
            if await transaction.execute(_UNLINK, owner.id, str(digest)) == 0:
                raise blob_unknown(repository, digest)
            if await transaction.find(_LINKED_ANYWHERE, str(digest)) is not None:
                return False
            await transaction.execute(_DELETE, str(digest))
            return True

        await self._database.write_removing(job, blob=digest, remove=remove)

    async def remove_orphaned_blob(self, digest: Digest, *, remove: Remove) -> bool:
        """Look for the row where nobody can be adding it, and remove the bytes if there is none."""
        return await self._database.write_removing(is_unknown(digest), blob=digest, remove=remove)


def is_unknown(digest: Digest) -> Job[bool]:
    """Return a job that returns whether a blob has no row."""

    async def job(transaction: Transaction) -> bool:
        return await transaction.find(_KNOWN, str(digest)) is None

    return job
