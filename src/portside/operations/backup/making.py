"""Making: save the metadata, copy the blobs that it names, and keep both as a snapshot.

The metadata comes first: whatever it names was there at that moment. The collector waits, but a
client can delete a blob before it is copied. If no manifest of the snapshot refers to it, it is
forgotten. Otherwise the metadata is saved anew, and what was pushed in between is copied too. What
was copied stays, so each round is shorter than the one before it.

A snapshot is there once its document is, which is written last. A backup that is killed leaves
blobs that nothing refers to, and the next one need not copy them again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from portside.operations.copy.plan import Progress, Tally
from portside.operations.copy.streams import attempt, in_parallel, staged_copy
from portside.operations.staging import stage
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import Unavailable, UploadBusy
from portside.spec.uploads import UploadId
from portside.stores.backups import BackupBlobs, SavedRows, Snapshot
from portside.stores.inspection import BlobRecord, InspectableMetadata
from portside.stores.interfaces import BlobStore
from portside.stores.marks import Mark

MOST_ROUNDS = 20
"""Rounds after which a backup is given up: images are deleted faster than they can be copied."""

SKEW = 3600
"""Seconds by which the clock of the backup's storage may be ahead of this one."""

PIECE = 1024 * 1024
"""Bytes of the saved metadata that are read at once."""

_NAME = "%Y-%m-%dT%H:%M:%SZ"

MARKED = "backup-"
"""How the mark of a backup names its storage, unlike that of a registry."""


class SavedMetadata(NamedTuple):
    """The metadata of a registry at one moment, in a file that is whole once it is closed."""

    file: Path
    identity: str
    schema: int
    metadata: SavedRows
    close: Callable[[], None]


class Source(NamedTuple):
    """A registry to back up.

    `save` saves what its metadata is at that moment, for the length of a block.
    """

    identity: str
    metadata: InspectableMetadata
    blobs: BlobStore
    save: Callable[[], AbstractAsyncContextManager[SavedMetadata]]


class Made(NamedTuple):
    """A snapshot that was made."""

    name: str
    snapshot: Snapshot


class Backup:
    """One run of a backup; `clock` returns microseconds since 1970.

    Nobody else writes to the target. To `repair` it, blobs that it has are read, and copied again
    if they are damaged. `progress` is called whenever `tally` has grown; blobs that the registry
    has lost are its problems.
    """

    def __init__(
        self,
        source: Source,
        target: BackupBlobs,
        *,
        tally: Tally,
        clock: Callable[[], int],
        repair: bool = False,
        progress: Progress = lambda: None,
    ) -> None:
        self._source = source
        self._target = target
        self._tally = tally
        self._clock = clock
        self._progress = progress
        self._is_repair = repair
        self._there: dict[str, int] = {}
        self._sound: set[str] = set()
        self._lost: set[str] = set()

    async def make(self) -> Made:
        """Make a snapshot; raises Unavailable and StorageFull."""
        await self._begin()
        async for digest, size in self._target.stored_blobs():
            self._there[digest] = size
        for _ in range(MOST_ROUNDS):
            async with self._source.save() as saved:
                gone = await self._copy_blobs(saved.metadata)
                if all([await saved.metadata.forget_blob(digest) for digest in gone]):
                    return await self._keep(saved)
        restless = "images are deleted faster than they can be copied; try again later"
        raise Unavailable(restless)

    async def _begin(self) -> None:
        """Mark the target, or require that it is the backup of this registry."""
        target = self._target
        target.create()
        if await target.read_mark() is None:
            if await target.holds_blobs():
                raise Unavailable(
                    f"{target.place} holds blobs, but no backup; choose an empty place"
                )
            await target.put_mark(Mark(self._source.identity, f"{MARKED}{secrets.token_hex(16)}"))
        if await require_backup(target) != self._source.identity:
            raise Unavailable(
                f"{target.place} holds the backup of another registry; choose another place"
            )
        await self._drop_staged()

    async def _drop_staged(self) -> None:
        """Drop what a backup that was killed was copying."""
        before = self._clock() + SKEW * 1_000_000
        for upload in await self._target.list_stale_uploads(before):
            with suppress(UploadBusy):
                async with self._target.hold(upload):
                    await self._target.discard(upload)
        await self._target.drop_orphaned_files(before)

    async def _copy_blobs(self, metadata: InspectableMetadata) -> list[str]:
        """Copy the blobs that the target lacks; return those that were deleted since."""
        gone: list[str] = []

        async def wanted() -> AsyncIterator[BlobRecord]:
            async for record in metadata.blob_records():
                if self._is_repair or not self._has(record):
                    yield record

        async def work(record: BlobRecord) -> None:
            if self._has(record) and await self._is_sound(record.digest):
                return
            problem = await attempt(lambda: self._copy(record))
            if problem is None:
                self._lost.discard(record.digest)
            elif await self._source.metadata.blob_record(record.digest) is None:
                gone.append(record.digest)
            elif record.digest not in self._lost:
                self._lost.add(record.digest)
                self._tally.problems.append(f"blob {record.digest} of the registry {problem}")

        await in_parallel(wanted(), work)
        return gone

    def _has(self, record: BlobRecord) -> bool:
        return self._there.get(record.digest) == record.size

    async def _is_sound(self, digest: str) -> bool:
        """Read a blob of the target, once."""
        if digest not in self._sound and await self._target.verify(Digest.parse(digest)):
            self._sound.add(digest)
        return digest in self._sound

    async def _copy(self, record: BlobRecord) -> None:
        digest = Digest.parse(record.digest)
        async with staged_copy(self._source.blobs, self._target, digest, record.size) as place:
            await asyncio.to_thread(place)
        self._there[digest] = record.size
        self._sound.add(digest)
        self._tally.blobs += 1
        self._tally.bytes += record.size
        self._progress()

    async def _keep(self, saved: SavedMetadata) -> Made:
        """Store the metadata as a blob, and then the document, with which the snapshot is there."""
        count, total, missing = 0, 0, 0
        async for record in saved.metadata.blob_records():
            is_there = self._has(record) and record.digest not in self._lost
            count, total = count + is_there, total + record.size * is_there
            missing += not is_there
        saved.close()
        async with self._target.hold(UploadId.fresh(), fresh=True) as staging:
            database, _ = await stage(staging, _read(saved.file), Algorithm.SHA256)
            await asyncio.to_thread(await staging.place(database))
        created = self._clock()
        snapshot = Snapshot(
            saved.identity, created, str(database), saved.schema, count, total, missing
        )
        name = await self._name(created)
        await self._target.put_snapshot(name, snapshot)
        return Made(name, snapshot)

    async def _name(self, created: int) -> str:
        """Return a name after all others, even if the clock was set back."""
        known = map(_second_of, await self._target.list_snapshots())
        return snapshot_name(max([created // 1_000_000, *(second + 1 for second in known)]))


def snapshot_name(second: int) -> str:
    """Return the name of a snapshot that was made at a time (seconds since 1970)."""
    return datetime.fromtimestamp(second, UTC).strftime(_NAME)


def _second_of(name: str) -> int:
    """Return the time that a name means; a time before all others if it is not a snapshot's.

    People keep copies of files beside the files.
    """
    try:
        return int(datetime.strptime(name, _NAME).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return -1


async def require_backup(target: BackupBlobs) -> str:
    """Return the identity of the registry whose backup a store is; raises Unavailable."""
    mark = await target.read_mark()
    if mark is None:
        raise Unavailable(f"{target.place} does not contain a backup")
    if not mark.storage.startswith(MARKED):
        raise Unavailable(f"{target.place} is where a registry keeps its blobs, not a backup")
    return mark.registry


async def _read(file: Path) -> AsyncGenerator[bytes, None]:
    with file.open("rb") as opened:
        while piece := await asyncio.to_thread(opened.read, PIECE):
            yield piece
