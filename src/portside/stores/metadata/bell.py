"""The bell: a number in memory that all processes share, and that each change of access rings.

Whether anything has changed is asked for every request. A row of the database would tell it as
well, at the price of a query.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

FILE = "portside.bell"

_SIZE = 8


class Bell:
    """The number in the file; it means nothing but that it changes. Raises OSError."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < _SIZE:
                os.ftruncate(descriptor, _SIZE)
            _share_owner(path, descriptor)
            self._memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)

    @property
    def value(self) -> bytes:
        """What the number is now."""
        return self._memory[:_SIZE]

    def ring(self) -> None:
        """Change the number; called while nobody else can."""
        number = int.from_bytes(self._memory[:_SIZE], "little")
        self._memory[:_SIZE] = ((number + 1) % (1 << 64)).to_bytes(_SIZE, "little")

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


def _share_owner(path: Path, descriptor: int) -> None:
    """Let the owner of the directory hear it, also where root was first."""
    if os.geteuid() == 0:
        owner = os.stat(path.parent)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
