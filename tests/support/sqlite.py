"""Empty SQLite databases, copied from one that has taken all steps of the schema.

To take them takes ten times as long. Tests of the steps themselves do without a copy.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from portside.stores.metadata.sqlite.database import FILE, LOCK, SqliteDatabase

_MADE: list[tuple[bytes, bytes]] = []
"""The content of the first database, once it is made, and the identity of its registry."""


async def open_database(root: Path, *, clock: Callable[[], int]) -> SqliteDatabase:
    """Open the database of a directory; if there is none, one for a registry of its own is made."""
    if not (root / FILE).exists():
        await _create(root)
    return SqliteDatabase(root, clock=clock)


async def _create(root: Path) -> None:
    if not _MADE:
        _MADE.append(await _make())
    ((content, identity),) = _MADE
    # Both are as long, and SQLite keeps no checksum of a page.
    own = content.replace(identity, uuid.uuid4().hex.encode())
    for name, mode, written in ((LOCK, 0o640, b""), (FILE, 0o600, own)):
        descriptor = os.open(root / name, os.O_WRONLY | os.O_CREAT, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(written)


async def _make() -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        database = SqliteDatabase(Path(folder), clock=lambda: 1)
        await database.migrate()
        ((identity,),) = await database.find_all("SELECT identity FROM registry")
        database.close()
        return database.file.read_bytes(), str(identity).encode()
