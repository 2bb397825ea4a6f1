"""The history of tags: what each pointed at, from when on, and who changed it."""

from __future__ import annotations

from collections.abc import Iterable

from portside.stores.metadata.engine import Transaction

_WRITTEN = """
    ON CONFLICT (repository, name, at) DO UPDATE
    SET action = excluded.action, digest = excluded.digest, identity = excluded.identity
"""
# ruff: noqa: S608  # statements are put together of constants
_ADD = f"""
    INSERT INTO tag_history (repository, name, at, action, digest, identity)
    VALUES ($1, $2, $3, $4, $5, $6)
    {_WRITTEN}
"""
_ADD_DELETED = """
    INSERT INTO tag_history (repository, name, at, action, digest, identity)
    SELECT t.repository, t.name, $2, 'deleted', m.digest, $3
    FROM tags t JOIN manifests m ON m.id = t.manifest
    WHERE {} = $1
    {}
"""
_ADD_DELETED_OF_MANIFEST = _ADD_DELETED.format("t.manifest", _WRITTEN)
_ADD_DELETED_OF_REPOSITORY = _ADD_DELETED.format("t.repository", _WRITTEN)


async def record_change(
    transaction: Transaction,
    owner: int,
    action: str,
    changed: Iterable[tuple[str, str]],
    identity: str,
) -> None:
    """Record what was done to some tags of a repository: pairs of a name and a digest."""
    rows = [(owner, name, transaction.now, action, digest, identity) for name, digest in changed]
    if rows:
        await transaction.execute_each(_ADD, rows)


async def record_tags_of_manifest(transaction: Transaction, manifest: int, identity: str) -> None:
    """Record that the tags of a manifest are about to be deleted."""
    await transaction.execute(_ADD_DELETED_OF_MANIFEST, manifest, transaction.now, identity)


async def record_tags_of_repository(transaction: Transaction, owner: int, identity: str) -> None:
    """Record that the tags of a repository are about to be deleted."""
    await transaction.execute(_ADD_DELETED_OF_REPOSITORY, owner, transaction.now, identity)
