"""What retention reads and deletes, a repository at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from portside.spec.locks import ON_DELETE, Lock
from portside.spec.names import RepositoryName
from portside.spec.retention import Removal, RetainedContent, RetainedManifest, RetainedTag
from portside.stores.actors import Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.metadata.engine import Noun, Queries, Transaction, require_row
from portside.stores.metadata.events import record_events
from portside.stores.metadata.repositories import count_changes, lock_repository
from portside.stores.metadata.trash import (
    discard_manifest,
    discard_tags,
    manifest_deleted,
)
from portside.stores.properties import Deleted

PAGE = 5000
"""Rows that are read at once."""

_REPOSITORY = "SELECT id, locks FROM repositories WHERE name = $1"
_TAGS = """
    SELECT t.name, m.digest, t.updated, t.locks
    FROM tags t JOIN manifests m ON m.id = t.manifest
    WHERE t.repository = $1 AND t.name > $2
    ORDER BY t.name
    LIMIT $3
"""
_MANIFESTS = """
    SELECT m.digest, COALESCE(m.updated, m.created), m.untagged, p.pulled, m.subject, m.locks
    FROM manifests m LEFT JOIN manifest_pulls p ON p.manifest = m.id
    WHERE m.repository = $1 AND m.digest > $2 AND m.deleted IS NULL
    ORDER BY m.digest
    LIMIT $3
"""
# A manifest is kept with what refers to it in any way, by an annotation for example.
_CHILDREN = """
    SELECT m.digest, c.digest
    FROM manifests c
    JOIN manifest_references f ON f.repository = c.repository AND f.digest = c.digest
    JOIN manifests m ON m.id = f.manifest
    WHERE c.repository = $1 AND c.deleted IS NULL AND m.deleted IS NULL AND m.id <> c.id
"""
_UNSHARED = """
    SELECT CAST(COALESCE((
        SELECT SUM(size) FROM manifests WHERE repository = $1 AND digest = ANY ($2)
    ), 0) + COALESCE((
        SELECT SUM(b.size)
        FROM (
            SELECT DISTINCT f.digest
            FROM manifests m JOIN manifest_references f ON f.manifest = m.id
            WHERE m.repository = $1 AND m.digest = ANY ($2)
        ) freed
        JOIN blobs b ON b.digest = freed.digest
        WHERE NOT EXISTS (
            SELECT 1
            FROM manifest_references f JOIN manifests m ON m.id = f.manifest
            WHERE f.repository = $1 AND f.digest = b.digest AND m.deleted IS NULL
                AND NOT (m.digest = ANY ($2))
        ) AND NOT EXISTS (
            SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest AND l.repository <> $1
        )
    ), 0) AS BIGINT)
"""
_CURRENT_TAGS = """
    SELECT t.name, m.digest, t.updated, p.pulled, t.locks, m.locks
    FROM tags t JOIN manifests m ON m.id = t.manifest
        LEFT JOIN manifest_pulls p ON p.manifest = m.id
    WHERE t.repository = $1 AND t.name = ANY ($2)
"""
_CURRENT_MANIFESTS = """
    SELECT digest, id, COALESCE(updated, created), locks
    FROM manifests
    WHERE repository = $1 AND digest = ANY ($2) AND deleted IS NULL
"""
_TAGS_OF = """
    SELECT m.digest, t.name
    FROM manifests m JOIN tags t ON t.manifest = m.id
    WHERE m.repository = $1 AND m.digest = ANY ($2)
"""
_PARENTS = """
    SELECT f.digest, m.digest
    FROM manifest_references f JOIN manifests m ON m.id = f.manifest
    WHERE f.repository = $1 AND f.digest = ANY ($2) AND m.deleted IS NULL
        AND m.digest <> f.digest
"""


class Retention(Noun):
    """The RetentionStore."""

    async def read_retained(self, repository: RepositoryName) -> RetainedContent:
        """Read page by page, apart from what requests read."""
        async with self._database.snapshot_apart() as queries:
            row = await queries.find(_REPOSITORY, str(repository))
            if row is None:
                return RetainedContent((), ())
            owner, locks = row
            tags = await _read(queries, _TAGS, owner)
            manifests = await _read(queries, _MANIFESTS, owner)
            children = await queries.find_all(_CHILDREN, owner)
        return await asyncio.to_thread(_content, tags, manifests, children, locks)

    async def unshared_size(self, repository: RepositoryName, manifests: Collection[str]) -> int:
        """Add up in one query."""
        async with self._database.snapshot_apart() as queries:
            row = await queries.find(_REPOSITORY, str(repository))
            if row is None or not manifests:
                return 0
            size: int = require_row(await queries.find(_UNSHARED, row[0], sorted(manifests)))[0]
            return size

    async def remove_retained(
        self, repository: RepositoryName, removal: Removal, *, by: Actor
    ) -> Deleted:
        """Delete in one transaction that has looked once more."""

        async def job(transaction: Transaction) -> Deleted:
            locked = await lock_repository(transaction, str(repository))
            if locked is None or locked.locks & ON_DELETE:
                return Deleted([], [])
            tags, keys = await _still_due(transaction, locked.id, removal)
            if tags:
                await discard_tags(transaction, locked.id, list(tags.items()), by.name)
            events = [
                NewEvent(EventAction.TAG_DELETED, str(repository), *tag)
                for tag in sorted(tags.items())
            ]
            for digest, key in sorted(keys.items()):
                names = await discard_manifest(transaction, key, by.name)
                events += manifest_deleted(str(repository), digest, names)
            if tags or keys:
                counts = {"manifests": len(keys), "tags": len(tags)}
                changes = {kind: -count for kind, count in counts.items()}
                await count_changes(transaction, locked.id, **changes)
                applied = NewEvent(EventAction.RETENTION_APPLIED, str(repository), details=counts)
                await record_events(transaction, by, [*events, applied])
            return Deleted(sorted(keys), sorted(tags))

        return await self._database.write(job)


def _content(
    tags: Sequence[Any], manifests: Sequence[Any], children: Sequence[Any], locks: int
) -> RetainedContent:
    """Make the content of a repository of its rows."""
    of: dict[str, list[str]] = defaultdict(list)
    for parent, child in children:
        of[parent].append(child)
    return RetainedContent(
        [RetainedTag(name, digest, pushed, Lock(lock)) for name, digest, pushed, lock in tags],
        [_manifest(row, of.get(row[0], ())) for row in manifests],
        Lock(locks),
    )


def _manifest(row: Any, children: Sequence[str]) -> RetainedManifest:
    digest, pushed, untagged, pulled, subject, locks = row
    return RetainedManifest(digest, pushed, untagged, pulled, subject, tuple(children), Lock(locks))


async def _read(queries: Queries, sql: str, owner: int) -> list[Any]:
    """Read all rows, page by page; the first column is the key."""
    found: list[Any] = []
    last = ""
    while page := await queries.find_all(sql, owner, last, PAGE):
        found += page
        last = page[-1][0]
    return found


class _Due(NamedTuple):
    """What is deleted now: the digests of tags by name, and the keys of manifests by digest."""

    tags: dict[str, str]
    manifests: dict[str, int]


async def _still_due(transaction: Transaction, owner: int, removal: Removal) -> _Due:
    """Return what of a removal is as it was when it was decided."""
    read = {tag.name: (tag.digest, tag.pushed) for tag in removal.tags}
    found = await _find(transaction, _CURRENT_TAGS, owner, sorted(read))
    tags = {
        name: digest
        for name, digest, pushed, pulled, *locks in found
        if read[name] == (digest, pushed)
        and removal.pulls.get(digest, pulled) == pulled
        and not (locks[0] | locks[1]) & ON_DELETE
    }
    pushes = {manifest.digest: manifest.pushed for manifest in removal.manifests}
    asked = sorted({*pushes, *removal.subjects.values()})
    rows = await _find(transaction, _CURRENT_MANIFESTS, owner, asked)
    present = {row[0] for row in rows}
    manifests = {
        digest: key
        for digest, key, pushed, locks in rows
        if pushes.get(digest) == pushed and not locks & ON_DELETE
    }
    digests = sorted(manifests)
    tagged = await _find(transaction, _TAGS_OF, owner, digests)
    parents = await _find(transaction, _PARENTS, owner, digests)
    while True:
        gone = present & manifests.keys()
        staying = {digest for digest, name in tagged if name not in tags}
        staying |= {child for child, parent in parents if parent not in manifests}
        staying |= {
            name
            for name, subject in removal.subjects.items()
            if subject in present and subject not in gone
        }
        if staying.isdisjoint(manifests) and staying.isdisjoint(tags):
            return _Due(tags, manifests)
        tags = {name: digest for name, digest in tags.items() if name not in staying}
        manifests = {digest: key for digest, key in manifests.items() if digest not in staying}


async def _find(transaction: Transaction, sql: str, owner: int, names: Sequence[str]) -> list[Any]:
    """Return the rows of some names."""
    return await transaction.find_all(sql, owner, names) if names else []
