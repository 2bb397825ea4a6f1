"""Manifests and tags in PostgreSQL.

Whoever changes them holds the row of their repository: what was looked at, a condition's tag or the
blobs that a manifest needs, stays as it was until the change is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.manifests import Manifest, ManifestReference, ReferenceKind
from portside.spec.names import Reference, RepositoryName, Tag
from portside.stores.interfaces import StoredManifest
from portside.stores.metadata.judging import (
    check_retyping,
    judge_condition,
    manifest_in_use,
    manifest_unknown,
    must_be_present,
    refuse_missing,
)
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.postgres.repositories import lock_or_add_repository, lock_repository
from portside.stores.metadata.postgres.transactions import Transaction

_BY_TAG = """
    SELECT m.media_type, m.digest, m.payload
    FROM repositories r
    JOIN tags t ON t.repository = r.id
    JOIN manifests m ON m.id = t.manifest
    WHERE r.name = $1 AND t.name = $2
"""
_BY_DIGEST = """
    SELECT m.media_type, m.digest, m.payload
    FROM repositories r
    JOIN manifests m ON m.repository = r.id
    WHERE r.name = $1 AND m.digest = $2
"""
_FIND = "SELECT id, media_type, subject FROM manifests WHERE repository = $1 AND digest = $2"
_ADD = """
    INSERT INTO manifests
        (repository, digest, media_type, payload, size,
         subject, artifact_type, annotations, created)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    RETURNING id
"""
_REFERS_TO = "SELECT kind, digest FROM manifest_references WHERE manifest = $1"
_CHANGE_TYPE = """
    UPDATE manifests SET media_type = $1, subject = $2, artifact_type = $3, annotations = $4
    WHERE id = $5
"""
_DROP = "DELETE FROM manifests WHERE id = $1"
_ADD_REFERENCES = """
    INSERT INTO manifest_references (manifest, repository, kind, digest, required)
    SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::boolean[])
"""
_DROP_REFERENCES = "DELETE FROM manifest_references WHERE manifest = $1"
_LISTED_BY = """
    SELECT m.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = $1 AND f.digest = $2 AND f.kind = 'manifest' AND f.manifest <> $3
    LIMIT 1
"""
_PRESENT = {
    ReferenceKind.BLOB: """
        SELECT digest FROM repository_blobs WHERE repository = $1 AND digest = ANY ($2::text[])
    """,
    ReferenceKind.MANIFEST: """
        SELECT digest FROM manifests WHERE repository = $1 AND digest = ANY ($2::text[])
    """,
}
_TAGGED = """
    SELECT m.digest FROM tags t JOIN manifests m ON m.id = t.manifest
    WHERE t.repository = $1 AND t.name = $2
"""
_TAG = """
    INSERT INTO tags (repository, name, manifest, created, updated)
    SELECT $1, name, $3, $4, $4 FROM unnest($2::text[]) AS name
    ON CONFLICT (repository, name)
    DO UPDATE SET manifest = excluded.manifest, updated = excluded.updated
"""
_UNTAG = "DELETE FROM tags WHERE repository = $1 AND name = $2"


class PostgresManifests:
    """The ManifestStore over PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_manifest(
        self, repository: RepositoryName, reference: Reference
    ) -> StoredManifest:
        """Read a manifest with one query."""
        sql = _BY_DIGEST if isinstance(reference, Digest) else _BY_TAG
        row = await self._database.find(sql, str(repository), str(reference))
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
        names = list(dict.fromkeys(map(str, tags)))

        async def job(transaction: Transaction) -> None:
            owner = await lock_or_add_repository(transaction, repository)
            await _check_condition(transaction, owner, tags or [manifest.digest], condition)
            await _check_references(transaction, owner, manifest, check_children=check_children)
            key = await _keep(transaction, owner, manifest, check_children=check_children)
            if names:
                await transaction.execute(_TAG, owner, names, key, transaction.now)

        await self._database.write(job)

    async def delete_manifest(
        self, repository: RepositoryName, digest: Digest, condition: TagCondition | None = None
    ) -> None:
        """Drop a manifest; its tags and references go with its row."""

        async def job(transaction: Transaction) -> None:
            owner = await lock_repository(transaction, repository)
            found = await transaction.find(_FIND, owner, str(digest))
            if found is None:
                raise manifest_unknown(repository, digest)
            judge_condition(digest, str(digest), condition)
            parent = await transaction.find(_LISTED_BY, owner, str(digest), found[0])
            if parent is not None:
                raise manifest_in_use(digest, parent[0])
            await transaction.execute(_DROP, found[0])

        await self._database.write(job)

    async def delete_tag(
        self, repository: RepositoryName, tag: Tag, condition: TagCondition | None = None
    ) -> None:
        """Drop a tag."""

        async def job(transaction: Transaction) -> None:
            owner = await lock_repository(transaction, repository)
            found = await transaction.find(_TAGGED, owner, str(tag))
            if found is None:
                raise manifest_unknown(repository, tag)
            judge_condition(tag, found[0], condition)
            await transaction.execute(_UNTAG, owner, str(tag))

        await self._database.write(job)


async def _check_condition(
    transaction: Transaction,
    owner: int,
    references: Sequence[Reference],
    condition: TagCondition | None,
) -> None:
    if condition is None:
        return
    for reference in references:
        if isinstance(reference, Digest):
            found = await transaction.find(_FIND, owner, str(reference))
            current = str(reference) if found else None
        else:
            row = await transaction.find(_TAGGED, owner, str(reference))
            current = row[0] if row else None
        judge_condition(reference, current, condition)


async def _check_references(
    transaction: Transaction, owner: int, manifest: Manifest, *, check_children: bool
) -> None:
    needed = [
        reference
        for reference in manifest.references
        if must_be_present(reference, check_children=check_children)
    ]
    present: set[tuple[ReferenceKind, str]] = set()
    for kind, sql in _PRESENT.items():
        digests = [str(reference.digest) for reference in needed if reference.kind is kind]
        if digests:
            rows = await transaction.list(sql, owner, digests)
            present.update((kind, digest) for (digest,) in rows)
    refuse_missing([item for item in needed if (item.kind, str(item.digest)) not in present])


async def _keep(
    transaction: Transaction, owner: int, manifest: Manifest, *, check_children: bool
) -> int:
    """Store the manifest if it is new; the same bytes with another type take the new type.

    Children that were not looked for are noted as ones that may be missing. Raises ManifestInvalid
    if what they refer to would be forgotten with the old one.
    """
    described = (
        manifest.subject and str(manifest.subject),
        manifest.artifact_type,
        msgspec.json.encode(manifest.annotations),
    )
    found = await transaction.find(_FIND, owner, str(manifest.digest))
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
        added = await transaction.list(_ADD, *new)
        key = added[0][0]
    else:
        key, media_type, subject = found
        if media_type == manifest.media_type:
            return key
        known = await transaction.list(_REFERS_TO, key)
        check_retyping([(kind, digest) for kind, digest in known], media_type, subject, manifest)
        await transaction.execute(_CHANGE_TYPE, manifest.media_type, *described, key)
        await transaction.execute(_DROP_REFERENCES, key)
    if manifest.references:
        columns = _columns(manifest.references, check_children=check_children)
        await transaction.execute(_ADD_REFERENCES, key, owner, *columns)
    return key


def _columns(
    references: Sequence[ManifestReference], *, check_children: bool
) -> tuple[list[str], list[str], list[bool]]:
    """Give kinds, digests, and whether each is required."""
    return (
        [str(reference.kind) for reference in references],
        [str(reference.digest) for reference in references],
        [must_be_present(reference, check_children=check_children) for reference in references],
    )
