"""The size of the pieces in which blobs are read: the more reads are open, the smaller they are.

The server holds several pieces of every response, and clients that do not read keep it holding
them until the write timeout. Small pieces cost more of the processor, so few reads have large ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

HELD = 6
"""Pieces of a response that are held: Granian queues four, beside those being sent and read."""

BUDGET = 16 * 1024 * 1024
"""Bytes that the reads of a process hold together, about: 22 reads have pieces of 120 KiB."""

LEAST = 16 * 1024
"""Bytes of a piece, however many reads are open."""


class OpenReads:
    """The reads of one blob store that are open in this process."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._count = 0

    @contextmanager
    def another(self) -> Iterator[None]:
        """Count a read for the length of a block."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    @property
    def piece(self) -> int:
        """Bytes that a read may hand on at once."""
        share = BUDGET // (HELD * (self._count or 1))
        return max(LEAST, min(self._largest, share))
