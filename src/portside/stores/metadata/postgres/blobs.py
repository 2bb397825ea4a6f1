"""Blobs and their links in PostgreSQL.

Every change of a blob's row, links or bytes happens under the advisory lock of its digest, which
also holds where there is no row yet that could be locked. A link that is taken away also needs the
row of its repository, so that no manifest can come to need it meanwhile.
"""

from __future__ import annotations

from portside.spec.digests import Digest
from portside.spec.errors import StorageFull, Unavailable
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadSession
from portside.stores.interfaces import Place, Remove, Undo
from portside.stores.metadata.judging import blob_in_use, blob_unknown
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.postgres.repositories import lock_repository
from portside.stores.metadata.postgres.transactions import Transaction
from portside.stores.metadata.postgres.uploads import refusal

_SIZE = """
    SELECT b.size
    FROM repositories r
    JOIN repository_blobs l ON l.repository = r.id
    JOIN blobs b ON b.digest = l.digest
    WHERE r.name = $1 AND l.digest = $2
"""

# One statement, for each one is a way to the server and back. Its parts see the tables as they were
# before it, so that the repository is either found or made; one that others make meanwhile is
# touched by the update that changes nothing, which gives its id.
_REPOSITORY = """
    found AS (SELECT id FROM repositories WHERE name = $1),
    made AS (
        INSERT INTO repositories (name, created)
        SELECT $1, $3 WHERE NOT EXISTS (SELECT 1 FROM found)
        ON CONFLICT (name) DO UPDATE SET name = excluded.name
        RETURNING id
    ),
    owner AS (SELECT id FROM found UNION ALL SELECT id FROM made),
    linked AS (
        INSERT INTO repository_blobs (repository, digest, linked)
        SELECT id, $2, $3 FROM owner
        ON CONFLICT DO NOTHING
    )
"""
_COMMIT = f"""
    WITH ended AS (DELETE FROM uploads WHERE id = $5 AND received = $6 RETURNING id),
    known AS (
        INSERT INTO blobs (digest, size, created) VALUES ($2, $4, $3) ON CONFLICT DO NOTHING
    ),
    over AS (DELETE FROM removals WHERE digest = $2 AND until <= clock_timestamp()),
    {_REPOSITORY}
    SELECT
        EXISTS (SELECT 1 FROM ended),
        EXISTS (SELECT 1 FROM removals WHERE digest = $2 AND until > clock_timestamp()),
        EXISTS (SELECT 1 FROM made)
"""  # noqa: S608  # put together of constants
_LINK = f"WITH {_REPOSITORY} SELECT 1"  # likewise
_MAKE = "INSERT INTO repositories (name, created) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_UNLINK = "DELETE FROM repository_blobs WHERE repository = $1 AND digest = $2"
_LINKED_ANYWHERE = "SELECT 1 FROM repository_blobs WHERE digest = $1 LIMIT 1"
_MOUNTABLE = """
    SELECT 1
    FROM blobs b
    JOIN repository_blobs l ON l.digest = b.digest
    JOIN repositories r ON r.id = l.repository
    WHERE b.digest = $1 AND b.size = $2 AND ($3::text IS NULL OR r.name = $3)
    LIMIT 1
"""
_LINKING = """
    SELECT r.name
    FROM repository_blobs l JOIN repositories r ON r.id = l.repository
    WHERE l.digest = $1
    LIMIT $2
"""
_KNOWN = "SELECT 1 FROM blobs WHERE digest = $1"
_DROP = "DELETE FROM blobs WHERE digest = $1"
_NEEDED_BY = """
    SELECT m.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = $1 AND f.digest = $2 AND f.kind = 'blob'
    LIMIT 1
"""


QUICK = 8 * 1024 * 1024
"""Bytes that are placed in a moment; for what is larger, the store may need minutes."""


class _RepositoryIsNew(Exception):
    """A transaction that will last has made a repository, and others would have to wait for it."""


class PostgresBlobs:
    """The BlobLinkStore over PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_blob_size(self, repository: RepositoryName, digest: Digest) -> int:
        """Read the size with one query."""
        row = await self._database.find(_SIZE, str(repository), str(digest))
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
        """Lock the digest, write with one statement, place the bytes, and commit.

        A repository that comes with a large blob is made before, so that other pushes to it need
        not wait for the bytes.
        """
        undos: list[Undo] = []

        async def job(transaction: Transaction) -> None:
            upload = (str(session.id), session.offset) if session is not None else (None, None)
            row = await transaction.find(
                _COMMIT, str(repository), str(digest), transaction.now, size, *upload
            )
            has_ended, is_being_removed, is_new = row or (False, False, False)
            if session is not None and not has_ended:
                raise await refusal(transaction, session.id)
            if is_being_removed:
                raise Unavailable(
                    f"{digest} is being removed by a node that was cut off; try again"
                )
            if is_new and size > QUICK:
                raise _RepositoryIsNew
            undo = await self._database.turns.run(place)
            if undo is not None:
                undos.append(undo)

        try:
            try:
                await self._database.write_with_bytes(job, blob=digest)
            except _RepositoryIsNew:
                await self._database.execute(_MAKE, str(repository), self._database.clock())
                await self._database.write_with_bytes(job, blob=digest)
        except StorageFull:
            # The bytes are in the way of everybody, unless somebody came to need them meanwhile.
            for undo in undos:
                await self.drop_stray(digest, remove=undo)
            raise

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
            await transaction.find(_LINK, str(repository), str(digest), transaction.now)

        await self._database.write(job, blob=digest)

    async def list_linking(self, digest: Digest, limit: int) -> list[RepositoryName]:
        """Read the links by their index."""
        rows = await self._database.list(_LINKING, str(digest), limit)
        return [RepositoryName(name) for (name,) in rows]

    async def unlink_blob(
        self, repository: RepositoryName, digest: Digest, *, remove: Remove
    ) -> None:
        """Drop the link, and with the last one the row; the bytes go after the commit."""

        async def job(transaction: Transaction) -> bool:
            owner = await lock_repository(transaction, repository)
            needed = await transaction.find(_NEEDED_BY, owner, str(digest))
            if needed is not None:
                raise blob_in_use(digest, needed[0])
            if await transaction.execute(_UNLINK, owner, str(digest)) == 0:
                raise blob_unknown(repository, digest)
            if await transaction.find(_LINKED_ANYWHERE, str(digest)) is not None:
                return False
            await transaction.execute(_DROP, str(digest))
            return True

        await self._database.remove_after(digest, job, remove)

    async def drop_stray(self, digest: Digest, *, remove: Remove) -> bool:
        """Look for the row where nobody can be adding it, and remove the bytes if there is none."""

        async def job(transaction: Transaction) -> bool:
            return await transaction.find(_KNOWN, str(digest)) is None

        return await self._database.remove_after(digest, job, remove)
