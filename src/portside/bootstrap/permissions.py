"""Whether this process may use the files of a registry, and whose they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from portside.config import Settings
from portside.files.users import user_name
from portside.spec.errors import Unavailable
from portside.stores.blobs.opening import is_remote

_DATABASE = ("portside.db", "portside.db-wal", "portside.db-shm", "portside.db.lock")
_BLOBS = ("blobs", "blobs/sha256", "blobs/sha512", "uploads")


def blob_root(settings: Settings) -> Path | None:
    """Return the directory of this machine that holds the blobs; None if an object store does."""
    if is_remote(settings.storage):
        return None
    return Path(settings.storage.partition(":")[2]) if settings.storage else settings.root


def require_permission(settings: Settings, *, read_only: bool = False) -> None:
    """Refuse files that belong to another user, and that this one may not use.

    The errors of the system and of SQLite name neither of them. Raises Unavailable.
    """
    for root, paths in _parts(settings):
        for path in paths:
            if not _is_usable(path, read_only=read_only):
                me, owner = user_name(), owner_of(root)
                remedy = f"run it as {owner}"
                if owner in {me, "root"}:
                    remedy = f"as root, make {me} the owner: `chown -R {me}: {root}`"
                whose = f"{path} belongs to {owner_of(path)}, and this process runs as {me}"
                raise Unavailable(f"{whose}; {remedy}")


def foreign_files(settings: Settings) -> Iterator[Path]:
    """Yield files that do not belong to the owner of their registry, such as those that root made.

    Of the directories of blobs, those of the first two levels are looked at.
    """
    for root, (_, *paths) in _parts(settings):
        if root.exists():
            owner = registry_owner(root)
            blobs = root.glob("blobs/*/*") if root == blob_root(settings) else ()
            for path in (*paths, *blobs):
                if path.exists() and owner_of(path) != owner:
                    yield path


def registry_owner(root: Path) -> str:
    """Return the name of the user to whom a registry in a directory belongs.

    The directory itself may be a volume, which belongs to root, and which a group may use.
    """
    inside = [path for path in (root / "portside.db", root / "blobs") if path.exists()]
    return owner_of(inside[0] if root.stat().st_uid == 0 and inside else root)


def owner_of(path: Path) -> str:
    """Return the name of the user to whom a file belongs."""
    return user_name(path.stat().st_uid)


def _parts(settings: Settings) -> Iterator[tuple[Path, list[Path]]]:
    """Yield directories of this machine that hold the registry, with what to look at in them."""
    if not settings.database:
        yield settings.root, [settings.root, *(settings.root / name for name in _DATABASE)]
    root = blob_root(settings)
    if root is not None:
        yield root, [root, *(root / name for name in _BLOBS)]


def _is_usable(path: Path, *, read_only: bool) -> bool:
    """Whether a file may be used, does not exist, or is this user's own.

    What cannot be seen is in a directory that cannot be used either. Nobody may write to a file
    system that is mounted for reading.
    """
    try:
        found = path.stat()
        is_fixed = os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError:
        return True
    need = os.R_OK if read_only or is_fixed else os.R_OK | os.W_OK
    if path.is_dir():
        need = need & ~os.R_OK | os.X_OK
    return found.st_uid == os.geteuid() or os.access(path, need)
