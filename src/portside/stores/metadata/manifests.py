"""Manifests and tags.

A transaction that changes them locks the row of their repository: what it looked at, a condition's
tag or the blobs that a manifest needs, stays as it was until the change is committed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import ManifestInvalid
from portside.spec.locks import ON_DELETE, Lock
from portside.spec.manifests import Manifest, ManifestReference, ReferenceKind
from portside.spec.names import Reference, RepositoryName, Tag
from portside.spec.platforms import Platform
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.interfaces import NOT_RECORDED, Recorded, StoredManifest
from portside.stores.metadata.blobs import reference_blobs, unreference_blobs
from portside.stores.metadata.engine import Noun, Transaction, require_row
from portside.stores.metadata.events import record_events
from portside.stores.metadata.quotas import require_room_for_manifest
from portside.stores.metadata.refusals import (
    Remedy,
    manifest_in_use,
    manifest_unknown,
    references_missing,
    refuse_immutable,
    refuse_locked,
    refuse_unmet,
)
from portside.stores.metadata.repositories import (
    LockedRow,
    count_changes,
    lock_or_add_repository,
    lock_repository,
    refuse_repository,
)
from portside.stores.metadata.schema.steps import TABLES
from portside.stores.metadata.tag_history import note_untagged, record_change
from portside.stores.metadata.trash import (
    content_restored,
    discard_manifest,
    discard_tags,
    manifest_deleted,
    restore_deleted,
    restore_row,
)
from portside.stores.tag_history import RestoredTag

# The locks of all three in one number, which is 0 unless one is locked.
_BY_TAG = """
    SELECT m.media_type, m.digest, m.payload, r.locks | (m.locks << 8) | (t.locks << 16)
    FROM repositories r
    JOIN tags t ON t.repository = r.id
    JOIN manifests m ON m.id = t.manifest
    WHERE r.name = $1 AND t.name = $2
"""
_BY_DIGEST = """
    SELECT m.media_type, m.digest, m.payload, r.locks | (m.locks << 8)
    FROM repositories r
    JOIN manifests m ON m.repository = r.id
    WHERE r.name = $1 AND m.digest = $2 AND m.deleted IS NULL
"""
_PLATFORM = """
    SELECT m.architecture, m.os
    FROM repositories r JOIN manifests m ON m.repository = r.id
    WHERE r.name = $1 AND m.digest = $2 AND m.media_type = $3 AND m.image_size IS NOT NULL
"""
_FIND = """
    SELECT id, locks, media_type, subject FROM manifests
    WHERE repository = $1 AND digest = $2 AND deleted IS NULL
"""
_FIND_STORED = """
    SELECT id, locks, media_type, subject, deleted, size FROM manifests
    WHERE repository = $1 AND digest = $2
"""
_FIND_DELETED = "SELECT id, deleted FROM manifests WHERE repository = $1 AND digest = $2"
# Returns no row for a manifest that is stored in another state.
_PUT = """
    INSERT INTO manifests
        (repository, digest, media_type, payload, size, subject, artifact_type, annotations,
         created, pushed_by, config_media_type, architecture, os, image_size)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (repository, digest) DO UPDATE SET updated = excluded.created
    WHERE manifests.media_type = excluded.media_type AND manifests.payload = excluded.payload
        AND manifests.deleted IS NULL
    RETURNING id, updated IS NULL
"""
_HEAL = "UPDATE manifests SET updated = $1, payload = $2, size = $3 WHERE id = $4"
# The manifests that are listed, and those that they list; then all their blobs and some more.
_IMAGE_SIZE = """
    WITH RECURSIVE held (id) AS (
        SELECT id FROM manifests WHERE repository = $1 AND digest = ANY ($2)
        UNION
        SELECT c.id
        FROM held h
        JOIN manifest_references f ON f.manifest = h.id AND f.kind = 'manifest'
        JOIN manifests c ON c.repository = f.repository AND c.digest = f.digest
    )
    SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM (
        SELECT digest, size FROM blobs WHERE digest = ANY ($3)
        UNION
        SELECT b.digest, b.size
        FROM held h
        JOIN manifest_references f ON f.manifest = h.id AND f.kind = 'blob' AND NOT f.weak
        JOIN blobs b ON b.digest = f.digest
    ) AS every
"""
_REFERS_TO = "SELECT kind, digest FROM manifest_references WHERE manifest = $1 AND NOT weak"
_CHANGE_TYPE = """
    UPDATE manifests
    SET media_type = $1, subject = $2, artifact_type = $3, annotations = $4, updated = $5,
        config_media_type = $6, architecture = $7, os = $8, image_size = $9,
        payload = $10, size = $11
    WHERE id = $12
"""
_DELETE_REFERENCES = "DELETE FROM manifest_references WHERE manifest = $1"
_LISTED_BY = """
    SELECT m.digest
    FROM manifest_references f
    JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = $1 AND f.digest = $2 AND f.kind = 'manifest' AND f.manifest <> $3
        AND m.deleted IS NULL
    LIMIT 1
"""
_PRESENT_BLOBS = """
    SELECT 'blob', digest, unreferenced IS NOT NULL
    FROM repository_blobs
    WHERE repository = $1 AND digest = ANY ($2) AND deleted IS NULL
"""
_PRESENT = f"""
    {_PRESENT_BLOBS}
    UNION ALL
    SELECT 'manifest', digest, FALSE
    FROM manifests
    WHERE repository = $1 AND digest = ANY ($3) AND deleted IS NULL
"""  # noqa: S608  # put together of constants
_TAGGED = """
    SELECT t.name, t.locks, m.digest FROM tags t JOIN manifests m ON m.id = t.manifest
    WHERE t.repository = $1 AND t.name = $2
"""
_TAGGED_OF_SEVERAL = _TAGGED.replace("= $2", "= ANY ($2)")
_TAGS_OF = """
    SELECT COUNT(*), MIN(CASE WHEN (locks & 3) <> 0 THEN name END) FROM tags WHERE manifest = $1
"""
_NAMES_OF = "SELECT name FROM tags WHERE manifest = $1 ORDER BY name"
_TAG = """
    INSERT INTO tags (repository, name, manifest, created, updated) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (repository, name)
    DO UPDATE SET manifest = excluded.manifest, updated = excluded.updated
"""
# Only what changes is written, and so fewer indexes.
_TAGGED_AGAIN = "UPDATE tags SET updated = $1 WHERE repository = $2 AND name = $3"


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
        media_type, digest, payload, locks = row
        if locks:
            _refuse_pull(repository, reference, digest, locks)
        return StoredManifest(media_type, digest, payload)

    async def get_platform(self, repository: RepositoryName, manifest: Manifest) -> Platform | None:
        """Read the columns with one query."""
        key = (str(repository), str(manifest.digest), manifest.media_type)
        row = await self._database.find(_PLATFORM, *key)
        return Platform(*row) if row else None

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        *,
        tags: Sequence[Tag],
        condition: TagCondition | None,
        check_children: bool,
        recorded: Recorded = NOT_RECORDED,
        quota: int | None = None,
    ) -> None:
        """Store a manifest and its tags in one transaction."""

        async def job(transaction: Transaction) -> None:
            locked = await lock_or_add_repository(transaction, str(repository))
            refuse_repository(locked.locks, Lock.WRITE, repository)
            owner = locked.id
            known = await _known_tags(transaction, owner, tags)
            for name, (locks, _) in known.items():
                refuse_locked(locks, Lock.WRITE, f"tag {name} of repository {repository}")
            digest = str(manifest.digest)
            leaving = {name: tag.digest for name, tag in known.items() if tag.digest != digest}
            refuse_immutable(leaving, condition, repository, Remedy.PUSH)
            await _require_condition(
                transaction, owner, tags or [manifest.digest], known, condition
            )
            if quota is not None:
                await require_room_for_manifest(transaction, repository, quota, manifest)
            references = await _resolve(transaction, owner, manifest, check_children=check_children)
            key, is_new, size = await _store(transaction, locked, manifest, references, recorded)
            now = transaction.now
            again = known.keys() - leaving.keys()
            if again:
                await transaction.execute_each(
                    _TAGGED_AGAIN, [(now, owner, name) for name in again]
                )
            moved = {*map(str, tags)} - again
            if moved:
                await transaction.execute_each(
                    _TAG, [(owner, name, key, now, now) for name in moved]
                )
                changed = [(name, digest) for name in moved]
                name = recorded.by.name
                await record_change(transaction, owner, "set", changed, name)
                await note_untagged(transaction, owner, leaving.values())
            added = len({*tags} - known.keys())
            await count_changes(transaction, owner, manifests=int(is_new), tags=added, size=size)
            created = NewEvent(EventAction.REPOSITORY_CREATED, str(repository))
            await record_events(
                transaction,
                recorded.by,
                [
                    *([created] if locked.is_new else ()),
                    _pushed(repository, manifest, tags),
                    *(_tag_set(repository, manifest, tag, known) for tag in tags if tag in moved),
                ],
            )

        await self._database.write(job)

    async def delete_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        condition: TagCondition | None = None,
        *,
        by: Actor = NOBODY,
    ) -> None:
        """Delete a manifest and its tags."""

        async def job(transaction: Transaction) -> None:
            locked = await lock_repository(transaction, str(repository))
            if locked is None:
                raise manifest_unknown(repository, digest)
            found = await transaction.find(_FIND, locked.id, str(digest))
            if found is None:
                raise manifest_unknown(repository, digest)
            key, locks = found[0], found[1]
            refuse_unmet(condition, digest, str(digest))
            refuse_repository(locked.locks, Lock.WRITE, repository)
            refuse_locked(locks, ON_DELETE, f"manifest {digest} of repository {repository}")
            tags, locked_tag = require_row(await transaction.find(_TAGS_OF, key))
            if locked_tag is not None:
                known = await _known_tags(transaction, locked.id, [Tag(locked_tag)])
                what = f"tag {locked_tag} of {digest} in repository {repository}"
                refuse_locked(known[locked_tag].locks, ON_DELETE, what)
            if condition is not None and condition.immutable:
                names = await transaction.find_all(_NAMES_OF, key)
                refuse_immutable([name for (name,) in names], condition, repository, Remedy.DELETE)
            parent = await transaction.find(_LISTED_BY, locked.id, str(digest), key)
            if parent is not None:
                raise manifest_in_use(digest, parent[0])
            names = await discard_manifest(transaction, key, by.name)
            await count_changes(transaction, locked.id, manifests=-1, tags=-tags)
            events = manifest_deleted(str(repository), str(digest), names, found[2])
            await record_events(transaction, by, events)

        await self._database.write(job)

    async def delete_tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        condition: TagCondition | None = None,
        *,
        by: Actor = NOBODY,
    ) -> None:
        """Delete a tag."""

        async def job(transaction: Transaction) -> None:
            locked = await lock_repository(transaction, str(repository))
            found = None
            if locked is not None:
                found = (await _known_tags(transaction, locked.id, [tag])).get(str(tag))
            if locked is None or found is None:
                raise manifest_unknown(repository, tag)
            refuse_unmet(condition, tag, found.digest)
            refuse_repository(locked.locks, Lock.WRITE, repository)
            refuse_locked(found.locks, ON_DELETE, f"tag {tag} of repository {repository}")
            refuse_immutable([str(tag)], condition, repository, Remedy.DELETE)
            await discard_tags(transaction, locked.id, [(str(tag), found.digest)], by.name)
            await count_changes(transaction, locked.id, tags=-1)
            event = NewEvent(EventAction.TAG_DELETED, str(repository), str(tag), found.digest)
            await record_events(transaction, by, [event])

        await self._database.write(job)

    async def restore_tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        digest: Digest,
        condition: TagCondition | None = None,
        *,
        since: int = 0,
        by: Actor = NOBODY,
    ) -> RestoredTag:
        """Move or add a tag, and restore the manifest before if need be."""

        async def job(transaction: Transaction) -> RestoredTag:
            locked = await lock_repository(transaction, str(repository))
            if locked is None:
                raise manifest_unknown(repository, digest)
            refuse_repository(locked.locks, Lock.WRITE, repository)
            known = (await _known_tags(transaction, locked.id, [tag])).get(str(tag))
            current = known.digest if known is not None else None
            if known is not None:
                what = f"tag {tag} of repository {repository}"
                refuse_locked(known.locks, Lock.WRITE, what)
            refuse_unmet(condition, tag, current)
            if current == digest:
                return RestoredTag(current, [])
            if current is not None:
                refuse_immutable([str(tag)], condition, repository, Remedy.RESTORE)
            found = await transaction.find(_FIND_DELETED, locked.id, str(digest))
            if found is None:
                raise manifest_unknown(repository, digest)
            key, deleted = found
            manifests: list[str] = []
            if deleted is not None:
                if deleted <= since:
                    raise manifest_unknown(repository, digest)
                in_trash = [(key, str(digest), deleted)]
                manifests = (
                    await restore_deleted(transaction, locked, in_trash, [], by.name)
                ).manifests
            now = transaction.now
            await transaction.execute(_TAG, locked.id, str(tag), key, now, now)
            pointed = [(str(tag), str(digest))]
            await record_change(transaction, locked.id, "restored", pointed, by.name)
            if current is not None:
                await note_untagged(transaction, locked.id, [current])
            await count_changes(transaction, locked.id, tags=int(known is None))
            events = content_restored(repository, manifests, pointed, before=current)
            await record_events(transaction, by, events)
            return RestoredTag(current, manifests)

        return await self._database.write(job)


def _pushed(repository: RepositoryName, manifest: Manifest, tags: Sequence[Tag]) -> NewEvent:
    """Return the event of a push; one of several tags are among its details."""
    return NewEvent(
        EventAction.MANIFEST_PUSHED,
        str(repository),
        str(tags[0]) if len(tags) == 1 else "",
        str(manifest.digest),
        manifest.media_type,
        manifest.size,
        {"tags": list(map(str, tags))} if len(tags) > 1 else None,
    )


def _tag_set(
    repository: RepositoryName, manifest: Manifest, tag: Tag, known: dict[str, _KnownTag]
) -> NewEvent:
    """Return the event of a tag that was pointed to a manifest, and what it pointed to before."""
    before = known.get(str(tag))
    return NewEvent(
        EventAction.TAG_SET,
        str(repository),
        str(tag),
        str(manifest.digest),
        manifest.media_type,
        manifest.size,
        {"before": before.digest} if before is not None else None,
    )


class _KnownTag(NamedTuple):
    locks: int
    digest: str


async def _known_tags(
    transaction: Transaction, owner: int, tags: Sequence[Tag]
) -> dict[str, _KnownTag]:
    """Read those of some tags that exist, by name."""
    if not tags:
        return {}
    if len(tags) == 1:
        rows = await transaction.find_all(_TAGGED, owner, str(tags[0]))
    else:
        rows = await transaction.find_all(_TAGGED_OF_SEVERAL, owner, list(map(str, tags)))
    return {name: _KnownTag(locks, digest) for name, locks, digest in rows}


def _refuse_pull(repository: RepositoryName, reference: Reference, digest: str, locks: int) -> None:
    """Raise OperationDisallowed if a lock of the repository, the manifest or the tag says so."""
    of_repository, of_manifest, of_tag = locks.to_bytes(3, "little")
    refuse_repository(of_repository, Lock.READ, repository)
    refuse_locked(of_manifest, Lock.READ, f"manifest {digest} of repository {repository}")
    refuse_locked(of_tag, Lock.READ, f"tag {reference} of repository {repository}")


class Described(NamedTuple):
    """The columns that lists show, and that are read outside of the manifest itself."""

    config_media_type: str | None
    architecture: str | None
    os: str | None
    image_size: int


async def describe(
    transaction: Transaction, owner: int, manifest: Manifest, platform: Platform
) -> Described:
    """Return what lists show of a manifest whose content is in the repository with that id."""
    config = manifest.config.media_type if manifest.config is not None else None
    size = manifest.image_size
    if size is None:
        listed = [str(item.digest) for item in manifest.references if item.is_child]
        blobs = [str(item.digest) for item in manifest.references if not item.is_weak]
        size = require_row(await transaction.find(_IMAGE_SIZE, owner, listed, blobs))[0]
    return Described(config, *platform, size)


async def _require_condition(
    transaction: Transaction,
    owner: int,
    references: Sequence[Reference],
    known: dict[str, _KnownTag],
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
            tag = known.get(str(reference))
            current = tag.digest if tag else None
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
    weak = [item for item in manifest.references if item.is_weak]
    named = [item for item in manifest.references if not item.is_weak]
    if not named:
        if weak:
            await reference_blobs(transaction, owner, weak)
        return weak
    every = [str(item.digest) for item in named]
    children = [str(item.digest) for item in manifest.references if item.is_child]
    if children:
        rows = await transaction.find_all(_PRESENT, owner, every, children)
    else:
        rows = await transaction.find_all(_PRESENT_BLOBS, owner, every)
    present = {(kind, digest) for kind, digest, _ in rows}
    resolved: dict[tuple[str, Digest], bool] = {}
    missing: list[ManifestReference] = []
    for item in named:
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
    if weak or any(is_unreferenced for _, _, is_unreferenced in rows):
        await reference_blobs(transaction, owner, manifest.references)
    return [
        *(
            ManifestReference(ReferenceKind(kind), digest, needed)
            for (kind, digest), needed in resolved.items()
        ),
        *weak,
    ]


class _StoredRow(NamedTuple):
    """The key of a manifest's row, whether clients did not see it before, and the bytes it adds."""

    key: int
    is_new: bool
    size: int


async def _store(
    transaction: Transaction,
    locked: LockedRow,
    manifest: Manifest,
    references: list[ManifestReference],
    recorded: Recorded,
) -> _StoredRow:
    """Store the manifest if it is new; the same bytes with another type take the new type.

    A deleted manifest is restored, and damaged bytes are replaced. Raises OperationDisallowed if a
    lock forbids another type, and ManifestInvalid if that type would no longer refer to what the
    old one does.
    """
    owner = locked.id
    listed = (
        manifest.subject and str(manifest.subject),
        manifest.artifact_type,
        msgspec.json.encode(manifest.annotations),
    )
    described = await describe(transaction, owner, manifest, recorded.platform)
    payload = (manifest.payload, manifest.size)
    row = (
        owner,
        str(manifest.digest),
        manifest.media_type,
        *payload,
        *listed,
        transaction.now,
        recorded.by.name,
        *described,
    )
    stored = await transaction.find_all(_PUT, *row)
    if stored:
        key, is_new = stored[0]
        if not is_new:
            return _StoredRow(key, is_new=False, size=0)
        size = manifest.size
    else:
        found = require_row(await transaction.find(_FIND_STORED, owner, str(manifest.digest)))
        key, locks, media_type, subject, deleted, known_size = found
        size = manifest.size - known_size
        is_new = deleted is not None
        if is_new:
            await restore_row(transaction, owner, key)
        if media_type == manifest.media_type:
            await transaction.execute(_HEAL, transaction.now, *payload, key)
            return _StoredRow(key, is_new, size)
        refuse_locked(locks, Lock.WRITE, f"manifest {manifest.digest}")
        known = await transaction.find_all(_REFERS_TO, key)
        kept = {
            (str(item.kind), str(item.digest))
            for item in (*references, *manifest.references)
            if not item.is_weak
        }
        _refuse_forgetting(set(map(tuple, known)) - kept, media_type, subject, manifest)
        await transaction.execute(
            _CHANGE_TYPE, manifest.media_type, *listed, transaction.now, *described, *payload, key
        )
        await unreference_blobs(transaction, owner, key)
        await transaction.execute(_DELETE_REFERENCES, key)
        await reference_blobs(transaction, owner, references)
    if references:
        await transaction.insert_many(
            TABLES["manifest_references"],
            [
                (key, owner, str(item.kind), str(item.digest), item.required, item.is_weak)
                for item in references
            ],
        )
    return _StoredRow(key, is_new, size)


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
