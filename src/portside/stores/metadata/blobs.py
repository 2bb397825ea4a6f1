"""Blobs and their links in SQLite."""

from __future__ import annotations

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadSession
from portside.stores.interfaces import Place, Remove
from portside.stores.metadata.database import Database
from portside.stores.metadata.judging import blob_in_use, blob_unknown
from portside.stores.metadata.repositories import ensure_repository, find_repository
from portside.stores.metadata.uploads import end_upload
from portside.stores.metadata.writer import Transaction

_SIZE = """
    SELECT b.size
    FROM repositories r
    JOIN repository_blobs l ON l.repository = r.id
    JOIN blobs b ON b.digest = l.digest
    WHERE r.name = ? AND l.digest = ?
"""
_ADD = "INSERT INTO blobs (digest, size, created) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_LINK = """
    INSERT INTO repository_blobs (repository, digest, linked) VALUES (?, ?, ?)
    ON CONFLICT DO NOTHING
"""
_UNLINK = "DELETE FROM repository_blobs WHERE repository = ? AND digest = ?"
_LINKED_ANYWHERE = "SELECT 1 FROM repository_blobs WHERE digest = ? LIMIT 1"
_LINKED = "SELECT 1 FROM repository_blobs WHERE repository = ? AND digest = ?"
_LINKING = """
    SELECT r.name
    FROM repository_blobs l JOIN repositories r ON r.id = l.repository
    WHERE l.digest = ?
    LIMIT ?
"""
_KNOWN = "SELECT 1 FROM blobs WHERE digest = ?"
_WHOLE = "SELECT 1 FROM blobs WHERE digest = ? AND size = ?"
_DROP = "DELETE FROM blobs WHERE digest = ?"
_NEEDED_BY = """
    SELECT m.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = ? AND f.digest = ? AND f.kind = 'blob'
    LIMIT 1
"""


class SqliteBlobs:
    """The BlobLinkStore over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_blob_size(self, repository: RepositoryName, digest: Digest) -> int:
        """Read the size with one query."""
        row = self._database.find(_SIZE, (str(repository), str(digest)))
        if row is None:
            raise blob_unknown(repository, digest)
        size: int = row[0]
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
        """Add the blob, its link and its bytes, and end its session, in one transaction."""

        def job(transaction: Transaction) -> None:
            if session is not None:
                end_upload(transaction, session)
            owner = ensure_repository(transaction, repository)
            added = transaction.execute(_ADD, (str(digest), size, transaction.now)).rowcount
            transaction.execute(_LINK, (owner, str(digest), transaction.now))
            undo = place()
            if undo is not None and added:
                transaction.undos.append(undo)

        await self._database.write(job)

    async def mount_blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        source: RepositoryName | None,
        *,
        size: int,
    ) -> None:
        """Add a link if there is one to take it from."""

        def job(transaction: Transaction) -> None:
            is_whole = transaction.execute(_WHOLE, (str(digest), size)).fetchone() is not None
            if not is_whole or not _is_mountable(transaction, digest, source):
                raise blob_unknown(source, digest)
            owner = ensure_repository(transaction, repository)
            transaction.execute(_LINK, (owner, str(digest), transaction.now))

        await self._database.write(job)

    async def list_linking(self, digest: Digest, limit: int) -> list[RepositoryName]:
        """Read the links by their index."""
        rows = self._database.list(_LINKING, (str(digest), limit))
        return [RepositoryName(name) for (name,) in rows]

    async def unlink_blob(
        self, repository: RepositoryName, digest: Digest, *, remove: Remove
    ) -> None:
        """Drop the link, and with the last one the row; the bytes go after the commit."""

        def job(transaction: Transaction) -> None:
            owner = find_repository(transaction, repository)
            needed = transaction.execute(_NEEDED_BY, (owner, str(digest))).fetchone()
            if needed is not None:
                raise blob_in_use(digest, needed[0])
            if transaction.execute(_UNLINK, (owner, str(digest))).rowcount == 0:
                raise blob_unknown(repository, digest)
            if transaction.execute(_LINKED_ANYWHERE, (str(digest),)).fetchone() is None:
                transaction.execute(_DROP, (str(digest),))
                transaction.after_commit.append(remove)

        await self._database.write(job)

    async def drop_stray(self, digest: Digest, *, remove: Remove) -> bool:
        """Look for the row where nobody can be adding it, and remove the bytes if there is none."""

        def job(transaction: Transaction) -> bool:
            if transaction.execute(_KNOWN, (str(digest),)).fetchone() is not None:
                return False
            transaction.after_commit.append(remove)
            return True

        return await self._database.write(job)


def _is_mountable(transaction: Transaction, digest: Digest, source: RepositoryName | None) -> bool:
    if source is None:
        found = transaction.execute(_LINKED_ANYWHERE, (str(digest),))
    else:
        found = transaction.execute(_LINKED, (find_repository(transaction, source), str(digest)))
    return found.fetchone() is not None
