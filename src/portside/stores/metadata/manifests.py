"""Manifests and tags in SQLite."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.manifests import Manifest, ManifestReference, ReferenceKind
from portside.spec.names import Reference, RepositoryName, Tag
from portside.stores.interfaces import StoredManifest
from portside.stores.metadata.database import Database
from portside.stores.metadata.judging import (
    check_retyping,
    judge_condition,
    manifest_in_use,
    manifest_unknown,
    must_be_present,
    refuse_missing,
)
from portside.stores.metadata.repositories import ensure_repository, find_repository
from portside.stores.metadata.writer import Transaction

_BY_TAG = """
    SELECT m.media_type, m.digest, m.payload
    FROM repositories r
    JOIN tags t ON t.repository = r.id
    JOIN manifests m ON m.id = t.manifest
    WHERE r.name = ? AND t.name = ?
"""
_BY_DIGEST = """
    SELECT m.media_type, m.digest, m.payload
    FROM repositories r
    JOIN manifests m ON m.repository = r.id
    WHERE r.name = ? AND m.digest = ?
"""
_FIND = "SELECT id, media_type, subject FROM manifests WHERE repository = ? AND digest = ?"
_ADD = """
    INSERT INTO manifests
        (repository, digest, media_type, payload, size,
         subject, artifact_type, annotations, created)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    RETURNING id
"""
_REFERS_TO = "SELECT kind, digest FROM manifest_references WHERE manifest = ?"
_CHANGE_TYPE = """
    UPDATE manifests SET media_type = ?, subject = ?, artifact_type = ?, annotations = ?
    WHERE id = ?
"""
_DROP = "DELETE FROM manifests WHERE id = ?"
_ADD_REFERENCE = """
    INSERT INTO manifest_references (manifest, repository, kind, digest, required)
    VALUES (?, ?, ?, ?, ?)
"""
_DROP_REFERENCES = "DELETE FROM manifest_references WHERE manifest = ?"
_LISTED_BY = """
    SELECT m.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = ? AND f.digest = ? AND f.kind = 'manifest' AND f.manifest <> ?
    LIMIT 1
"""
_PRESENT = {
    ReferenceKind.BLOB: "SELECT 1 FROM repository_blobs WHERE repository = ? AND digest = ?",
    ReferenceKind.MANIFEST: "SELECT 1 FROM manifests WHERE repository = ? AND digest = ?",
}
_TAGGED = """
    SELECT m.digest FROM tags t JOIN manifests m ON m.id = t.manifest
    WHERE t.repository = ? AND t.name = ?
"""
_TAG = """
    INSERT INTO tags (repository, name, manifest, created, updated)
    VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (repository, name)
    DO UPDATE SET manifest = excluded.manifest, updated = excluded.updated
"""
_UNTAG = "DELETE FROM tags WHERE repository = ? AND name = ?"


class SqliteManifests:
    """The ManifestStore over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_manifest(
        self, repository: RepositoryName, reference: Reference
    ) -> StoredManifest:
        """Read a manifest with one query."""
        sql = _BY_DIGEST if isinstance(reference, Digest) else _BY_TAG
        row = self._database.find(sql, (str(repository), str(reference)))
        if row is None:
            raise manifest_unknown(repository, reference)
        return StoredManifest(*row)

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        *,
        tags: Sequence[Tag],
        condition: TagCondition | None,
        check_children: bool,
    ) -> None:
        """Keep a manifest and its tags in one transaction."""

        def job(transaction: Transaction) -> None:
            owner = ensure_repository(transaction, repository)
            _check_condition(transaction, owner, tags or [manifest.digest], condition)
            _check_references(transaction, owner, manifest, check_children=check_children)
            key = _keep(transaction, owner, manifest, check_children=check_children)
            now = transaction.now
            for tag in tags:
                transaction.execute(_TAG, (owner, str(tag), key, now, now))

        await self._database.write(job)

    async def delete_manifest(
        self, repository: RepositoryName, digest: Digest, condition: TagCondition | None = None
    ) -> None:
        """Drop a manifest; its tags and references go with its row."""

        def job(transaction: Transaction) -> None:
            owner = find_repository(transaction, repository)
            found = transaction.execute(_FIND, (owner, str(digest))).fetchone()
            if found is None:
                raise manifest_unknown(repository, digest)
            _check_condition(transaction, owner, [digest], condition)
            parent = transaction.execute(_LISTED_BY, (owner, str(digest), found[0])).fetchone()
            if parent is not None:
                raise manifest_in_use(digest, parent[0])
            transaction.execute(_DROP, (found[0],))

        await self._database.write(job)

    async def delete_tag(
        self, repository: RepositoryName, tag: Tag, condition: TagCondition | None = None
    ) -> None:
        """Drop a tag."""

        def job(transaction: Transaction) -> None:
            owner = find_repository(transaction, repository)
            if transaction.execute(_TAGGED, (owner, str(tag))).fetchone() is None:
                raise manifest_unknown(repository, tag)
            _check_condition(transaction, owner, [tag], condition)
            transaction.execute(_UNTAG, (owner, str(tag)))

        await self._database.write(job)


def _check_condition(
    transaction: Transaction,
    owner: int | None,
    references: Sequence[Reference],
    condition: TagCondition | None,
) -> None:
    if condition is None:
        return
    for reference in references:
        if isinstance(reference, Digest):
            found = transaction.execute(_FIND, (owner, str(reference))).fetchone()
            current = str(reference) if found else None
        else:
            row = transaction.execute(_TAGGED, (owner, str(reference))).fetchone()
            current = row[0] if row else None
        judge_condition(reference, current, condition)


def _check_references(
    transaction: Transaction, owner: int, manifest: Manifest, *, check_children: bool
) -> None:
    missing = [
        reference
        for reference in manifest.references
        if must_be_present(reference, check_children=check_children)
        and not _is_present(transaction, owner, reference)
    ]
    refuse_missing(missing)


def _is_present(transaction: Transaction, owner: int, reference: ManifestReference) -> bool:
    sql = _PRESENT[reference.kind]
    return transaction.execute(sql, (owner, str(reference.digest))).fetchone() is not None


def _keep(transaction: Transaction, owner: int, manifest: Manifest, *, check_children: bool) -> int:
    """Store the manifest if it is new; the same bytes with another type take the new type.

    Children that were not looked for are noted as ones that may be missing. Raises ManifestInvalid
    if what they refer to would be forgotten with the old one.
    """
    described = (
        manifest.subject and str(manifest.subject),
        manifest.artifact_type,
        msgspec.json.encode(manifest.annotations),
    )
    found = transaction.execute(_FIND, (owner, str(manifest.digest))).fetchone()
    key: int
    if found is None:
        new = (
            owner,
            str(manifest.digest),
            manifest.media_type,
            manifest.payload,
            manifest.size,
            *described,
            transaction.now,
        )
        key = transaction.execute(_ADD, new).fetchone()[0]
    else:
        key, media_type, subject = found
        if media_type == manifest.media_type:
            return key
        known = transaction.execute(_REFERS_TO, (key,))
        check_retyping(known, media_type, subject, manifest)
        transaction.execute(_CHANGE_TYPE, (manifest.media_type, *described, key))
        transaction.execute(_DROP_REFERENCES, (key,))
    for reference in manifest.references:
        required = int(must_be_present(reference, check_children=check_children))
        row = (key, owner, str(reference.kind), str(reference.digest), required)
        transaction.execute(_ADD_REFERENCE, row)
    return key
