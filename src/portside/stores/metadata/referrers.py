"""How many referrers fit on a page that is limited in bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from portside.spec.digests import Digest
from portside.spec.pagination import Page, PageRequest, cut
from portside.stores.interfaces import Referrer

INDEX_BYTES = 100
"""Bytes of an index beside its descriptors."""

DESCRIPTOR_BYTES = 80
"""Bytes of a descriptor beside its texts: the names of its fields, and a size."""


class ReferrersPage:
    """A page that rows are put on until one does not fit."""

    def __init__(self, request: PageRequest, max_bytes: int) -> None:
        self._request = request
        self._room = max_bytes - INDEX_BYTES
        self._found: list[Referrer] = []
        self._is_full = False

    def takes(self, row: Any) -> bool:
        """Put a row on the page; tells whether it fitted. The first one always does."""
        media_type, digest, size, kind, annotations = row
        named = msgspec.json.encode(kind) if kind else b""
        texts = len(media_type) + len(digest) + len(named) + len(annotations)
        self._room -= DESCRIPTOR_BYTES + texts
        if self._found and self._room < 0:
            self._is_full = True
            return False
        self._found.append(Referrer(media_type, Digest(digest), size, kind, annotations))
        return True

    def finished(self) -> Page[Referrer]:
        """Give the page; one row more than it may have tells that others follow."""
        if self._is_full:
            return Page(self._found[: self._request.limit], more=True)
        return cut(self._found, self._request)
