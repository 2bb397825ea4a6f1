"""The space that is kept on the disk of the database, so that deletes have room.

Pushes leave it free. Other programs do not, so a file takes some space beside it, which is emptied
when the disk is full to the last byte.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from portside.spec.errors import StorageFull
from portside.stores.directories import share_owner

FILE = "portside.reserve"

MOST = 16 * 1024 * 1024
"""Bytes that the file takes, beside a reserve of that size or more: four times what SQLite's log
reaches before SQLite begins it anew."""

log = logging.getLogger(__name__)


class Reserve:
    """Refuses what adds to a disk that has fewer than `size` bytes free; zero refuses nothing."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size

    def require(self) -> None:
        """Raise StorageFull if the reserve is touched; one system call, on the event loop."""
        if self._size and free_bytes(self._directory) < self._size:
            raise StorageFull("the disk is full, but for the reserve; delete what is not needed")


class HeldReserve(Reserve):
    """A reserve beside which a file holds space, for `release`."""

    def __init__(self, directory: Path, size: int) -> None:
        super().__init__(directory, size)
        self._file = directory / FILE
        self._held = min(size, MOST)

    def require(self) -> None:
        """Raise StorageFull if the reserve is touched; otherwise take back what was released."""
        super().require()
        self.hold()

    def hold(self) -> None:
        """Have the file take its space, unless it does or there is too little."""
        try:
            if self._held and not self._is_held():
                self._take()
        except OSError as error:
            log.warning("%s: %s", self._file, error.strerror or error)

    def _is_held(self) -> bool:
        try:
            return os.stat(self._file).st_size >= self._held
        except FileNotFoundError:
            return False

    def _take(self) -> None:
        if free_bytes(self._directory) < self._size + self._held:
            return
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            share_owner(self._file, descriptor)
            _allocate(descriptor, self._held)
        finally:
            os.close(descriptor)


def release(directory: Path) -> bool:
    """Empty the file of the reserve in a directory; return whether that has made room."""
    file = directory / FILE
    try:
        held = os.stat(file).st_size
        if held:
            os.truncate(file, 0)
    except OSError:
        return False
    if held:
        log.warning("the disk is full; %d bytes of the reserve are released", held)
    return held > 0


def free_bytes(directory: Path) -> int:
    """Return what is free on the disk of a directory for other users than root; raises OSError."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def _allocate(descriptor: int, size: int) -> None:
    """Take space on the disk; raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        # macOS has no such call.
        os.pwrite(descriptor, bytes(size), 0)
