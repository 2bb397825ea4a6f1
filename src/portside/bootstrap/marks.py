"""Marks: require that a database and the blobs beside it belong to one registry."""

from __future__ import annotations

import secrets

from portside.spec.errors import Unavailable
from portside.stores.interfaces import InspectableBlobs
from portside.stores.marks import NAME, Mark
from portside.stores.read_only import ReadOnlySwitch, RegistryState


async def mark(metadata: ReadOnlySwitch, blobs: InspectableBlobs) -> None:
    """Mark the blobs of a registry that is served for the first time; refuse those of another.

    Raises Unavailable and StorageFull.
    """
    state = await metadata.registry_state()
    found = await blobs.read_mark()
    await _require_own(state, found, blobs)
    if found is None:
        await blobs.put_mark(Mark(state.identity, secrets.token_hex(16)))
        # If two nodes start at once, the first mark stays.
        found = await blobs.read_mark()
        await _require_own(state, found, blobs)
    if found is not None and state.storage is None:
        await metadata.note_storage(found.storage)
        await _require_own(await metadata.registry_state(), found, blobs)


async def require_own(metadata: ReadOnlySwitch, blobs: InspectableBlobs) -> None:
    """Refuse blobs that are not those of the registry; raises Unavailable."""
    await _require_own(await metadata.registry_state(), await blobs.read_mark(), blobs)


async def _require_own(state: RegistryState, found: Mark | None, blobs: InspectableBlobs) -> None:
    """Compare a registry with a mark; neither knows the other before it is first served from."""
    place = blobs.location
    if found is None and state.storage is not None:
        raise Unavailable(
            f"{place} is not where this registry keeps its blobs: there is no {NAME} in it that"
            f' contains {{"registry": "{state.identity}", "storage": "{state.storage}"}}'
        )
    if found is None:
        if await blobs.holds_blobs():
            raise Unavailable(f"{place} holds blobs, but this registry has never been served")
        return
    if found.registry != state.identity:
        raise Unavailable(f"{place} holds the blobs of another registry, according to its {NAME}")
    if state.storage not in (None, found.storage):
        raise Unavailable(
            f"{place} is not the blob store that this registry uses, according to its {NAME}"
        )
