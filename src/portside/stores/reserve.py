"""The space that pushes leave free on the disk of the database, so that deletes have room."""

from __future__ import annotations

import os
from pathlib import Path

from portside.spec.errors import StorageFull


class Reserve:
    """Refuses what adds to a disk that has fewer than `size` bytes free; zero refuses nothing."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size

    def require(self) -> None:
        """Raise StorageFull if the reserve is touched; one system call, on the event loop."""
        if not self._size:
            return
        disk = os.statvfs(self._directory)
        if disk.f_bavail * disk.f_frsize < self._size:
            raise StorageFull("the disk is full, but for the reserve; delete what is not needed")
