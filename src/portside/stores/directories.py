"""Directories whose entries outlive a power cut."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MODE = 0o750
"""Permissions of a new data directory and of its parents: other users of this machine see nothing
of a registry. Its group may reach a socket in there."""

PRIVATE = 0o700
"""Permissions of new directories for content."""


def sync_directory(directory: str | Path) -> None:
    """Make the entries of a directory durable; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_directory(directory: Path, mode: int = MODE) -> None:
    """Create a directory and its missing parents durably, with a mode; raises OSError.

    One that exists may have been created by a process that was killed before it could sync.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in (*reversed(missing), directory):
        path.mkdir(mode, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)
    if not missing:
        # Whoever may use a directory need not be allowed to read its parent.
        with suppress(PermissionError):
            sync_directory(directory.parent)


def share_owner(path: Path, descriptor: int) -> None:
    """Make the owner of the directory the owner of a file, even if root made it; raises OSError."""
    if os.geteuid() == 0:
        owner = os.stat(path.parent)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
