"""The rows of repositories, which others hang from."""

from __future__ import annotations

from portside.spec.names import RepositoryName
from portside.stores.metadata.writer import Transaction

_FIND = "SELECT id FROM repositories WHERE name = ?"
_ADD = "INSERT INTO repositories (name, created) VALUES (?, ?) RETURNING id"


def find_repository(transaction: Transaction, name: RepositoryName) -> int | None:
    """Give the id of a repository, or None."""
    row = transaction.execute(_FIND, (str(name),)).fetchone()
    return row[0] if row else None


def ensure_repository(transaction: Transaction, name: RepositoryName) -> int:
    """Give the id of a repository, which is made if it is not there."""
    known = find_repository(transaction, name)
    if known is not None:
        return known
    added: int = transaction.execute(_ADD, (str(name), transaction.now)).fetchone()[0]
    return added
