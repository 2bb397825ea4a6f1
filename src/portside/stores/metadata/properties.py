"""Properties and locks of repositories, tags and manifests; lists by keyset on an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.locks import ON_DELETE, Lock, LockChange
from portside.spec.manifests import INDEXES
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import Order, OrderedPageRequest, Page, PageRequest, cut
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.metadata.discovery import before_nul
from portside.stores.metadata.engine import Noun, Queries, Transaction
from portside.stores.metadata.events import record_events
from portside.stores.metadata.refusals import (
    Remedy,
    manifest_unknown,
    name_unknown,
    refuse_immutable,
    refuse_locked,
    tag_unknown,
)
from portside.stores.metadata.repositories import lock_repository, refuse_repository
from portside.stores.metadata.trash import discard_repository
from portside.stores.properties import (
    Deleted,
    ManifestProperties,
    RepositoryProperties,
    TagProperties,
)

# ruff: noqa: S608  # statements are put together of constants

_REPOSITORY_COLUMNS = "name, created, updated, manifest_count, tag_count, locks"
_REPOSITORY = f"""
    SELECT {_REPOSITORY_COLUMNS} FROM repositories WHERE name = $1 AND deleted IS NULL
"""
REPOSITORIES = f"""
    SELECT {_REPOSITORY_COLUMNS}
    FROM repositories
    WHERE name > $1 AND deleted IS NULL AND (locks & $2) = 0
    ORDER BY name
    LIMIT $3
"""
_ID = "SELECT id FROM repositories WHERE name = $1 AND deleted IS NULL"
_TAG_COLUMNS = """
    SELECT t.name, m.digest, t.created, t.updated, t.locks
    FROM tags t JOIN manifests m ON m.id = t.manifest
"""
_TAG = f"{_TAG_COLUMNS} WHERE t.repository = $1 AND t.name = $2"

_PUSHED = "COALESCE(m.updated, m.created)"
_MANIFEST_COLUMNS = f"""
    SELECT m.id, m.digest, m.media_type, m.size, m.created, {_PUSHED}, m.artifact_type,
           m.config_media_type, m.architecture, m.os, m.image_size, m.pushed_by, m.locks,
           (SELECT p.pulled FROM manifest_pulls p WHERE p.manifest = m.id)
    FROM manifests m
"""
_LIVE_MANIFEST = "m.repository = $1 AND m.deleted IS NULL"
_MANIFEST = f"{_MANIFEST_COLUMNS} WHERE {_LIVE_MANIFEST} AND m.digest = $2"
_SOME_MANIFESTS = f"{_MANIFEST_COLUMNS} WHERE {_LIVE_MANIFEST} AND m.digest = ANY ($2)"
_PAYLOADS = "SELECT id, payload FROM manifests WHERE id = ANY ($1)"

MAX_NAMED_TAGS = 1000
"""Tags that the properties of a manifest name: its first, as many as ACR's largest page has."""

# No tag is greater than a tilde.
TAGS_OF = f"""
    SELECT m.id, t.name
    FROM manifests m JOIN tags t ON t.manifest = m.id
    WHERE m.id = ANY ($1) AND (t.locks & 4) = 0 AND t.name < COALESCE(
        (
            SELECT s.name FROM tags s
            WHERE s.manifest = m.id AND (s.locks & 4) = 0
            ORDER BY s.name
            LIMIT 1 OFFSET {MAX_NAMED_TAGS}
        ),
        '~'
    )
    ORDER BY m.id, t.name
"""

MAX_INDEX_BYTES = 4 * 1024 * 1024
"""Bytes of indexes that a page of manifests holds, unless a single one is larger."""

_CHANGED = "(locks | CAST(${} AS BIGINT)) & ~CAST(${} AS BIGINT)"
_CHANGE_REPOSITORY = f"UPDATE repositories SET locks = {_CHANGED.format(2, 3)} WHERE id = $1"
_CHANGE_TAG = f"""
    UPDATE tags SET locks = {_CHANGED.format(3, 4)} WHERE repository = $1 AND name = $2
"""
_CHANGE_MANIFEST = f"""
    UPDATE manifests SET locks = {_CHANGED.format(3, 4)}
    WHERE repository = $1 AND digest = $2 AND deleted IS NULL
"""

_LOCKED_TAG = "SELECT name, locks FROM tags WHERE repository = $1 AND (locks & 3) <> 0 LIMIT 1"
_LOCKED_MANIFEST = """
    SELECT digest, locks FROM manifests
    WHERE repository = $1 AND (locks & 3) <> 0 AND deleted IS NULL
    LIMIT 1
"""
_EVERY_TAG = "SELECT name FROM tags WHERE repository = $1 ORDER BY name"
_EVERY_MANIFEST = """
    SELECT digest FROM manifests WHERE repository = $1 AND deleted IS NULL ORDER BY digest
"""
_DELETED = """
    UPDATE repositories SET manifest_count = 0, tag_count = 0, deleted = $2, locks = 0
    WHERE id = $1
"""


def _ordered(select: str, time: str, name: str, order: Order, condition: str) -> str:
    """Return the statement of a page in an order: behind the name $4, and in time the time $5.

    Items of one time are in the order of their names. The first comparison is what an index of an
    expression is found by.
    """
    if order is Order.NAME:
        behind, by = f"{name} > $4", name
    else:
        more, way = (">", "") if order is Order.OLDEST_FIRST else ("<", " DESC")
        behind = f"{time} {more}= $5 AND ({time}, {name}) {more} ($5, $4)"
        by = f"{time}{way}, {name}{way}"
    return f"{select} WHERE {condition} AND {behind} ORDER BY {by} LIMIT $3"


TAG_PAGES = {
    order: _ordered(
        _TAG_COLUMNS, "t.updated", "t.name", order, "t.repository = $1 AND (t.locks & $2) = 0"
    )
    for order in Order
}
TAG_PAGES_OF_MANIFEST = {
    order: _ordered(
        _TAG_COLUMNS, "t.updated", "t.name", order, "t.manifest = $1 AND (t.locks & $2) = 0"
    )
    for order in Order
}
MANIFEST_PAGES = {
    order: _ordered(
        _MANIFEST_COLUMNS, _PUSHED, "m.digest", order, f"{_LIVE_MANIFEST} AND (m.locks & $2) = 0"
    )
    for order in Order
}


class Properties(Noun):
    """The PropertyStore."""

    async def get_repository(self, repository: RepositoryName) -> RepositoryProperties:
        """Read the row."""
        return await _read_repository(self._database, repository)

    async def get_tag(self, repository: RepositoryName, tag: Tag) -> TagProperties:
        """Read the row."""
        owner = await self._database.find(_ID, str(repository))
        return await _read_tag(self._database, owner and owner[0], repository, tag)

    async def get_manifest_properties(
        self, repository: RepositoryName, digest: Digest
    ) -> ManifestProperties:
        """Read the row, and the tags that point to it."""
        owner = await self._database.find(_ID, str(repository))
        return await _read_manifest(self._database, owner and owner[0], repository, digest)

    async def change_repository(
        self, repository: RepositoryName, change: LockChange, *, by: Actor = NOBODY
    ) -> RepositoryProperties:
        """Change the row, and read it again."""

        async def job(transaction: Transaction) -> RepositoryProperties:
            owner = await _lock(transaction, repository)
            await transaction.execute(_CHANGE_REPOSITORY, owner, *change)
            changed = await _read_repository(transaction, repository)
            await _record(transaction, by, change, changed.locks, repository)
            return changed

        return await self._database.write(job)

    async def change_tag(
        self, repository: RepositoryName, tag: Tag, change: LockChange, *, by: Actor = NOBODY
    ) -> TagProperties:
        """Change the row, and read it again."""

        async def job(transaction: Transaction) -> TagProperties:
            owner = await _lock_known(transaction, repository)
            await transaction.execute(_CHANGE_TAG, owner, str(tag), *change)
            changed = await _read_tag(transaction, owner, repository, tag)
            await _record(
                transaction, by, change, changed.locks, repository, str(tag), changed.digest
            )
            return changed

        return await self._database.write(job)

    async def change_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        change: LockChange,
        *,
        by: Actor = NOBODY,
    ) -> ManifestProperties:
        """Change the row, and read it again."""

        async def job(transaction: Transaction) -> ManifestProperties:
            owner = await _lock_known(transaction, repository)
            await transaction.execute(_CHANGE_MANIFEST, owner, str(digest), *change)
            changed = await _read_manifest(transaction, owner, repository, digest)
            await _record(transaction, by, change, changed.locks, repository, "", changed.digest)
            return changed

        return await self._database.write(job)

    async def list_repository_properties(
        self, page: PageRequest, *, hidden: bool = False
    ) -> Page[RepositoryProperties]:
        """Read one page."""
        rows = await self._database.find_all(
            REPOSITORIES, before_nul(page.last), _hiding(hidden=hidden), page.limit + 1
        )
        return cut([_repository(row) for row in rows], page)

    async def list_tag_properties(
        self,
        repository: RepositoryName,
        page: OrderedPageRequest,
        digest: Digest | None = None,
        *,
        hidden: bool = False,
    ) -> Page[TagProperties]:
        """Read one page, by the tags of one manifest if that is what is asked for."""
        key = await self._id(repository)
        pages = TAG_PAGES
        if digest is not None:
            found = await self._database.find(_MANIFEST, key, str(digest))
            if found is None:
                return Page([], more=False)
            key, pages = found[0], TAG_PAGES_OF_MANIFEST
        rows = await self._database.find_all(
            pages[page.order], key, _hiding(hidden=hidden), page.limit + 1, *_behind(page)
        )
        return cut([_tag(row) for row in rows], page)

    async def list_manifest_properties(
        self, repository: RepositoryName, page: OrderedPageRequest, *, hidden: bool = False
    ) -> Page[ManifestProperties]:
        """Read one page, and the tags that point to its manifests."""
        key = await self._id(repository)
        rows = await self._database.find_all(
            MANIFEST_PAGES[page.order],
            key,
            _hiding(hidden=hidden),
            page.limit + 1,
            *_behind(page),
        )
        found = cut(rows, page)
        fitting = _fitting(found.items)
        manifests = await _complete(self._database, fitting)
        return Page(manifests, more=found.more or len(fitting) < len(found.items))

    async def describe_manifests(
        self, repository: RepositoryName, digests: Sequence[Digest]
    ) -> list[ManifestProperties]:
        """Read the rows."""
        owner = await self._database.find(_ID, str(repository))
        if owner is None:
            return []
        names = sorted({str(digest) for digest in digests})
        rows = await self._database.find_all(_SOME_MANIFESTS, owner[0], names)
        payloads = await _read_indexes(self._database, rows)
        return [_manifest(row, [], payloads.get(row[0])) for row in rows]

    async def delete_repository(
        self,
        repository: RepositoryName,
        *,
        condition: TagCondition | None = None,
        by: Actor = NOBODY,
    ) -> Deleted:
        """Delete manifests and tags, hide the blobs, and mark the row."""

        async def job(transaction: Transaction) -> Deleted:
            owner = await _lock(transaction, repository)
            await _refuse_deleting(transaction, owner, repository)
            tags = await transaction.find_all(_EVERY_TAG, owner)
            refuse_immutable([row[0] for row in tags], condition, repository, Remedy.DELETE)
            manifests = await transaction.find_all(_EVERY_MANIFEST, owner)
            await discard_repository(transaction, owner, by.name)
            await transaction.execute(_DELETED, owner, transaction.now)
            counts = {"manifests": len(manifests), "tags": len(tags)}
            event = NewEvent(EventAction.REPOSITORY_DELETED, str(repository), details=counts)
            await record_events(transaction, by, [event])
            return Deleted([row[0] for row in manifests], [row[0] for row in tags])

        return await self._database.write(job)

    async def _id(self, repository: RepositoryName) -> int:
        row = await self._database.find(_ID, str(repository))
        if row is None:
            raise name_unknown(repository)
        key: int = row[0]
        return key


async def _record(
    transaction: Transaction,
    by: Actor,
    change: LockChange,
    locks: Lock,
    repository: str,
    reference: str = "",
    digest: str = "",
) -> None:
    """Record a change of locks; a request that asks for none makes none."""
    if change.lock or change.unlock:
        words = [lock.name.lower() for lock in Lock if lock in locks and lock.name]
        details = {"locks": words}
        event = NewEvent(
            EventAction.PROPERTIES_CHANGED, str(repository), reference, digest, details=details
        )
        await record_events(transaction, by, [event])


def _hiding(*, hidden: bool) -> int:
    """Return the lock of items that a list leaves out."""
    return 0 if hidden else Lock.LIST.value


def _behind(page: OrderedPageRequest) -> tuple[str] | tuple[str, int]:
    name = before_nul(page.after.name)
    return (name,) if page.order is Order.NAME else (name, page.after.time)


async def _lock_known(transaction: Transaction, repository: RepositoryName) -> int | None:
    """Lock the row of a repository; return its id, or None if the repository is unknown."""
    locked = await lock_repository(transaction, str(repository))
    if locked is None or await transaction.find(_ID, str(repository)) is None:
        return None
    return locked.id


async def _lock(transaction: Transaction, repository: RepositoryName) -> int:
    """Lock the row of a repository; return its id. Raises NameUnknown."""
    owner = await _lock_known(transaction, repository)
    if owner is None:
        raise name_unknown(repository)
    return owner


async def _refuse_deleting(
    transaction: Transaction, owner: int, repository: RepositoryName
) -> None:
    """Raise OperationDisallowed if a lock in a repository forbids deleting."""
    properties = await _read_repository(transaction, repository)
    refuse_repository(properties.locks, ON_DELETE, repository)
    for sql, kind in ((_LOCKED_TAG, "tag"), (_LOCKED_MANIFEST, "manifest")):
        row = await transaction.find(sql, owner)
        if row is not None:
            refuse_locked(row[1], ON_DELETE, f"{kind} {row[0]} of repository {repository}")


async def _read_repository(queries: Queries, repository: RepositoryName) -> RepositoryProperties:
    row = await queries.find(_REPOSITORY, str(repository))
    if row is None:
        raise name_unknown(repository)
    return _repository(row)


async def _read_tag(
    queries: Queries, owner: int | None, repository: RepositoryName, tag: Tag
) -> TagProperties:
    row = await queries.find(_TAG, owner, str(tag))
    if row is None:
        raise tag_unknown(repository, tag)
    return _tag(row)


async def _read_manifest(
    queries: Queries, owner: int | None, repository: RepositoryName, digest: Digest
) -> ManifestProperties:
    row = await queries.find(_MANIFEST, owner, str(digest))
    if row is None:
        raise manifest_unknown(repository, digest)
    return (await _complete(queries, [row]))[0]


def _is_index(row: Any) -> bool:
    return row[2] in INDEXES


def _fitting(rows: list[Any]) -> list[Any]:
    """Return the first rows, as many as fit into memory together with the indexes among them."""
    room = MAX_INDEX_BYTES
    for number, row in enumerate(rows):
        room -= row[3] if _is_index(row) else 0
        if room < 0 and number:
            return rows[:number]
    return rows


async def _complete(queries: Queries, rows: Sequence[Any]) -> list[ManifestProperties]:
    """Make the properties of manifests of their rows, their tags, and the payloads of indexes."""
    tags: dict[int, list[str]] = {row[0]: [] for row in rows}
    if rows:
        for key, name in await queries.find_all(TAGS_OF, list(tags)):
            tags[key].append(name)
    payloads = await _read_indexes(queries, rows)
    return [_manifest(row, tags[row[0]], payloads.get(row[0])) for row in rows]


async def _read_indexes(queries: Queries, rows: Sequence[Any]) -> dict[int, bytes]:
    """Read the payloads of the indexes among some manifests, by the ids of their rows."""
    indexes = [row[0] for row in rows if _is_index(row)]
    return dict(await queries.find_all(_PAYLOADS, indexes)) if indexes else {}


def _repository(row: Any) -> RepositoryProperties:
    name, created, updated, manifests, tags, locks = row
    return RepositoryProperties(name, created, updated, manifests, tags, Lock(locks))


def _tag(row: Any) -> TagProperties:
    name, digest, created, updated, locks = row
    return TagProperties(name, digest, created, updated, Lock(locks))


def _manifest(row: Any, tags: list[str], index: bytes | None) -> ManifestProperties:
    return ManifestProperties(
        digest=row[1],
        media_type=row[2],
        size=row[3],
        created=row[4],
        updated=row[5],
        artifact_type=row[6],
        config_media_type=row[7],
        architecture=row[8],
        os=row[9],
        image_size=row[10],
        pushed_by=row[11],
        locks=Lock(row[12]),
        pulled=row[13],
        index=index,
        tags=tuple(tags),
    )
