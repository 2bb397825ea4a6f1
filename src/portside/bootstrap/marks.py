"""Marks: see to it that a database and the blobs beside it are those of one registry."""

from __future__ import annotations

import secrets

from portside.spec.errors import Unavailable
from portside.stores.marks import NAME, Mark, MarkedBlobs
from portside.stores.switching import SwitchableMetadata


async def mark(metadata: SwitchableMetadata, blobs: MarkedBlobs, place: object) -> None:
    """Mark the blobs of a registry that is served for the first time; refuse those of another.

    Raises Unavailable and StorageFull.
    """
    standing = await metadata.standing()
    if standing.storage is None and blobs.read_mark() is None:
        blobs.put_mark(Mark(standing.identity, secrets.token_hex(16)))
    found = blobs.read_mark()
    if found is not None and found.registry == standing.identity:
        await metadata.note_storage(found.storage)
    await require_own(metadata, blobs, place)


async def require_own(metadata: SwitchableMetadata, blobs: MarkedBlobs, place: object) -> None:
    """Refuse blobs that are not those of the registry; raises Unavailable.

    `place` is what people call the store. One that was never served from has no mark.
    """
    standing, found = await metadata.standing(), blobs.read_mark()
    if found is None:
        if standing.storage is None:
            return
        raise Unavailable(
            f"{place} is not where this registry keeps its blobs: there is no {NAME} beside them,"
            f' with {{"registry": "{standing.identity}", "storage": "{standing.storage}"}}'
        )
    if found.registry != standing.identity:
        raise Unavailable(f"{place} holds the blobs of another registry, says its {NAME}")
    if standing.storage not in (None, found.storage):
        raise Unavailable(
            f"{place} is not the store of this registry's blobs that is in use, says its {NAME}"
        )
