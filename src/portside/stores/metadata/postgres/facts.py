"""Every row there is, for `portside check`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from portside.spec.digests import Digest
from portside.stores.inspection import BlobRecord, ManifestRecord, UploadRecord
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.rows import manifest_record

PAGE = 1000
"""Rows that are read at once."""

# Each query of pages starts with the columns of its key.
_REPOSITORIES = "SELECT id, name FROM repositories WHERE id > $1 ORDER BY id LIMIT $2"
_TAGS = """
    SELECT t.repository, t.name, r.name
    FROM tags t JOIN repositories r ON r.id = t.repository
    WHERE (t.repository, t.name) > ($1, $2)
    ORDER BY t.repository, t.name
    LIMIT $3
"""
_BLOBS = "SELECT digest, size FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2"
_BLOB = "SELECT digest, size FROM blobs WHERE digest = $1"
_UNLINKED = """
    SELECT digest FROM blobs b
    WHERE digest > $1 AND NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest)
    ORDER BY digest
    LIMIT $2
"""
_MANIFESTS = "SELECT id FROM manifests WHERE id > $1 ORDER BY id LIMIT $2"
_MANIFEST = """
    SELECT r.name, m.digest, m.media_type, m.payload, m.size, m.subject, m.artifact_type,
           m.annotations
    FROM manifests m JOIN repositories r ON r.id = m.repository
    WHERE m.id = $1
"""
_REFERENCES = """
    SELECT f.kind, f.digest, f.required, CASE f.kind
        WHEN 'blob' THEN EXISTS (
            SELECT 1 FROM repository_blobs l
            WHERE l.repository = f.repository AND l.digest = f.digest
        )
        ELSE EXISTS (
            SELECT 1 FROM manifests c WHERE c.repository = f.repository AND c.digest = f.digest
        )
        END
    FROM manifest_references f
    WHERE f.manifest = $1
    ORDER BY f.kind, f.digest
"""
_UPLOADS = "SELECT id, repository, received FROM uploads WHERE id > $1 ORDER BY id LIMIT $2"
_UPLOAD = "SELECT id, repository, received FROM uploads WHERE id = $1"


class PostgresFacts:
    """The InspectableMetadata over PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _pages(self, sql: str, *start: int | str) -> AsyncIterator[Any]:
        """Read the rows behind a key, page after page."""
        while rows := await self._database.list(sql, *start, PAGE):
            for row in rows:
                yield row
            start = tuple(rows[-1])[: len(start)]

    async def integrity_problems(self) -> AsyncIterator[str]:
        """Look for blobs that nobody can read; PostgreSQL itself sees to its keys."""
        async for (digest,) in self._pages(_UNLINKED, ""):
            yield f"blob {digest} is known, but no repository links it"

    async def repository_names(self) -> AsyncIterator[str]:
        """Read every repository."""
        async for _, name in self._pages(_REPOSITORIES, -1):
            yield name

    async def tag_names(self) -> AsyncIterator[tuple[str, str]]:
        """Read every tag."""
        async for _, tag, repository in self._pages(_TAGS, -1, ""):
            yield repository, tag

    async def blob_records(self) -> AsyncIterator[BlobRecord]:
        """Read every blob, in the order of digests."""
        async for row in self._pages(_BLOBS, ""):
            yield BlobRecord(*row)

    async def blob_record(self, digest: str) -> BlobRecord | None:
        """Read the row of a blob."""
        row = await self._database.find(_BLOB, digest)
        return BlobRecord(*row) if row is not None else None

    async def manifest_records(self) -> AsyncIterator[ManifestRecord]:
        """Read every manifest, each with its references in one view of the database."""
        async for (key,) in self._pages(_MANIFESTS, -1):
            record = await _read_manifest(self._database, key)
            if record is not None:
                yield record

    async def upload_records(self) -> AsyncIterator[UploadRecord]:
        """Read every session."""
        async for row in self._pages(_UPLOADS, ""):
            yield UploadRecord(*row)

    async def upload_record(self, upload: str) -> UploadRecord | None:
        """Read the row of a session."""
        row = await self._database.find(_UPLOAD, upload)
        return UploadRecord(*row) if row is not None else None

    def hold_blob(self, digest: Digest) -> AbstractAsyncContextManager[None]:
        """Take the lock of the blob."""
        return self._database.quiet(digest)


async def _read_manifest(database: Database, key: int) -> ManifestRecord | None:
    async with database.connected() as connection:
        view = connection.transaction(isolation="repeatable_read", readonly=True)
        async with view:
            row = await connection.fetchrow(_MANIFEST, key)
            references = await connection.fetch(_REFERENCES, key)
    return manifest_record(row, references) if row is not None else None
