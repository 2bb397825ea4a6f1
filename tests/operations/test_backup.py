"""Backups beside clients and the collector: a snapshot names nothing that is not in the backup."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from uuid import uuid4

import pytest

from operations.conftest import HOUR, IMAGE, MINUTE, Registry, body
from portside.bootstrap.backups import opened_snapshot
from portside.operations.backup.hold import holding
from portside.operations.backup.making import Backup, SavedMetadata, Source
from portside.operations.check import Tally as CheckTally
from portside.operations.check import find_damage
from portside.operations.copy.plan import Tally
from portside.operations.push import Chunk
from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.spec.names import RepositoryName
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Metadata
from stores.conftest import Clock
from support.content import Content, image

A = RepositoryName("a")

Meanwhile = Callable[[int], Awaitable[None]]
"""What happens between the snapshot of a round and the first copy of a blob."""


@pytest.fixture
def target(tmp_path: Path) -> DiskBlobs:
    """Open a directory for a backup."""
    return DiskBlobs(tmp_path / "backup", hold_timeout=1)


async def nothing(_: int) -> None:
    """Let nothing happen."""


async def back_up(
    registry: Registry,
    target: DiskBlobs,
    meanwhile: Meanwhile = nothing,
    tally: Tally | None = None,
) -> tuple[set[Digest], int]:
    """Make a backup, which is whole; return the blobs that it names, and its rounds."""
    rounds = 0

    @asynccontextmanager
    async def save() -> AsyncIterator[SavedMetadata]:
        nonlocal rounds
        folder = target.place.with_name(uuid4().hex)
        folder.mkdir()
        database = registry.database
        assert isinstance(database, SqliteDatabase)
        await database.save_copy(folder)
        file = SqliteDatabase(folder, clock=registry.clock)
        metadata = Metadata(file)
        await meanwhile(rounds)
        rounds += 1
        identity = (await metadata.registry_state()).identity
        yield SavedMetadata(file.file, identity, await file.schema_version(), metadata, file.close)
        file.close()

    identity = (await registry.metadata.registry_state()).identity
    source = Source(identity, registry.metadata, registry.blobs, save)
    made = await Backup(source, target, tally=tally or Tally(), clock=registry.clock).make()
    async with opened_snapshot(target, made.name, made.snapshot) as metadata:
        problems = [item.text async for item in find_damage(metadata, target, CheckTally())]
        named = {Digest(record.digest) async for record in metadata.blob_records()}
    assert problems == []
    return named, rounds


class TestDeleted:
    """What the backup is about to copy is deleted."""

    async def test_a_blob(self, registry: Registry, target: DiskBlobs) -> None:
        """A blob that no manifest refers to is forgotten."""
        await registry.push_image(A)
        loose = image("loose").blobs[1]
        await registry.push.blob(A, Digest.of(loose), Chunk(body(loose)))

        async def change(_: int) -> None:
            await registry.delete.blob(A, Digest.of(loose))

        tally = Tally()
        named, rounds = await back_up(registry, target, change, tally)
        assert named == {*map(Digest.of, IMAGE.blobs)}
        assert (rounds, tally.problems) == (1, [])

    async def test_an_image(self, registry: Registry, target: DiskBlobs) -> None:
        """The snapshot is taken anew, without it, and with what was pushed in between."""
        await registry.push_image(A)
        new = image("new")

        async def change(number: int) -> None:
            if number == 0:
                await purge(registry, IMAGE)
                await registry.push_image(A, new)

        tally = Tally()
        named, rounds = await back_up(registry, target, change, tally)
        assert named == {*map(Digest.of, new.blobs)}
        assert (rounds, tally.problems) == (2, [])

    async def test_again_and_again(self, registry: Registry, target: DiskBlobs) -> None:
        """A backup that cannot keep up says so, and leaves no snapshot."""

        async def change(number: int) -> None:
            await purge(registry, image(number))
            await registry.push_image(A, image(number + 1))

        await registry.push_image(A, image(0))
        with pytest.raises(Unavailable, match="deleted faster than they can be copied"):
            await back_up(registry, target, change)
        assert await target.list_snapshots() == []


async def purge(registry: Registry, content: Content) -> None:
    """Delete an image, and let the collector remove it."""
    await registry.delete.manifest(A, Digest(content.digest))
    registry.clock.now += 3 * HOUR
    await registry.collector.collect()
    registry.clock.now += 3 * HOUR
    await registry.collector.collect()


class TestHold:
    """The collector waits for a backup."""

    async def due(self, registry: Registry) -> set[Digest]:
        """Leave blobs that are due; return what is stored."""
        await registry.push_blobs(A)
        registry.clock.now += 2 * HOUR
        return await registry.stored()

    async def test_while_it_runs(self, registry: Registry) -> None:
        """No bytes are removed until the backup is done."""
        stored = await self.due(registry)
        async with holding(registry.metadata):
            collected = await registry.collector.collect()
            assert (collected.blobs, collected.is_held) == (0, True)
            assert await registry.stored() == stored
        collected = await registry.collector.collect()
        assert (collected.blobs, collected.is_held) == (len(stored), False)
        assert await registry.stored() == set()

    async def test_in_the_middle(self, registry: Registry) -> None:
        """A round that has begun stops before the next blob."""
        stored = await self.due(registry)

        @asynccontextmanager
        async def step() -> AsyncIterator[None]:
            yield
            await registry.metadata.take_lease("backup", "backup", seconds=60)

        assert (await registry.collector_with(step).collect()).blobs == 1
        assert len(await registry.stored()) == len(stored) - 1

    async def test_killed(self, registry: Registry) -> None:
        """A backup that was killed holds the collector up for a minute."""
        stored = await self.due(registry)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(holding(registry.metadata))
            registry.clock.now += MINUTE - 1
            assert (await registry.collector.collect()).is_held
            registry.clock.now += 1
            assert (await registry.collector.collect()).blobs == len(stored)

    async def test_a_clock_that_was_wrong(self, registry: Registry) -> None:
        """A backup of next year does not hold the collector up until then; one of soon does."""
        stored = await self.due(registry)
        for ahead, removed in ((MINUTE, 0), (9000 * HOUR, len(stored))):
            registry.clock.now += ahead
            async with holding(registry.metadata):
                registry.clock.now -= ahead
                assert (await registry.collector.collect()).blobs == removed

    async def test_the_next_one(self, registry: Registry) -> None:
        """The backup after one that was killed takes over at once."""
        await self.due(registry)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(holding(registry.metadata))
            registry.clock.now += MINUTE - 1
            async with holding(registry.metadata):
                registry.clock.now += MINUTE - 1
                assert (await registry.collector.collect()).is_held

    async def test_a_full_disk(self, registry: Registry) -> None:
        """Where no lease can be written, a backup does without."""
        database = registry.database
        assert isinstance(database, SqliteDatabase)
        reading = SqliteDatabase(database.file.parent, clock=registry.clock, read_only=True)
        with closing(reading):
            async with holding(Metadata(reading)):
                assert not await registry.metadata.is_leased("backup", seconds=60)


class TestNames:
    """Snapshots are named by their times."""

    async def test_order(self, registry: Registry, target: DiskBlobs, clock: Clock) -> None:
        """The newest snapshot is the last one, whatever the clock says."""
        for change in (0, 0, -5 * HOUR, 10 * HOUR):
            clock.now += change
            await back_up(registry, target)
        names = await target.list_snapshots()
        times = ("05T04:00:00Z", "05T04:00:01Z", "05T04:00:02Z", "05T09:00:00Z")
        assert names == [f"1970-01-{time}" for time in times]
        created = [await target.read_snapshot(name) for name in names]
        assert [snapshot and snapshot.created // HOUR for snapshot in created] == [
            *(100, 100, 95, 105)
        ]

    async def test_of_others(self, registry: Registry, target: DiskBlobs) -> None:
        """A clock that was far ahead, or a copy that a person made, does not hold a backup up."""
        await back_up(registry, target)
        (name,) = await target.list_snapshots()
        snapshot = await target.read_snapshot(name)
        assert snapshot
        for other in ("2100-01-01T00:00:00Z", "copy"):
            await target.put_snapshot(other, snapshot)
        await back_up(registry, target)
        names = await target.list_snapshots()
        assert names == [name, "2100-01-01T00:00:00Z", "2100-01-01T00:00:01Z", "copy"]
