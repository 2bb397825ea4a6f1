"""What a crash can leave beside blobs and uploads, told from what is in use by its lock.

- `uploads/<id>.copy` and `uploads/<id>.placing` belong to whoever holds the upload `<id>`.
- `.probe-…` is a file by which the store was tried; whoever tries it has locked it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from portside.stores.blobs.faults import translated
from portside.stores.blobs.layout import Layout, list_directory, stat_or_none
from portside.stores.inspection import OrphanedFile

_BESIDE = (".copy", ".placing")
_PROBE = ".probe-"

_LEFT_BY_A_CRASH = "left by a crash; it goes by itself when it is old, or with `portside collect`"
_FOREIGN = "nothing of a registry has this name; move it away"


def describe(path: str) -> OrphanedFile:
    """Say what to do about a file that is no blob and no upload."""
    return OrphanedFile(path, _LEFT_BY_A_CRASH if _is_leftover(path) else _FOREIGN)


def is_in_use(path: str) -> bool:
    """Tell whether a file, or the upload beside which it is, is locked, as far as can be known."""
    with ExitStack() as stack, suppress(OSError):
        return not _lock(_holder(path), fcntl.LOCK_SH, stack)
    return False


def drop_orphaned_files(layout: Layout, before: int) -> list[int]:
    """Drop leftovers that were last written before a time (µs since 1970), if nobody uses them.

    Gives the bytes that each of them took on the disk; raises OSError.
    """
    freed = []
    for path in _list_leftovers(layout):
        with ExitStack() as stack:
            if not _lock(_holder(path), fcntl.LOCK_EX, stack):
                continue
            found = stat_or_none(path)
            if found is not None and found.st_mtime_ns // 1000 < before:
                os.unlink(path)
                freed.append(found.st_size if found.st_nlink == 1 else 0)
    return freed


def try_store(layout: Layout) -> None:
    """Write, sync, link and remove a small file, as a push does; raises StorageFull, Unavailable.

    The file has a name in each directory that a blob can come to: they must be there, and on one
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


def _list_leftovers(layout: Layout) -> Iterator[str]:
    for directory in layout.directories:
        for entry in list_directory(directory):
            if _is_leftover(entry.path):
                yield entry.path


def _is_leftover(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(_PROBE) or name.endswith(_BESIDE)


def _holder(path: str) -> str:
    """Give the file whose lock a leftover's user has."""
    stem, extension = os.path.splitext(path)
    return stem if extension in _BESIDE else path


def _lock(path: str, kind: int, stack: ExitStack) -> bool:
    """Lock a file for as long as the stack lives; a file that is not there is nobody's.

    Tells whether nobody else has it; raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return True
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
