"""Every row, one after another, for `portside check`.

Rows are read in pages, each by keyset: a cursor that stays open while blobs are read keeps SQLite's
log from shrinking, and it would grow for as long as the check runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from portside.spec.digests import Digest
from portside.stores.inspection import (
    BlobRecord,
    ImageNames,
    ManifestRecord,
    ReferenceRecord,
    RepositoryRecord,
    UploadRecord,
)
from portside.stores.metadata.engine import Noun

PAGE = 1000
"""Rows that are read at once."""

SUMMED = 100
"""Repositories that are read at once, each with all its rows: PostgreSQL ends a statement that
takes too long."""

# Each query of pages starts with the columns of its key.
_REPOSITORIES = """
    SELECT r.id, r.name, r.manifest_count,
           (SELECT COUNT(*) FROM manifests m WHERE m.repository = r.id AND m.deleted IS NULL),
           r.tag_count, (SELECT COUNT(*) FROM tags t WHERE t.repository = r.id),
           CAST(r.manifest_bytes + COALESCE((
               SELECT SUM(l.size) FROM repository_blobs l WHERE l.repository = r.id
           ), 0) AS BIGINT),
           CAST(COALESCE((
               SELECT SUM(m.size) FROM manifests m WHERE m.repository = r.id
           ), 0) + COALESCE((
               SELECT SUM(b.size) FROM repository_blobs l JOIN blobs b ON b.digest = l.digest
               WHERE l.repository = r.id
           ), 0) AS BIGINT)
    FROM repositories r
    WHERE r.id > $1
    ORDER BY r.id
    LIMIT $2
"""
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
_UNCOLLECTED = """
    SELECT l.repository, l.digest, r.name
    FROM repository_blobs l JOIN repositories r ON r.id = l.repository
    WHERE (l.repository, l.digest) > ($1, $2) AND l.unreferenced IS NULL AND NOT EXISTS (
        SELECT 1 FROM manifest_references f
        WHERE f.repository = l.repository AND f.digest = l.digest
    )
    ORDER BY l.repository, l.digest
    LIMIT $3
"""
_MANIFESTS = "SELECT id FROM manifests WHERE id > $1 ORDER BY id LIMIT $2"
_MANIFEST = """
    SELECT r.name, m.digest, m.media_type, m.payload, m.size, m.subject, m.artifact_type,
           m.annotations, m.image_size IS NOT NULL
    FROM manifests m JOIN repositories r ON r.id = m.repository
    WHERE m.id = $1
"""
_REFERENCES = """
    SELECT f.kind, f.digest, f.required, CASE f.kind
        WHEN 'blob' THEN EXISTS (
            SELECT 1 FROM repository_blobs l
            WHERE l.repository = f.repository AND l.digest = f.digest
                AND (l.deleted IS NULL OR m.deleted IS NOT NULL)
        )
        ELSE EXISTS (
            SELECT 1 FROM manifests c
            WHERE c.repository = f.repository AND c.digest = f.digest
                AND (c.deleted IS NULL OR m.deleted IS NOT NULL)
        )
        END, f.weak
    FROM manifest_references f JOIN manifests m ON m.id = f.manifest
    WHERE f.manifest = $1
    ORDER BY f.kind, f.digest
"""
# The manifests that need something, and the indexes that list those, up to the outermost. A tag
# names an image; so does the digest of an outermost manifest that has no tag.
_NAMES = """
    WITH RECURSIVE needing (id) AS (
        {start}
        UNION
        SELECT f.manifest
        FROM needing n
        JOIN manifests m ON m.id = n.id
        JOIN manifest_references f
            ON f.repository = m.repository AND f.digest = m.digest AND f.kind = 'manifest'
    ),
    named (name) AS (
        SELECT r.name || ':' || t.name
        FROM needing n
        JOIN tags t ON t.manifest = n.id
        JOIN repositories r ON r.id = t.repository
        UNION ALL
        SELECT r.name || '@' || m.digest
            || CASE WHEN m.deleted IS NULL THEN '' ELSE ' (deleted)' END
        FROM needing n
        JOIN manifests m ON m.id = n.id
        JOIN repositories r ON r.id = m.repository
        WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest = m.id)
            AND NOT EXISTS (
                SELECT 1
                FROM manifest_references f JOIN manifests p ON p.id = f.manifest
                WHERE f.repository = m.repository AND f.digest = m.digest AND f.kind = 'manifest'
                    AND (p.deleted IS NULL OR m.deleted IS NOT NULL)
            )
    )
    SELECT name, COUNT(*) OVER () FROM named ORDER BY name LIMIT {limit}
"""
_NAMES_BY_BLOB = _NAMES.format(
    start="""
        SELECT f.manifest
        FROM repository_blobs l
        JOIN manifest_references f ON f.repository = l.repository AND f.digest = l.digest
        WHERE l.digest = $1 AND NOT f.weak
    """,
    limit="$2",
)
_NAMES_BY_MANIFEST = _NAMES.format(
    start="""
        SELECT m.id
        FROM repositories r JOIN manifests m ON m.repository = r.id
        WHERE r.name = $1 AND m.digest = $2
    """,
    limit="$3",
)
_UPLOADS = """
    SELECT id, repository, received FROM uploads
    WHERE id > $1 AND finished IS NULL
    ORDER BY id
    LIMIT $2
"""
_UPLOAD = "SELECT id, repository, received FROM uploads WHERE id = $1 AND finished IS NULL"


class Inspection(Noun):
    """The InspectableMetadata."""

    async def _pages(self, sql: str, *start: int | str, limit: int = PAGE) -> AsyncIterator[Any]:
        """Read the rows after a key, page by page."""
        while rows := await self._database.find_all(sql, *start, limit):
            for row in rows:
                yield row
            start = tuple(rows[-1])[: len(start)]

    def integrity_problems(self) -> AsyncIterator[str]:
        """Report what the engine finds wrong."""
        return self._database.damage()

    async def unlinked_blobs(self) -> AsyncIterator[str]:
        """Look for the links of every blob."""
        async for (digest,) in self._pages(_UNLINKED, ""):
            yield digest

    async def uncollected_links(self) -> AsyncIterator[tuple[str, str]]:
        """Look for a reference to the blob of every link without a time."""
        async for _, digest, repository in self._pages(_UNCOLLECTED, -1, ""):
            yield repository, digest

    async def repository_records(self) -> AsyncIterator[RepositoryRecord]:
        """Read every repository, each with its counts and sums in one query."""
        async for _, *row in self._pages(_REPOSITORIES, -1, limit=SUMMED):
            yield RepositoryRecord(*row)

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
        """Read every manifest, each with its references in one snapshot."""
        async for (key,) in self._pages(_MANIFESTS, -1):
            async with self._database.snapshot() as queries:
                row = await queries.find(_MANIFEST, key)
                references = await queries.find_all(_REFERENCES, key)
            if row is not None:
                yield _manifest(row, references)

    async def images_with_blob(self, digest: str, limit: int) -> ImageNames:
        """Follow the links of a blob, and the references in their repositories."""
        return _images(await self._database.find_all(_NAMES_BY_BLOB, digest, limit))

    async def images_with_manifest(self, repository: str, digest: str, limit: int) -> ImageNames:
        """Follow the references to a manifest."""
        return _images(await self._database.find_all(_NAMES_BY_MANIFEST, repository, digest, limit))

    async def upload_records(self) -> AsyncIterator[UploadRecord]:
        """Read every session."""
        async for row in self._pages(_UPLOADS, ""):
            yield UploadRecord(*row)

    async def upload_record(self, upload: str) -> UploadRecord | None:
        """Read the row of a session."""
        row = await self._database.find(_UPLOAD, upload)
        return UploadRecord(*row) if row is not None else None

    def hold_blob(self, digest: Digest) -> AbstractAsyncContextManager[None]:
        """Lock what a blob is changed under."""
        return self._database.hold_blob(digest)


def _images(rows: Sequence[Any]) -> ImageNames:
    return ImageNames(tuple(name for name, _ in rows), rows[0][1] if rows else 0)


def _manifest(row: Iterable[Any], references: Iterable[Any]) -> ManifestRecord:
    name, digest, media_type, payload, size, subject, kind, annotations, described = row
    return ManifestRecord(
        repository=name,
        digest=digest,
        media_type=media_type,
        payload=payload,
        size=size,
        subject=subject,
        artifact_type=kind,
        annotations=_decoded(annotations),
        references=tuple(
            ReferenceRecord(of, child, bool(required), bool(present), bool(weak))
            for of, child, required, present, weak in references
        ),
        described=bool(described),
    )


def _decoded(annotations: bytes) -> dict[str, str] | None:
    try:
        return msgspec.json.decode(annotations, type=dict[str, str])
    except msgspec.DecodeError:
        return None
