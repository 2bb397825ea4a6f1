"""The rows of repositories, which others refer to, and which are locked for all of it.

A transaction that changes manifests, tags or references, or removes a link, locks the row. Links
may be added at the same time: they only refer to it, which `FOR NO KEY UPDATE` allows.
"""

from __future__ import annotations

from portside.stores.metadata.engine import Transaction

_LOCK = "SELECT id FROM repositories WHERE name = $1 FOR NO KEY UPDATE"
_ADD = """
    INSERT INTO repositories (name, created) VALUES ($1, $2)
    ON CONFLICT (name) DO NOTHING
    RETURNING id
"""


async def lock_repository(transaction: Transaction, name: str) -> int | None:
    """Return the id of a repository that nobody else can change now, or None."""
    row = await transaction.find(_LOCK, name)
    return row[0] if row else None


async def lock_or_add_repository(transaction: Transaction, name: str) -> int:
    """Return the id of a repository that nobody else can change now; add it if need be."""
    known = await lock_repository(transaction, name)
    if known is None:
        row = await transaction.find(_ADD, name, transaction.now)
        # If another transaction added it, the statement has waited for the commit. Repositories are
        # never removed, so it is there to be locked.
        known = row[0] if row else await lock_repository(transaction, name)
    if known is None:
        raise AssertionError(name)
    return known
