"""Reading: verify the snapshots of a backup, and drop old ones with what only they need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from portside.operations.backup.making import require_backup
from portside.operations.check import Tally, find_damage
from portside.spec.digests import Digest
from portside.spec.errors import RegistryError, Unavailable
from portside.stores.backups import BackupBlobs, Snapshot
from portside.stores.inspection import InspectableMetadata

Opened = Callable[[str, Snapshot], AbstractAsyncContextManager[InspectableMetadata]]
"""Opens the metadata of a snapshot for the length of a block; raises Unavailable."""


class Pruned(NamedTuple):
    """What was dropped: `snapshots`, and `blobs` with so many `bytes`."""

    snapshots: int = 0
    blobs: int = 0
    bytes: int = 0


async def find_snapshot(target: BackupBlobs, name: str | None) -> tuple[str, Snapshot]:
    """Return the snapshot with a name, or the newest one; raises Unavailable."""
    await require_backup(target)
    names = await target.list_snapshots()
    if not names:
        raise Unavailable(f"{target.place} holds no snapshot: its first backup did not finish")
    chosen = name or names[-1]
    snapshot = await target.read_snapshot(chosen) if chosen in names else None
    if snapshot is None:
        raise Unavailable(f"{target.place} has no snapshot {chosen}; see `portside backup --list`")
    return chosen, snapshot


async def verify(target: BackupBlobs, opened: Opened, tally: Tally) -> AsyncIterator[str]:
    """Yield what is damaged or missing in any snapshot; every blob is read once.

    `tally` counts what was seen, what several snapshots share as often as they do.
    """
    await require_backup(target)
    sound: set[Digest] = set()
    for name in await target.list_snapshots():
        try:
            async for problem in _verify_snapshot(target, name, opened, tally, sound):
                yield f"snapshot {name}: {problem}"
        except RegistryError as error:
            yield f"snapshot {name}: {'; '.join(error.details)}"


async def _verify_snapshot(
    target: BackupBlobs, name: str, opened: Opened, tally: Tally, sound: set[Digest]
) -> AsyncIterator[str]:
    _, snapshot = await find_snapshot(target, name)
    async with opened(name, snapshot) as metadata:
        unsound = set()
        async for finding in find_damage(metadata, target, tally, sound=sound):
            unsound.add(finding.digest)
            yield finding.text
        async for record in metadata.blob_records():
            if record.digest not in unsound:
                sound.add(Digest(record.digest))


async def prune(target: BackupBlobs, keep: int, opened: Opened) -> Pruned:
    """Drop all snapshots but the newest ones, and what none of these needs.

    Nobody else writes to the backup. Nothing is dropped if a snapshot that is kept cannot be read.
    """
    names = await target.list_snapshots()
    gone = names[:-keep]
    if not gone:
        return Pruned()
    needed: set[str] = set()
    for name in names[-keep:]:
        _, snapshot = await find_snapshot(target, name)
        needed.add(snapshot.database)
        async with opened(name, snapshot) as metadata:
            async for record in metadata.blob_records():
                needed.add(record.digest)
    for name in gone:
        await target.drop_snapshot(name)
    blobs, freed = 0, 0
    async for digest, size in target.stored_blobs():
        if digest not in needed:
            await asyncio.to_thread(target.remove(digest))
            blobs, freed = blobs + 1, freed + size
    return Pruned(len(gone), blobs, freed)
