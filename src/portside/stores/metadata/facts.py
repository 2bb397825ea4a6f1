"""Every row there is, for `portside check`."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from portside.spec.digests import Digest
from portside.spec.manifests import Manifest, ManifestReference, ReferenceKind
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadSession
from portside.stores.inspection import BlobFact
from portside.stores.metadata.database import Database
from portside.stores.metadata.uploads import session_from_row

_BLOBS = "SELECT digest, size FROM blobs ORDER BY digest"
_UNLINKED = """
    SELECT digest FROM blobs b
    WHERE NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest)
"""
_MANIFESTS = """
    SELECT m.id, r.name, m.digest, m.media_type, m.payload, m.size, m.subject, m.artifact_type,
           m.annotations
    FROM manifests m JOIN repositories r ON r.id = m.repository
    ORDER BY m.id
"""
_REFERENCES = """
    SELECT kind, digest, required FROM manifest_references WHERE manifest = ? ORDER BY kind, digest
"""
_DANGLING = """
    SELECT r.name, m.digest, f.kind, f.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    JOIN repositories r ON r.id = f.repository
    WHERE f.required = 1 AND f.kind = 'blob' AND NOT EXISTS (
        SELECT 1 FROM repository_blobs l WHERE l.repository = f.repository AND l.digest = f.digest
    )
    UNION ALL
    SELECT r.name, m.digest, f.kind, f.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    JOIN repositories r ON r.id = f.repository
    WHERE f.required = 1 AND f.kind = 'manifest' AND NOT EXISTS (
        SELECT 1 FROM manifests c WHERE c.repository = f.repository AND c.digest = f.digest
    )
"""
_UPLOADS = "SELECT id, repository, algorithm, received, created, updated FROM uploads"


class SqliteFacts:
    """The CheckableMetadata over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def integrity_problems(self) -> Iterator[str]:
        """Let SQLite check its own file and keys, and look for references to nothing."""
        for (message,) in self._database.each("PRAGMA integrity_check"):
            if message != "ok":
                yield f"database: {message}"
        for table, _, parent, _ in self._database.each("PRAGMA foreign_key_check"):
            yield f"database: a row of {table} refers to a row of {parent} that does not exist"
        for (digest,) in self._database.each(_UNLINKED):
            yield f"blob {digest} is known, but no repository links it"
        for repository, manifest, kind, digest in self._database.each(_DANGLING):
            yield f"manifest {repository}@{manifest} refers to the missing {kind} {digest}"

    def blob_facts(self) -> Iterator[BlobFact]:
        """Read every blob."""
        for digest, size in self._database.each(_BLOBS):
            yield BlobFact(Digest(digest), size)

    def manifest_facts(self) -> Iterator[tuple[RepositoryName, Manifest, int]]:
        """Read every manifest with its references."""
        for row in self._database.each(_MANIFESTS):
            key, name, digest, media_type, payload, size, subject, kind, annotations = row
            references = tuple(
                ManifestReference(ReferenceKind(of), Digest(child), bool(required))
                for of, child, required in self._database.list(_REFERENCES, (key,))
            )
            manifest = Manifest(
                media_type=media_type,
                digest=Digest(digest),
                payload=payload,
                references=references,
                subject=Digest(subject) if subject else None,
                artifact_type=kind,
                annotations=msgspec.json.decode(annotations, type=dict[str, str]),
            )
            yield RepositoryName(name), manifest, size

    def upload_facts(self) -> Iterator[UploadSession]:
        """Read every session."""
        for row in self._database.each(_UPLOADS):
            yield session_from_row(row)
