"""The rows of repositories, which others hang from, and which stand for all of it when locked.

Whoever changes manifests, tags or references, or takes a link away, holds the row. Links may be
added meanwhile: they only refer to it (FOR NO KEY UPDATE lets those that take FOR KEY SHARE pass).
"""

from __future__ import annotations

from portside.spec.names import RepositoryName
from portside.stores.metadata.postgres.transactions import Transaction

_FIND = "SELECT id FROM repositories WHERE name = $1"
_LOCK = f"{_FIND} FOR NO KEY UPDATE"
_ADD = """
    INSERT INTO repositories (name, created) VALUES ($1, $2)
    ON CONFLICT (name) DO NOTHING
    RETURNING id
"""


async def lock_repository(transaction: Transaction, name: RepositoryName) -> int | None:
    """Give the id of a repository that nobody else can change now, or None."""
    row = await transaction.find(_LOCK, str(name))
    return row[0] if row else None


async def lock_or_add_repository(transaction: Transaction, name: RepositoryName) -> int:
    """Give the id of a repository that nobody else can change now; it is made if need be."""
    known = await lock_repository(transaction, name)
    if known is None:
        row = await transaction.find(_ADD, str(name), transaction.now)
        # If it was made meanwhile, the statement has waited for that to be committed. Nothing
        # removes repositories, so that it is there to be locked.
        known = row[0] if row else await lock_repository(transaction, name)
    if known is None:
        raise AssertionError(name)
    return known
