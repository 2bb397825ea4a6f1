"""The change counter: a number in shared memory that every change of access control advances.

Whether anything has changed is asked for each request. A row of the database would tell it as well,
at the price of a query.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from portside.stores.directories import share_owner

FILE = "portside.counter"

FORMER_FILE = "portside.bell"
"""The name of that file in earlier versions."""

_SIZE = 8


class SharedCounter:
    """The ChangeCounter of the processes that open one file. Raises OSError."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < _SIZE:
                os.ftruncate(descriptor, _SIZE)
            share_owner(path, descriptor)
            self._memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)

    @property
    def value(self) -> bytes:
        """The number as it is now."""
        return self._memory[:_SIZE]

    def advance(self) -> None:
        """Change the number; called while no other process can."""
        number = int.from_bytes(self._memory[:_SIZE], "little")
        self._memory[:_SIZE] = ((number + 1) % (1 << 64)).to_bytes(_SIZE, "little")

    def close(self) -> None:
        """Release the memory."""
        self._memory.close()
