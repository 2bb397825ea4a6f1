"""What SQLite says, in the registry's words."""

from __future__ import annotations

import sqlite3

from portside.spec.errors import StorageFull, Unavailable


def translate(error: sqlite3.Error) -> Unavailable:
    """Give the registry's error for one of SQLite's."""
    reason = f"the database answered: {error}"
    is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return StorageFull(reason) if is_full else Unavailable(reason)
