"""The temporary files that a crash can leave, told from those in use by their locks.

- `uploads/<id>.copy` and `uploads/<id>.placing` belong to the request that holds the upload `<id>`.
- `.probe-…` is a file that a probe writes and has locked.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from portside.stores.blobs.disk.layout import Layout, list_directory, stat_or_none
from portside.stores.blobs.disk.locks import TEMPORARY, lock_holder
from portside.stores.blobs.faults import translated
from portside.stores.interfaces import OrphanedFile

_PROBE = ".probe-"

_LEFT_BY_A_CRASH = "left by a crash; removed automatically when it is old, or by `portside collect`"
_FOREIGN = "not a file of a registry; move it away"


def describe(path: str) -> OrphanedFile:
    """Return what to do about a file that is no blob and no upload."""
    return OrphanedFile(path, _LEFT_BY_A_CRASH if _is_temporary(path) else _FOREIGN)


def drop_orphaned_files(layout: Layout, before: int, *, dry_run: bool) -> list[int]:
    """Drop temporary files last written before a time (µs since 1970) that are not in use.

    With `dry_run`, none is dropped. Return how many bytes of the disk each of them took; raises
    OSError.
    """
    freed = []
    for path in _list_temporary(layout):
        with ExitStack() as stack:
            if not lock_holder(path, fcntl.LOCK_EX, stack):
                continue
            found = stat_or_none(path)
            if found is not None and found.st_mtime_ns // 1000 < before:
                if not dry_run:
                    os.unlink(path)
                freed.append(found.st_size if found.st_nlink == 1 else 0)
    return freed


def try_reads(layout: Layout) -> None:
    """Read the directories that every blob is below; raises Unavailable."""
    for directory in layout.blob_directories:
        with translated(f"reading {directory}"), os.scandir(directory) as entries:
            next(entries, None)


def try_store(layout: Layout) -> None:
    """Write, sync, link and remove a small file, as a push does; raises StorageFull, Unavailable.

    The file gets a name in each directory that a blob can come to: all of them must exist, on one
    file system.
    """
    name = f"{_PROBE}{secrets.token_hex(8)}"
    paths = [directory / name for directory in layout.directories]
    with ExitStack() as stack:
        for path in paths:
            stack.callback(_unlink, path)
        with translated(f"writing to {paths[0].parent}"), paths[0].open("xb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b"portside")
            os.fsync(file)
            for path in paths[1:]:
                with translated(f"writing to {path.parent}"):
                    os.link(paths[0], path)
            # The lock goes with the descriptor, and the names go before it.
            stack.close()


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _list_temporary(layout: Layout) -> Iterator[str]:
    for directory in layout.directories:
        for entry in list_directory(directory):
            if _is_temporary(entry.path):
                yield entry.path


def _is_temporary(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(_PROBE) or name.endswith(TEMPORARY)
