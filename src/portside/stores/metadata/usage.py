"""What takes the space, counted from indexes within one snapshot."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.patterns import RepositoryPattern
from portside.stores.metadata.engine import Noun, Queries, require_row
from portside.stores.metadata.refusals import manifest_unknown
from portside.stores.usage import Collectable, Freed, RegistryUsage, RepositoryUsage, Usage

PAGE = 100
"""Repositories that one statement measures: PostgreSQL ends a statement that takes too long."""

# The names that a pattern matches are those from $1 up to $2.
_REPOSITORIES = """
    SELECT id, name, manifest_count, tag_count FROM repositories
    WHERE name >= $1 AND name < $2
    ORDER BY id
"""
_LINKED = """
    SELECT l.repository, CAST(SUM(b.size) AS BIGINT), CAST(SUM(
        CASE WHEN EXISTS (
            SELECT 1 FROM repository_blobs o
            WHERE o.digest = l.digest AND o.repository <> l.repository
        ) THEN 0 ELSE b.size END
    ) AS BIGINT)
    FROM repository_blobs l JOIN blobs b ON b.digest = l.digest
    WHERE l.repository = ANY ($1)
    GROUP BY l.repository
"""
_SIZES = """
    SELECT r.name, CAST(SUM(b.size) AS BIGINT)
    FROM repositories r
    JOIN repository_blobs l ON l.repository = r.id
    JOIN blobs b ON b.digest = l.digest
    WHERE r.name = ANY ($1)
    GROUP BY r.id, r.name
"""
_MATCHED = "SELECT r.id FROM repositories r WHERE r.name >= $1 AND r.name < $2"
_TOTAL_LINKED = f"""
    SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT), CAST(COALESCE(SUM(
        CASE WHEN EXISTS (
            SELECT 1 FROM repository_blobs o
            WHERE o.digest = b.digest AND o.repository NOT IN ({_MATCHED})
        ) THEN 0 ELSE b.size END
    ), 0) AS BIGINT)
    FROM blobs b
    WHERE b.digest IN (SELECT l.digest FROM repository_blobs l WHERE l.repository IN ({_MATCHED}))
"""  # noqa: S608  # put together of constants
_EVERYTHING = """
    SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM blobs b
    WHERE EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest)
"""

# A link, by what refers to its blob.
_REFERRED_TO = """
    EXISTS (
        SELECT 1 FROM manifest_references f
        WHERE f.repository = l.repository AND f.digest = l.digest
    )
"""
_IN_USE = """
    EXISTS (
        SELECT 1 FROM manifest_references f JOIN manifests m ON m.id = f.manifest
        WHERE f.repository = l.repository AND f.digest = l.digest AND m.deleted IS NULL
    )
"""
# Both begin with an index that has no more rows than there are such links or manifests.
_UNREFERENCED_LINKS = f"""
    waiting AS MATERIALIZED (
        SELECT l.repository, l.digest FROM repository_blobs l
        WHERE l.unreferenced >= 0 AND NOT {_REFERRED_TO}
    )
"""  # noqa: S608  # likewise
_DELETED_LINKS = f"""
    trashed AS MATERIALIZED (
        SELECT DISTINCT f.repository, f.digest
        FROM manifests m JOIN manifest_references f ON f.manifest = m.id
        WHERE m.deleted >= 0
    ),
    waiting AS MATERIALIZED (
        SELECT l.repository, l.digest
        FROM trashed t
        JOIN repository_blobs l ON l.repository = t.repository AND l.digest = t.digest
        WHERE NOT {_IN_USE}
    )
"""  # noqa: S608  # likewise
_BY_REPOSITORY = """
    WITH {links}
    SELECT w.repository, CAST(SUM(b.size) AS BIGINT)
    FROM waiting w JOIN blobs b ON b.digest = w.digest
    WHERE w.repository IN ({matched})
    GROUP BY w.repository
"""
# In any repository there may be a link that is better.
_ONCE = """
    WITH {links}
    SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT)
    FROM (SELECT DISTINCT digest FROM waiting) w JOIN blobs b ON b.digest = w.digest
    WHERE EXISTS (
            SELECT 1 FROM repository_blobs l
            WHERE l.digest = b.digest AND l.repository IN ({matched})
        )
        AND NOT EXISTS (
            SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest AND {better}
        )
"""
_DELETED = _BY_REPOSITORY.format(links=_DELETED_LINKS, matched=_MATCHED)
_TOTAL_DELETED = _ONCE.format(links=_DELETED_LINKS, matched=_MATCHED, better=_IN_USE)
_UNREFERENCED = _BY_REPOSITORY.format(links=_UNREFERENCED_LINKS, matched=_MATCHED)
_TOTAL_UNREFERENCED = _ONCE.format(links=_UNREFERENCED_LINKS, matched=_MATCHED, better=_REFERRED_TO)

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


class Measurements(Noun):
    """The UsageStore."""

    async def measure_usage(self, pattern: RepositoryPattern) -> RegistryUsage:
        """Read the links of a page of repositories at a time; the total has queries of its own."""
        names = (pattern.names.start, pattern.names.stop)
        async with self._database.snapshot() as queries:
            rows = await queries.find_all(_REPOSITORIES, *names)
            linked: dict[int, tuple[int, int]] = {}
            for start in range(0, len(rows), PAGE):
                page = [row[0] for row in rows[start : start + PAGE]]
                for key, size, exclusive in await queries.find_all(_LINKED, page):
                    linked[key] = size, exclusive
            deleted = dict(await queries.find_all(_DELETED, *names))
            unreferenced = dict(await queries.find_all(_UNREFERENCED, *names))
            found = [
                RepositoryUsage(
                    name,
                    Usage(
                        manifests,
                        tags,
                        *linked.get(key, (0, 0)),
                        deleted.get(key, 0),
                        unreferenced.get(key, 0),
                    ),
                )
                for key, name, manifests, tags in rows
                if manifests or key in linked
            ]
            total = Usage(
                sum(item.usage.manifests for item in found),
                sum(item.usage.tags for item in found),
                *await _total_linked(queries, pattern),
                require_row(await queries.find(_TOTAL_DELETED, *names))[0],
                require_row(await queries.find(_TOTAL_UNREFERENCED, *names))[0],
            )
        found.sort(key=lambda item: (-item.usage.bytes, item.name))
        return RegistryUsage(found, total)

    async def measure_repositories(self, names: list[str]) -> dict[str, int]:
        """Read the links of all of them."""
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


async def _total_linked(queries: Queries, pattern: RepositoryPattern) -> tuple[int, int]:
    """Return the bytes of all blobs, each once, and of those that no other repository has."""
    if pattern == "*":
        size: int = require_row(await queries.find(_EVERYTHING))[0]
        return size, size
    names = pattern.names
    size, exclusive = require_row(await queries.find(_TOTAL_LINKED, names.start, names.stop))
    return size, exclusive


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
