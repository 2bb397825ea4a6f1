"""Small documents beside the blobs of a directory: its mark, and the snapshots of a backup.

Each is written as a whole or not at all, and never changed.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from portside.stores.blobs.disk.layout import list_directory
from portside.stores.blobs.faults import translated
from portside.stores.directories import create_directory, sync_directory


def read_document(path: Path) -> bytes | None:
    """Read a document; None if there is none. Raises Unavailable."""
    with translated(f"reading {path}"), suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def put_document(path: Path, content: bytes) -> None:
    """Write a temporary file and link it, which does nothing if there is a document.

    Raises StorageFull and Unavailable.
    """
    beside = path.with_suffix(f".{secrets.token_hex(8)}")
    with translated(f"writing {path}"):
        create_directory(path.parent)
        try:
            with open(beside, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        sync_directory(path.parent)


def list_documents(directory: Path, suffix: str) -> list[str]:
    """List the documents with a suffix, in order, without it; raises Unavailable."""
    with translated(f"listing {directory}"):
        found = list_directory(directory)
    return [entry.name.removesuffix(suffix) for entry in found if entry.name.endswith(suffix)]


def drop_document(path: Path) -> None:
    """Remove a document durably; raises StorageFull and Unavailable."""
    with translated(f"removing {path}"):
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
