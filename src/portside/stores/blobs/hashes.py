"""Running digests of uploads, kept between the requests of one session.

A hasher cannot be stored, so it lives in the worker that received the bytes. It is only a shortcut:
another worker, or this one after a restart, reads the staged bytes again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from portside.spec.digests import Algorithm
from portside.spec.uploads import UploadId

if TYPE_CHECKING:
    from hashlib import _Hash

MAX_KEPT = 4096
"""Hashers. Each costs about 400 bytes; the least recently used one is dropped for a new one."""


class RunningHashes:
    """The hashers of this worker, by session and algorithm, each with the offset it has come to."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[UploadId, Algorithm], tuple[int, _Hash]] = OrderedDict()

    def at(self, upload: UploadId, offset: int, algorithm: Algorithm) -> _Hash | None:
        """Return a copy of the hasher that has seen exactly the first `offset` bytes, or None.

        An acknowledged offset never moves back, so two states of a session with the same offset
        are the same bytes.
        """
        if offset == 0:
            return algorithm.hasher()
        kept = self._kept.get((upload, algorithm))
        if kept is None or kept[0] != offset:
            return None
        return kept[1].copy()

    def keep(self, upload: UploadId, offset: int, algorithm: Algorithm, hasher: _Hash) -> None:
        """Remember a hasher that has seen the first `offset` bytes."""
        self._kept[upload, algorithm] = (offset, hasher)
        self._kept.move_to_end((upload, algorithm))
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def forget(self, upload: UploadId) -> None:
        """Drop what is kept for a session that has ended."""
        for algorithm in Algorithm:
            self._kept.pop((upload, algorithm), None)
