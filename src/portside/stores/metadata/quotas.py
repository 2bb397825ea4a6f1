"""Quotas, checked against the sum of a repository's links as it is committed.

A push looks at the sum before it places bytes. Others may be placing theirs at the same time, and
so it looks again once it has added its rows, with the repository locked until the commit: of those
who race to the last bytes, each sees the rows of all that came before it.
"""

from __future__ import annotations

from portside.spec.digests import Digest
from portside.spec.errors import QuotaExceeded
from portside.spec.manifests import Manifest
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId
from portside.stores.metadata.engine import Noun, Queries, Transaction, require_row
from portside.stores.metadata.refusals import quota_exceeded, uploads_exceed_quota
from portside.stores.metadata.repositories import lock_repository
from portside.stores.metadata.usage import IN_USE, REFERRED_TO

_TAKEN = """
    SELECT CAST(r.manifest_bytes + COALESCE((
        SELECT SUM(l.size) FROM repository_blobs l WHERE l.repository = r.id
    ), 0) AS BIGINT)
    FROM repositories r
    WHERE r.name = $1
"""
_LINKED = """
    SELECT 1 FROM repositories r JOIN repository_blobs l ON l.repository = r.id
    WHERE r.name = $1 AND l.digest = $2
"""
# What open upload sessions have received, but for one of them.
_STAGED = """
    SELECT CAST(COALESCE(SUM(o.received), 0) AS BIGINT) FROM uploads o
    WHERE o.repository = {} AND o.id <> {} AND o.finished IS NULL
"""
_ROOM = f"""
    SELECT COALESCE(({_TAKEN}), 0), EXISTS ({_LINKED}),
        CASE WHEN CAST($3 AS TEXT) IS NULL THEN 0 ELSE ({_STAGED.format("$1", "$3")}) END
"""
STAGED_WITHIN = f"""
    (CAST($5 AS BIGINT) IS NULL OR $1 + ({_STAGED.format("uploads.repository", "$3")}) <= $5)
"""
"""Whether a session may advance to $1 where a quota of $5 governs its repository, which may be
exceeded by sessions that advance at the same time."""

_STORED = """
    SELECT 1 FROM repositories r JOIN manifests m ON m.repository = r.id
    WHERE r.name = $1 AND m.digest = $2
"""
# What could be freed: in the trash, and waiting to be collected; without one blob.
_WAITING = f"""
    SELECT
        CAST(COALESCE((
            SELECT SUM(m.size) FROM manifests m
            WHERE m.repository = r.id AND m.deleted IS NOT NULL
        ), 0) + COALESCE((
            SELECT SUM(l.size)
            FROM (
                SELECT DISTINCT f.digest
                FROM manifests m JOIN manifest_references f ON f.manifest = m.id
                WHERE m.repository = r.id AND m.deleted IS NOT NULL
            ) trashed
            JOIN repository_blobs l ON l.repository = r.id AND l.digest = trashed.digest
            WHERE l.digest <> $2 AND NOT {IN_USE}
        ), 0) AS BIGINT),
        CAST(COALESCE((
            SELECT SUM(l.size) FROM repository_blobs l
            WHERE l.repository = r.id AND l.digest <> $2
                AND l.unreferenced IS NOT NULL AND NOT {REFERRED_TO}
        ), 0) AS BIGINT)
    FROM repositories r
    WHERE r.name = $1
"""  # noqa: S608  # put together of constants


class Quotas(Noun):
    """The QuotaStore."""

    async def measure_room(
        self,
        repository: RepositoryName,
        quota: int,
        digest: Digest | None = None,
        *,
        upload: UploadId | None = None,
    ) -> int | None:
        """Read the sums with one query."""
        session = str(upload) if upload is not None else None
        row = await self._database.find(_ROOM, str(repository), str(digest or ""), session)
        taken, is_linked, staged = require_row(row)
        return None if is_linked else quota - max(taken, staged)

    async def explain_quota(
        self, repository: RepositoryName, quota: int, size: int
    ) -> QuotaExceeded:
        """Read apart from what requests read: many links take a while."""
        async with self._database.snapshot_apart() as queries:
            row = await queries.find(_TAKEN, str(repository))
            # At least one byte was to be added.
            if (row[0] if row else 0) + max(size, 1) > quota:
                return await _refusal(queries, repository, quota, size)
            return await refuse_staged(queries, repository, quota)


async def quota_of_blob(
    queries: Queries, repository: RepositoryName, digest: Digest, quota: int | None
) -> int | None:
    """Return the quota that a link has to keep to: none if the repository has it already.

    The transaction has the lock of the blob, so that the answer stays right.
    """
    if quota is None or await queries.find(_LINKED, str(repository), str(digest)) is not None:
        return None
    return quota


async def require_room(queries: Queries, repository: RepositoryName, quota: int, size: int) -> None:
    """Raise QuotaExceeded unless `size` bytes may be added."""
    row = await queries.find(_TAKEN, str(repository))
    if (row[0] if row else 0) + size > quota:
        raise await _refusal(queries, repository, quota, size)


async def require_room_for_manifest(
    queries: Queries, repository: RepositoryName, quota: int, manifest: Manifest
) -> None:
    """Raise QuotaExceeded unless a manifest is stored, also in the trash, or may be added."""
    if await queries.find(_STORED, str(repository), str(manifest.digest)) is None:
        await require_room(queries, repository, quota, manifest.size)


async def require_within(
    transaction: Transaction, repository: RepositoryName, quota: int, digest: Digest, size: int
) -> None:
    """Raise QuotaExceeded if a repository takes too much with a blob that was just linked.

    The repository stays locked until the transaction ends.
    """
    await lock_repository(transaction, str(repository))
    row = await transaction.find(_TAKEN, str(repository))
    if row is not None and row[0] > quota:
        raise await _refusal(transaction, repository, quota, size, linked=digest)


async def refuse_staged(queries: Queries, repository: RepositoryName, quota: int) -> QuotaExceeded:
    """Return the error for a session that would have received more than there is room for."""
    row = await queries.find(_STAGED.format("$1", "$2"), str(repository), "")
    return uploads_exceed_quota(repository, quota, require_row(row)[0])


async def _refusal(
    queries: Queries,
    repository: RepositoryName,
    quota: int,
    size: int,
    *,
    linked: Digest | None = None,
) -> QuotaExceeded:
    """Return the error for bytes that do not fit: those of a blob that was `linked`, perhaps."""
    row = await queries.find(_TAKEN, str(repository))
    taken = (row[0] if row else 0) - (size if linked else 0)
    waiting = await queries.find(_WAITING, str(repository), str(linked or ""))
    return quota_exceeded(repository, quota, taken, size, *(waiting or (0, 0)))
