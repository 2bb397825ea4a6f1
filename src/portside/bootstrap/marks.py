"""Marks: see to it that a database and the blobs beside it are those of one registry."""

from __future__ import annotations

import secrets
from typing import Protocol

from portside.spec.errors import Unavailable
from portside.stores.marks import NAME, Mark, MarkedBlobs
from portside.stores.switching import Standing, SwitchableMetadata


class ListedBlobs(MarkedBlobs, Protocol):
    """A blob store that can be marked, and that tells where it is and whether it is empty."""

    @property
    def place(self) -> object:
        """Where the blobs are, as people call it."""
        ...

    def holds_blobs(self) -> bool:
        """Tell whether there is any blob; raises Unavailable."""
        ...


async def mark(metadata: SwitchableMetadata, blobs: ListedBlobs) -> None:
    """Mark the blobs of a registry that is served for the first time; refuse those of another.

    Raises Unavailable and StorageFull.
    """
    standing = await metadata.standing()
    found = blobs.read_mark()
    _require_own(standing, found, blobs)
    if found is None:
        blobs.put_mark(Mark(standing.identity, secrets.token_hex(16)))
        # Of two that begin at once, one is heard.
        found = blobs.read_mark()
        _require_own(standing, found, blobs)
    if found is not None and standing.storage is None:
        await metadata.note_storage(found.storage)
        _require_own(await metadata.standing(), found, blobs)


async def require_own(metadata: SwitchableMetadata, blobs: ListedBlobs) -> None:
    """Refuse blobs that are not those of the registry; raises Unavailable."""
    _require_own(await metadata.standing(), blobs.read_mark(), blobs)


def _require_own(standing: Standing, found: Mark | None, blobs: ListedBlobs) -> None:
    """Compare a registry with a mark; neither knows the other before it is first served from."""
    place = blobs.place
    if found is None and standing.storage is not None:
        raise Unavailable(
            f"{place} is not where this registry keeps its blobs: there is no {NAME} beside them,"
            f' with {{"registry": "{standing.identity}", "storage": "{standing.storage}"}}'
        )
    if found is None:
        if blobs.holds_blobs():
            raise Unavailable(f"{place} holds blobs, and this registry has never been served yet")
        return
    if found.registry != standing.identity:
        raise Unavailable(f"{place} holds the blobs of another registry, says its {NAME}")
    if standing.storage not in (None, found.storage):
        raise Unavailable(
            f"{place} is not the store of this registry's blobs that is in use, says its {NAME}"
        )
