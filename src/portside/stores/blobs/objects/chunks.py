"""Which chunks make up an upload.

Every request writes a chunk of its own. One that was cut down before its offset was acknowledged
leaves a chunk that is not part of the upload, and another request may have written one for the same
offset since. None of them is dropped before the upload ends. What the upload consists of is found
from its acknowledged offset: chunks that follow one another without a gap, from the first byte up
to exactly there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Chunk(NamedTuple):
    """An object that holds `size` bytes of an upload, from `start` on."""

    key: str
    start: int
    size: int

    @property
    def stop(self) -> int:
        """The offset of the first byte behind the chunk."""
        return self.start + self.size


def find_chain(chunks: Iterable[Chunk], offset: int) -> list[Chunk] | None:
    """Give chunks that lead from the first byte to `offset`, in order; None if there are none."""
    following: dict[int, Chunk] = {}
    for chunk in sorted(chunks, key=lambda chunk: chunk.start, reverse=True):
        if chunk.size and (chunk.stop == offset or chunk.stop in following):
            following[chunk.start] = chunk
    chain: list[Chunk] = []
    position = 0
    while position != offset:
        if position not in following:
            return None
        chain.append(following[position])
        position = chain[-1].stop
    return chain


def find_reach(chunks: Iterable[Chunk]) -> int:
    """Give the largest offset up to which there are bytes without a gap."""
    reached = {0}
    for chunk in sorted(chunks, key=lambda chunk: chunk.start):
        if chunk.start in reached:
            reached.add(chunk.stop)
    return max(reached)
