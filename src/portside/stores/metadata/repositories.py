"""The rows of repositories, which others refer to, and which are locked for all of it.

A transaction that changes manifests, tags or references, or removes a link, locks the row. Links
may be added at the same time: they only refer to it, which `FOR NO KEY UPDATE` allows.
"""

from __future__ import annotations

from typing import NamedTuple

from portside.spec.locks import Lock
from portside.spec.names import RepositoryName
from portside.stores.metadata.engine import Queries, Transaction
from portside.stores.metadata.refusals import refuse_locked

# A repository comes to be with its first manifest, and again with the first one after its end.
_LOCK = """
    SELECT id, locks, manifest_count = 0 AND (
        deleted IS NOT NULL
        OR NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = repositories.id)
    )
    FROM repositories
    WHERE name = $1
    FOR NO KEY UPDATE
"""
_LOCKS = "SELECT locks FROM repositories WHERE name = $1"
_ADD = """
    INSERT INTO repositories (name, created, updated) VALUES ($1, $2, $2)
    ON CONFLICT (name) DO NOTHING
"""


# What was deleted begins again with the first manifest that is pushed to it.
_COUNT = """
    UPDATE repositories
    SET manifest_count = manifest_count + $2, tag_count = tag_count + $3,
        manifest_bytes = manifest_bytes + $5, updated = $4,
        created = CASE WHEN deleted IS NULL THEN created ELSE $4 END, deleted = NULL
    WHERE id = $1
"""
# The indexes of repositories are left as they are.
_COUNT_TAGS = "UPDATE repositories SET tag_count = tag_count + $2, updated = $3 WHERE id = $1"


class LockedRow(NamedTuple):
    """The row of a repository that nobody else can change now, and the repository's own locks.

    `is_new` says that nothing was pushed to it, or nothing since it was deleted.
    """

    id: int
    locks: int
    is_new: bool


async def lock_repository(transaction: Transaction, name: str) -> LockedRow | None:
    """Lock the row of a repository; return None if there is none."""
    row = await transaction.find(_LOCK, name)
    return LockedRow(*row) if row else None


async def lock_or_add_repository(transaction: Transaction, name: str) -> LockedRow:
    """Lock the row of a repository; add it if need be."""
    known = await lock_repository(transaction, name)
    if known is None:
        await transaction.find(_ADD, name, transaction.now)
        # If another transaction added it, the statement has waited for the commit. Rows are never
        # removed, so it is there to be locked.
        known = await lock_repository(transaction, name)
    if known is None:
        raise AssertionError(name)
    return known


async def count_changes(
    transaction: Transaction, owner: int, *, manifests: int = 0, tags: int = 0, size: int = 0
) -> None:
    """Add to the numbers of manifests and tags of a repository, and note the time.

    `size` is the number of bytes of manifests that were not stored before.
    """
    if manifests or size:
        await transaction.execute(_COUNT, owner, manifests, tags, transaction.now, size)
    else:
        await transaction.execute(_COUNT_TAGS, owner, tags, transaction.now)


async def require_writable(queries: Queries, repository: RepositoryName) -> None:
    """Raise OperationDisallowed if nothing may be written to a repository."""
    row = await queries.find(_LOCKS, str(repository))
    if row is not None:
        refuse_repository(row[0], Lock.WRITE, repository)


def refuse_repository(locks: int, forbidding: Lock, repository: str) -> None:
    """Raise OperationDisallowed if one of the `forbidding` locks is set on a repository."""
    refuse_locked(locks, forbidding, f"repository {repository}")
