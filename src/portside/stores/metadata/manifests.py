"""Manifests and tags.

A transaction that changes them locks the row of their repository: what it looked at, a condition's
tag or the blobs that a manifest needs, stays as it was until the change is committed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import ManifestInvalid
from portside.spec.manifests import Manifest, ManifestReference, ReferenceKind
from portside.spec.names import Reference, RepositoryName, Tag
from portside.stores.interfaces import StoredManifest
from portside.stores.metadata.engine import Noun, Transaction
from portside.stores.metadata.refusals import (
    manifest_in_use,
    manifest_unknown,
    references_missing,
    refuse_unmet,
)
from portside.stores.metadata.repositories import lock_or_add_repository, lock_repository
from portside.stores.metadata.schema.steps import TABLES

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
_DELETE = "DELETE FROM manifests WHERE id = $1"
_DELETE_REFERENCES = "DELETE FROM manifest_references WHERE manifest = $1"
_LISTED_BY = """
    SELECT m.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = $1 AND f.digest = $2 AND f.kind = 'manifest' AND f.manifest <> $3
    LIMIT 1
"""
_PRESENT_BLOBS = """
    SELECT 'blob', digest FROM repository_blobs WHERE repository = $1 AND digest = ANY ($2)
"""
_PRESENT = f"""
    {_PRESENT_BLOBS}
    UNION ALL
    SELECT 'manifest', digest FROM manifests WHERE repository = $1 AND digest = ANY ($3)
"""  # noqa: S608  # put together of constants
_TAGGED = """
    SELECT m.digest FROM tags t JOIN manifests m ON m.id = t.manifest
    WHERE t.repository = $1 AND t.name = $2
"""
_TAG = """
    INSERT INTO tags (repository, name, manifest, created, updated) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (repository, name)
    DO UPDATE SET manifest = excluded.manifest, updated = excluded.updated
"""
_UNTAG = "DELETE FROM tags WHERE repository = $1 AND name = $2"


class Manifests(Noun):
    """The ManifestStore."""

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
        """Store a manifest and its tags in one transaction."""

        async def job(transaction: Transaction) -> None:
            owner = await lock_or_add_repository(transaction, str(repository))
            await _require_condition(transaction, owner, tags or [manifest.digest], condition)
            references = await _resolve(transaction, owner, manifest, check_children=check_children)
            key = await _store(transaction, owner, manifest, references)
            now = transaction.now
            if tags:
                await transaction.execute_each(
                    _TAG, [(owner, str(tag), key, now, now) for tag in tags]
                )

        await self._database.write(job)

    async def delete_manifest(
        self, repository: RepositoryName, digest: Digest, condition: TagCondition | None = None
    ) -> None:
        """Delete a manifest; its tags and references go with its row."""

        async def job(transaction: Transaction) -> None:
            owner = await lock_repository(transaction, str(repository))
            found = await transaction.find(_FIND, owner, str(digest))
            if found is None:
                raise manifest_unknown(repository, digest)
            refuse_unmet(condition, digest, str(digest))
            parent = await transaction.find(_LISTED_BY, owner, str(digest), found[0])
            if parent is not None:
                raise manifest_in_use(digest, parent[0])
            await transaction.execute(_DELETE, found[0])

        await self._database.write(job)

    async def delete_tag(
        self, repository: RepositoryName, tag: Tag, condition: TagCondition | None = None
    ) -> None:
        """Delete a tag."""

        async def job(transaction: Transaction) -> None:
            owner = await lock_repository(transaction, str(repository))
            found = await transaction.find(_TAGGED, owner, str(tag))
            if found is None:
                raise manifest_unknown(repository, tag)
            refuse_unmet(condition, tag, found[0])
            await transaction.execute(_UNTAG, owner, str(tag))

        await self._database.write(job)


async def _require_condition(
    transaction: Transaction,
    owner: int,
    references: Sequence[Reference],
    condition: TagCondition | None,
) -> None:
    """Raise PreconditionFailed unless the condition holds for every reference."""
    if condition is None:
        return
    for reference in references:
        if isinstance(reference, Digest):
            found = await transaction.find(_FIND, owner, str(reference))
            current = str(reference) if found else None
        else:
            row = await transaction.find(_TAGGED, owner, str(reference))
            current = row[0] if row else None
        refuse_unmet(condition, reference, current)


async def _resolve(
    transaction: Transaction, owner: int, manifest: Manifest, *, check_children: bool
) -> list[ManifestReference]:
    """Return the references as they are stored: a child of an index as what the repository has.

    BuildKit's cache is an index of blobs. Bytes that the repository has as a manifest and as a blob
    are kept as both, because a client may read them as either. Without `check_children`, children
    are stored as not required.

    Raises ManifestBlobUnknown if the manifest needs what the repository does not have.
    """
    if not manifest.references:
        return []
    every = [str(item.digest) for item in manifest.references]
    children = [str(item.digest) for item in manifest.references if item.is_child]
    if children:
        rows = await transaction.find_all(_PRESENT, owner, every, children)
    else:
        rows = await transaction.find_all(_PRESENT_BLOBS, owner, every)
    present = {(kind, digest) for kind, digest in rows}
    resolved: dict[tuple[str, Digest], bool] = {}
    missing: list[ManifestReference] = []
    for item in manifest.references:
        kinds = ReferenceKind if item.is_child else (item.kind,)
        found = [kind for kind in kinds if (kind, str(item.digest)) in present]
        needed = item.required and (check_children or not item.is_child)
        if needed and not found:
            missing.append(item)
        for kind in found or [item.kind]:
            key = (str(kind), item.digest)
            resolved[key] = resolved.get(key, False) or needed
    if missing:
        raise references_missing(missing)
    return [
        ManifestReference(ReferenceKind(kind), digest, needed)
        for (kind, digest), needed in resolved.items()
    ]


async def _store(
    transaction: Transaction, owner: int, manifest: Manifest, references: list[ManifestReference]
) -> int:
    """Store the manifest if it is new; the same bytes with another type take the new type.

    Return the key of the row. Raises ManifestInvalid if the new type would no longer refer to what
    the old one does.
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
        (key,) = (await transaction.find_all(_ADD, *new))[0]
    else:
        key, media_type, subject = found
        if media_type == manifest.media_type:
            return key
        known = await transaction.find_all(_REFERS_TO, key)
        kept = {(str(item.kind), str(item.digest)) for item in (*references, *manifest.references)}
        _refuse_forgetting(set(map(tuple, known)) - kept, media_type, subject, manifest)
        await transaction.execute(_CHANGE_TYPE, manifest.media_type, *described, key)
        await transaction.execute(_DELETE_REFERENCES, key)
    if references:
        await transaction.insert_many(
            TABLES["manifest_references"],
            [(key, owner, str(item.kind), str(item.digest), item.required) for item in references],
        )
    return key


def _refuse_forgetting(
    dropped: Collection[tuple[str, str]], media_type: str, subject: str | None, manifest: Manifest
) -> None:
    """Raise ManifestInvalid if another media type would drop references of a stored manifest.

    A type may be corrected, but not so that what the manifest needs can be deleted. `dropped` are
    the kinds and digests that the stored manifest refers to, and the new one does not.
    """
    if dropped or (subject is not None and subject != manifest.subject):
        stored = (
            f"{manifest.digest} is stored as {media_type}; as {manifest.media_type} it would no"
            " longer refer to what it needs"
        )
        raise ManifestInvalid(stored)
