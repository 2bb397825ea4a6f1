"""Marks: require that a database and the blobs beside it belong to one registry."""

from __future__ import annotations

import secrets

from portside.spec.errors import Unavailable
from portside.stores.inspection import InspectableBlobs
from portside.stores.marks import NAME, Mark
from portside.stores.switching import Standing, SwitchableMetadata


async def mark(metadata: SwitchableMetadata, blobs: InspectableBlobs) -> None:
    """Mark the blobs of a registry that is served for the first time; refuse those of another.

    Raises Unavailable and StorageFull.
    """
    standing = await metadata.standing()
    found = await blobs.read_mark()
    await _require_own(standing, found, blobs)
    if found is None:
        await blobs.put_mark(Mark(standing.identity, secrets.token_hex(16)))
        # Of two that begin at once, one is heard.
        found = await blobs.read_mark()
        await _require_own(standing, found, blobs)
    if found is not None and standing.storage is None:
        await metadata.note_storage(found.storage)
        await _require_own(await metadata.standing(), found, blobs)


async def require_own(metadata: SwitchableMetadata, blobs: InspectableBlobs) -> None:
    """Refuse blobs that are not those of the registry; raises Unavailable."""
    await _require_own(await metadata.standing(), await blobs.read_mark(), blobs)


async def _require_own(standing: Standing, found: Mark | None, blobs: InspectableBlobs) -> None:
    """Compare a registry with a mark; neither knows the other before it is first served from."""
    place = blobs.location
    if found is None and standing.storage is not None:
        raise Unavailable(
            f"{place} is not where this registry keeps its blobs: there is no {NAME} beside them,"
            f' with {{"registry": "{standing.identity}", "storage": "{standing.storage}"}}'
        )
    if found is None:
        if await blobs.holds_blobs():
            raise Unavailable(f"{place} holds blobs, and this registry has never been served yet")
        return
    if found.registry != standing.identity:
        raise Unavailable(f"{place} holds the blobs of another registry, says its {NAME}")
    if standing.storage not in (None, found.storage):
        raise Unavailable(
            f"{place} is not the store of this registry's blobs that is in use, says its {NAME}"
        )
