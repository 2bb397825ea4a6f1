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
"""Sessions. Each costs about 400 bytes; the least recently used one is dropped for a new one."""


class RunningHashes:
    """The hashers of this worker, by session, each with the offset that it has come to."""

    def __init__(self) -> None:
        self._kept: OrderedDict[UploadId, tuple[int, Algorithm, _Hash]] = OrderedDict()

    def at(self, upload: UploadId, offset: int, algorithm: Algorithm) -> _Hash | None:
        """Return a copy of the hasher that has seen exactly the first `offset` bytes, or None.

        An acknowledged offset never moves back, so two states of a session with the same offset
        are the same bytes.
        """
        if offset == 0:
            return algorithm.hasher()
        kept = self._kept.get(upload)
        if kept is None or kept[:2] != (offset, algorithm):
            return None
        return kept[2].copy()

    def keep(self, upload: UploadId, offset: int, algorithm: Algorithm, hasher: _Hash) -> None:
        """Remember a hasher that has seen the first `offset` bytes."""
        self._kept[upload] = (offset, algorithm, hasher)
        self._kept.move_to_end(upload)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def forget(self, upload: UploadId) -> None:
        """Drop what is kept for a session that has ended."""
        self._kept.pop(upload, None)
