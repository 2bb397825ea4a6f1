"""Every row there is, for `portside check`.

Rows are read in pages, each by keyset: a cursor that is open while blobs are read keeps SQLite's
log from shrinking, and it would grow for as long as the check runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from portside.spec.digests import Digest
from portside.stores.inspection import BlobRecord, ManifestRecord, UploadRecord
from portside.stores.metadata.database import Database
from portside.stores.metadata.rows import manifest_record

PAGE = 1000
"""Rows that are read at once."""

# Each query of pages starts with the columns of its key.
_REPOSITORIES = "SELECT id, name FROM repositories WHERE id > ? ORDER BY id LIMIT ?"
_TAGS = """
    SELECT t.repository, t.name, r.name
    FROM tags t JOIN repositories r ON r.id = t.repository
    WHERE (t.repository, t.name) > (?, ?)
    ORDER BY t.repository, t.name
    LIMIT ?
"""
_BLOBS = "SELECT digest, size FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?"
_BLOB = "SELECT digest, size FROM blobs WHERE digest = ?"
_UNLINKED = """
    SELECT digest FROM blobs b
    WHERE digest > ? AND NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest)
    ORDER BY digest
    LIMIT ?
"""
_MANIFESTS = "SELECT id FROM manifests WHERE id > ? ORDER BY id LIMIT ?"
_MANIFEST = """
    SELECT r.name, m.digest, m.media_type, m.payload, m.size, m.subject, m.artifact_type,
           m.annotations
    FROM manifests m JOIN repositories r ON r.id = m.repository
    WHERE m.id = ?
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
    WHERE f.manifest = ?
"""
_UPLOADS = "SELECT id, repository, received FROM uploads WHERE id > ? ORDER BY id LIMIT ?"
_UPLOAD = "SELECT id, repository, received FROM uploads WHERE id = ?"


class SqliteFacts:
    """The InspectableMetadata over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _pages(self, sql: str, *start: int | str) -> AsyncIterator[Any]:
        """Read the rows behind a key, page after page."""
        while rows := self._database.list(sql, (*start, PAGE)):
            for row in rows:
                yield row
            start = rows[-1][: len(start)]

    async def integrity_problems(self) -> AsyncIterator[str]:
        """Let SQLite check its own file and keys, and look for blobs that nobody can read."""
        for (message,) in self._database.list("PRAGMA integrity_check"):
            if message != "ok":
                yield f"database: {message}"
        for table, _, parent, _ in self._database.list("PRAGMA foreign_key_check"):
            yield f"database: a row of {table} refers to a row of {parent} that does not exist"
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
        row = self._database.find(_BLOB, (digest,))
        return BlobRecord(*row) if row is not None else None

    async def manifest_records(self) -> AsyncIterator[ManifestRecord]:
        """Read every manifest, each with its references in one view of the database."""
        async for (key,) in self._pages(_MANIFESTS, -1):
            with self._database.snapshot():
                row = self._database.find(_MANIFEST, (key,))
                references = self._database.list(_REFERENCES, (key,))
            if row is not None:
                yield manifest_record(row, references)

    async def upload_records(self) -> AsyncIterator[UploadRecord]:
        """Read every session."""
        async for row in self._pages(_UPLOADS, ""):
            yield UploadRecord(*row)

    async def upload_record(self, upload: str) -> UploadRecord | None:
        """Read the row of a session."""
        row = self._database.find(_UPLOAD, (upload,))
        return UploadRecord(*row) if row is not None else None

    @asynccontextmanager
    async def hold_blob(self, _: Digest) -> AsyncIterator[None]:
        """Take the lock of all writers: there is no other."""
        with self._database.quiet():
            yield
