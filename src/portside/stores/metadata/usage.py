"""What takes the space, counted from indexes within one snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import Any

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.patterns import RepositoryPattern
from portside.stores.metadata.engine import Noun, Queries, require_row
from portside.stores.metadata.refusals import manifest_unknown
from portside.stores.usage import (
    Collectable,
    ContentCounts,
    Freed,
    RegistryUsage,
    RepositoryUsage,
    Usage,
)

PAGE = 100
"""Repositories that one statement measures: PostgreSQL ends a statement that takes too long."""

COUNTED = 2_000
"""Repositories or blobs that are counted at once, within a millisecond or two: no request is
answered while SQLite reads."""

MOST = 10
"""A tenth of the repositories, or more, are measured by looking for all blobs that several have:
looking up for each blob which others have it takes longer then."""

SPANS = list(pairwise(["", *(f"sha256:{digit}" for digit in "123456789abcdef"), "~"]))
"""Ranges of digests that one statement reads, for the same reason."""

_REPOSITORIES = """
    SELECT id, name, manifest_count, tag_count, manifest_bytes FROM repositories ORDER BY id
"""
_LINKED_SIZES = """
    SELECT l.repository, CAST(SUM(l.size) AS BIGINT)
    FROM repository_blobs l
    WHERE l.repository = ANY ($1)
    GROUP BY l.repository
"""
# SQLite reads the tables of a CROSS JOIN in this order.
_SHARED = """
    SELECT l.repository, CAST(SUM(b.size) AS BIGINT)
    FROM (
        SELECT digest FROM repository_blobs
        WHERE digest >= $1 AND digest < $2
        GROUP BY digest
        HAVING COUNT(*) > 1
    ) AS several CROSS JOIN blobs b CROSS JOIN repository_blobs l
    WHERE b.digest = several.digest AND b.digest >= $1 AND b.digest < $2
        AND l.digest = several.digest
    GROUP BY l.repository
"""
_LINKED = """
    SELECT l.repository, CAST(SUM(l.size) AS BIGINT), CAST(SUM(
        CASE WHEN EXISTS (
            SELECT 1 FROM repository_blobs o
            WHERE o.digest = l.digest AND o.repository <> l.repository
        ) THEN 0 ELSE l.size END
    ) AS BIGINT)
    FROM repository_blobs l
    WHERE l.repository = ANY ($1)
    GROUP BY l.repository
"""
_SIZES = """
    SELECT r.name, CAST(r.manifest_bytes + COALESCE((
        SELECT SUM(l.size) FROM repository_blobs l WHERE l.repository = r.id
    ), 0) AS BIGINT)
    FROM repositories r
    WHERE r.name = ANY ($1)
"""
# The names that a pattern matches are those from $1 up to $2.
_MATCHED = "SELECT r.id FROM repositories r WHERE r.name >= $1 AND r.name < $2"
_TOTAL_OF_FEW = f"""
    SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT), CAST(COALESCE(SUM(
        CASE WHEN EXISTS (
            SELECT 1 FROM repository_blobs o
            WHERE o.digest = b.digest AND o.repository NOT IN ({_MATCHED})
        ) THEN 0 ELSE b.size END
    ), 0) AS BIGINT)
    FROM blobs b
    WHERE b.digest IN (SELECT l.digest FROM repository_blobs l WHERE l.repository IN ({_MATCHED}))
"""  # noqa: S608  # put together of constants

_TOTAL_OF_MANY = f"""
    SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT),
        CAST(COALESCE(SUM(CASE WHEN o.links = o.mine THEN b.size ELSE 0 END), 0) AS BIGINT)
    FROM (
        SELECT digest, COUNT(*) AS links,
            SUM(CASE WHEN repository IN ({_MATCHED}) THEN 1 ELSE 0 END) AS mine
        FROM repository_blobs
        WHERE digest >= $3 AND digest < $4
        GROUP BY digest
    ) AS o CROSS JOIN blobs b
    WHERE b.digest = o.digest AND b.digest >= $3 AND b.digest < $4 AND o.mine > 0
"""  # noqa: S608  # likewise
_TOTAL_OF_EVERY = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blobs"

# A link, by what refers to its blob.
REFERRED_TO = """
    EXISTS (
        SELECT 1 FROM manifest_references f
        WHERE f.repository = l.repository AND f.digest = l.digest
    )
"""
IN_USE = """
    EXISTS (
        SELECT 1 FROM manifest_references f JOIN manifests m ON m.id = f.manifest
        WHERE f.repository = l.repository AND f.digest = l.digest AND m.deleted IS NULL
    )
"""
# What waits in each of the repositories from $1 up to $2, and in all of them together, whose blobs
# are in use nowhere else in the registry: the row without a repository. Both parts of `waiting`
# begin with an index that has no more rows than there are deleted manifests or unreferenced links.
# References and links are counted, because their indexes are enough for that, and in the order of
# these indexes. Only a blob that is linked elsewhere too is looked up.
#
# SQLite reads the tables of a CROSS JOIN in this order. It would read all references for the sake
# of the groups otherwise, and all links of a repository without the plus sign.
_WAITING = f"""
    WITH trashed AS MATERIALIZED (
        SELECT f.repository, f.digest, COUNT(*) AS referring
        FROM repositories r CROSS JOIN manifests m CROSS JOIN manifest_references f
        WHERE r.name >= $1 AND r.name < $2 AND m.repository = r.id AND m.deleted >= 0
            AND f.manifest = m.id
        GROUP BY f.repository, f.digest
        ORDER BY f.repository, f.digest
    ),
    waiting AS MATERIALIZED (
        SELECT l.repository, l.digest, l.size, TRUE AS is_deleted
        FROM trashed t CROSS JOIN repository_blobs l
        WHERE l.repository = t.repository AND l.digest = t.digest AND t.referring = (
            SELECT COUNT(*) FROM manifest_references f
            WHERE f.repository = t.repository AND f.digest = t.digest
        )
        UNION ALL
        SELECT l.repository, l.digest, l.size, FALSE
        FROM repository_blobs l
        WHERE l.unreferenced >= 0 AND +l.repository IN ({_MATCHED}) AND NOT {REFERRED_TO}
    ),
    counted AS MATERIALIZED (
        SELECT w.digest, w.size, w.is_deleted, w.links = (
            SELECT COUNT(*) FROM repository_blobs l WHERE l.digest = w.digest
        ) AS is_whole
        FROM (
            SELECT digest, size, COUNT(*) AS links,
                MAX(CASE WHEN is_deleted THEN 1 ELSE 0 END) = 1 AS is_deleted
            FROM waiting
            GROUP BY digest, size
            ORDER BY digest
        ) w
    ),
    unused AS MATERIALIZED (
        SELECT c.size, CASE WHEN c.is_whole THEN c.is_deleted ELSE EXISTS (
            SELECT 1 FROM repository_blobs l WHERE l.digest = c.digest AND {REFERRED_TO}
        ) END AS is_deleted
        FROM counted c
        WHERE c.is_whole OR NOT EXISTS (
            SELECT 1 FROM repository_blobs l WHERE l.digest = c.digest AND {IN_USE}
        )
    )
    SELECT repository,
        CAST(SUM(CASE WHEN is_deleted THEN size ELSE 0 END) AS BIGINT),
        CAST(SUM(CASE WHEN is_deleted THEN 0 ELSE size END) AS BIGINT)
    FROM waiting
    GROUP BY repository
    UNION ALL
    SELECT CAST(NULL AS BIGINT),
        CAST(COALESCE(SUM(CASE WHEN is_deleted THEN size ELSE 0 END), 0) AS BIGINT),
        CAST(COALESCE(SUM(CASE WHEN is_deleted THEN 0 ELSE size END), 0) AS BIGINT)
    FROM unused
"""  # noqa: S608  # likewise
_DELETED_MANIFESTS = f"""
    SELECT m.repository, CAST(SUM(m.size) AS BIGINT) FROM manifests m
    WHERE m.deleted >= 0 AND m.repository IN ({_MATCHED})
    GROUP BY m.repository
"""  # noqa: S608  # likewise

_MANIFEST = """
    SELECT m.id FROM repositories r JOIN manifests m ON m.repository = r.id
    WHERE r.name = $1 AND m.digest = $2 AND m.deleted IS NULL
"""
# What manifests keep, as far as nobody named or locked it: what they refer to, and what has them as
# its subject.
_KEPT_BY = """
    SELECT c.id
    FROM manifest_references f
    JOIN manifests c ON c.repository = f.repository AND c.digest = f.digest
    WHERE f.manifest = ANY ($1) AND c.deleted IS NULL AND (c.locks & 3) = 0
        AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest = c.id)
    UNION
    SELECT s.id
    FROM manifests m
    JOIN manifests s ON s.repository = m.repository AND s.subject = m.digest
    WHERE m.id = ANY ($1) AND s.deleted IS NULL AND (s.locks & 3) = 0
        AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest = s.id)
"""
# Each manifest with each that keeps it: what refers to it, its subject, and its referrers.
_KEEPERS = """
    SELECT c.id, k.id
    FROM manifests c
    JOIN manifest_references f ON f.repository = c.repository AND f.digest = c.digest
    JOIN manifests k ON k.id = f.manifest
    WHERE c.id = ANY ($1) AND k.deleted IS NULL
    UNION
    SELECT c.id, k.id
    FROM manifests c JOIN manifests k ON k.repository = c.repository AND k.digest = c.subject
    WHERE c.id = ANY ($1) AND k.deleted IS NULL
    UNION
    SELECT c.id, k.id
    FROM manifests c JOIN manifests k ON k.repository = c.repository AND k.subject = c.digest
    WHERE c.id = ANY ($1) AND k.deleted IS NULL
"""
_ONLY_FOR = """
    SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM blobs b
    WHERE b.digest IN (
            SELECT l.digest
            FROM manifest_references f
            JOIN repository_blobs l ON l.repository = f.repository AND l.digest = f.digest
            WHERE f.manifest = ANY ($1)
        )
        AND NOT EXISTS (
            SELECT 1
            FROM repository_blobs l
            JOIN manifest_references f ON f.repository = l.repository AND f.digest = l.digest
            JOIN manifests m ON m.id = f.manifest
            WHERE l.digest = b.digest AND m.deleted IS NULL AND NOT (m.id = ANY ($1))
        )
"""

# The collector purges manifests first, by which links become unreferenced that nobody else needs.
_KEPT = """
    EXISTS (
        SELECT 1 FROM manifest_references f JOIN manifests m ON m.id = f.manifest
        WHERE f.repository = l.repository AND f.digest = l.digest
            AND (m.deleted IS NULL OR m.deleted > $1)
    )
"""
_COLLECTABLE = f"""
    WITH due AS (
        SELECT l.repository, l.digest FROM repository_blobs l
        WHERE l.unreferenced <= $2 AND NOT {_KEPT}
        UNION
        SELECT l.repository, l.digest
        FROM manifests d
        JOIN manifest_references g ON g.manifest = d.id
        JOIN repository_blobs l ON l.repository = g.repository AND l.digest = g.digest
        WHERE d.deleted <= $1 AND l.unreferenced IS NULL
            AND (CAST($3 AS BOOLEAN) OR l.deleted IS NOT NULL) AND NOT {_KEPT}
    )
    SELECT
        (SELECT COUNT(*) FROM manifests WHERE deleted <= $1),
        (SELECT COUNT(*) FROM due),
        COUNT(*),
        CAST(COALESCE(SUM(b.size), 0) AS BIGINT)
    FROM (SELECT digest, COUNT(*) AS links FROM due GROUP BY digest) u
    JOIN blobs b ON b.digest = u.digest
    WHERE u.links = (SELECT COUNT(*) FROM repository_blobs l WHERE l.digest = u.digest)
"""  # noqa: S608  # likewise

_COUNT_REPOSITORIES = """
    SELECT MAX(id), COUNT(*), CAST(SUM(manifest_count) AS BIGINT), CAST(SUM(tag_count) AS BIGINT),
        CAST(SUM(manifest_bytes) AS BIGINT)
    FROM (
        SELECT id, manifest_count, tag_count, manifest_bytes FROM repositories
        WHERE id > $1 ORDER BY id LIMIT $2
    ) page
"""
_COUNT_BLOBS = """
    SELECT MAX(digest), COUNT(*), CAST(SUM(size) AS BIGINT)
    FROM (SELECT digest, size FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2) page
"""
_COUNT_UPLOADS = "SELECT COUNT(*) FROM uploads"


class Measurements(Noun):
    """The UsageStore."""

    async def measure_usage(self, pattern: RepositoryPattern) -> RegistryUsage:
        """Read the links in the way that is quicker, and then what waits by its indexes."""
        names = (pattern.names.start, pattern.names.stop)
        async with self._database.snapshot() as queries:
            every = await queries.find_all(_REPOSITORIES)
            rows = [row for row in every if pattern.matches(row[1])]
            keys = [row[0] for row in rows]
            if len(keys) * MOST >= len(every):
                linked = await _sum_up(queries, keys)
            else:
                linked = await _look_up(queries, keys)
            linked_bytes, alone = await _total(queries, len(keys), len(every), names)
            in_trash = Counter(dict(await queries.find_all(_DELETED_MANIFESTS, *names)))
            waiting = {key: sizes for key, *sizes in await queries.find_all(_WAITING, *names)}
            found = []
            for key, name, manifests, tags, size in rows:
                if not (manifests or size or key in linked.sizes):
                    continue
                deleted, unreferenced = waiting.get(key, (0, 0))
                usage = Usage(
                    manifests,
                    tags,
                    linked.sizes[key] + size,
                    linked.exclusive[key] + size,
                    deleted + in_trash[key],
                    unreferenced,
                )
                found.append(RepositoryUsage(name, usage))
            size = sum(row[-1] for row in rows)
            deleted, unreferenced = waiting[None]
            total = Usage(
                sum(item.usage.manifests for item in found),
                sum(item.usage.tags for item in found),
                linked_bytes + size,
                alone + size,
                deleted + in_trash.total(),
                unreferenced,
            )
        found.sort(key=lambda item: (-item.usage.bytes, item.name))
        return RegistryUsage(found, total)

    async def measure_repositories(self, names: list[str]) -> dict[str, int]:
        """Read the links of all of them, and the bytes of their manifests."""
        return dict.fromkeys(names, 0) | dict(await self._database.find_all(_SIZES, names))

    async def measure_manifest(self, repository: RepositoryName, digest: Digest) -> Freed:
        """Follow the references, and sum up the blobs that no other manifest refers to."""
        async with self._database.snapshot() as queries:
            found = await queries.find(_MANIFEST, str(repository), str(digest))
            if found is None:
                raise manifest_unknown(repository, digest)
            key: int = found[0]
            dependents = await _dependents(queries, key)
            alone = await _only_for(queries, [key])
            together = await _only_for(queries, [key, *dependents]) if dependents else alone
        return Freed(alone, together, len(dependents))

    async def measure_collectable(
        self, purged: int, unlinked: int, *, at_once: bool
    ) -> Collectable:
        """Read the indexes of what is deleted and unreferenced with one query."""
        row = await self._database.find(_COLLECTABLE, purged, unlinked, at_once)
        return Collectable(*require_row(row))

    async def count_content(self, pause: Callable[[], Awaitable[None]]) -> ContentCounts:
        """Follow the primary keys; repositories have counters of their own."""
        of_repositories = await self._count(_COUNT_REPOSITORIES, 0, 4, pause)
        of_blobs = await self._count(_COUNT_BLOBS, "", 2, pause)
        uploads = require_row(await self._database.find(_COUNT_UPLOADS))[0]
        return ContentCounts(*[*of_repositories, *of_blobs, uploads])

    async def _count(
        self, sql: str, last: int | str, width: int, pause: Callable[[], Awaitable[None]]
    ) -> list[int]:
        """Sum up all pages; the first column is where a page ends."""
        sums = [0] * width
        while True:
            end, *counts = require_row(await self._database.find(sql, last, COUNTED))
            if end is None:
                return sums
            sums = [before + count for before, count in zip(sums, counts, strict=True)]
            last = end
            await pause()


class _Linked:
    """The bytes that repositories have, and those that no other one has, by their keys."""

    def __init__(self) -> None:
        self.sizes = Counter[int]()
        self.exclusive = Counter[int]()


async def _sum_up(queries: Queries, keys: Sequence[int]) -> _Linked:
    """Read all links, and look up the blobs that several repositories have."""
    linked = _Linked()
    for page in _pages(keys):
        linked.sizes.update(dict(await queries.find_all(_LINKED_SIZES, page)))
    linked.exclusive.update(linked.sizes)
    for span in SPANS:
        linked.exclusive.subtract(dict(await queries.find_all(_SHARED, *span)))
    return linked


async def _look_up(queries: Queries, keys: Sequence[int]) -> _Linked:
    """Look up the blobs of some repositories, a page of repositories at a time."""
    linked = _Linked()
    for page in _pages(keys):
        for key, size, exclusive in await queries.find_all(_LINKED, page):
            linked.sizes[key], linked.exclusive[key] = size, exclusive
    return linked


async def _total(
    queries: Queries, measured: int, every: int, names: tuple[str, str]
) -> tuple[int, int]:
    """Return the bytes that some of every repository have, each blob once, and have alone."""
    if measured == every:
        size = require_row(await queries.find(_TOTAL_OF_EVERY))[0]
        return size, size
    if measured * MOST < every:
        size, alone = require_row(await queries.find(_TOTAL_OF_FEW, *names))
        return size, alone
    rows = [require_row(await queries.find(_TOTAL_OF_MANY, *names, *span)) for span in SPANS]
    return sum(size for size, _ in rows), sum(alone for _, alone in rows)


def _pages(keys: Sequence[int]) -> Iterator[list[int]]:
    """Return the keys of as many repositories at once as one statement measures."""
    return (list(keys[start : start + PAGE]) for start in range(0, len(keys), PAGE))


async def _dependents(queries: Queries, key: int) -> list[int]:
    """Return the manifests that only one keeps, directly or not."""
    reached: set[int] = {key}
    waiting = [key]
    while waiting:
        kept = {row[0] for row in await queries.find_all(_KEPT_BY, waiting)}
        waiting = sorted(kept - reached)
        reached |= kept
    keepers = await queries.find_all(_KEEPERS, sorted(reached - {key}))
    while outside := {kept for kept, keeper in keepers if keeper not in reached} & reached:
        reached -= outside
    return sorted(reached - {key})


async def _only_for(queries: Queries, keys: Collection[int]) -> int:
    """Return the bytes of the blobs that no other manifest of the registry refers to."""
    rows: list[Any] = await queries.find_all(_ONLY_FOR, list(keys))
    size: int = rows[0][0]
    return size
