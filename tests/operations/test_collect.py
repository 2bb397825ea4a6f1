"""The garbage collector, with pushes and pulls beside it and a clock that a test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portside.operations.collect import Collected, Collector, collect_orphaned
from portside.operations.delete import Delete
from portside.operations.grace import GracePeriod
from portside.operations.mount import Mount
from portside.operations.pull import Pull
from portside.operations.push import Chunk, Push
from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown
from portside.spec.names import RepositoryName, Tag
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Metadata
from stores.conftest import Clock
from support.content import Content, image

A, B = RepositoryName("a"), RepositoryName("b")
MINUTE = 60_000_000
HOUR = 60 * MINUTE
IMAGE = image("collected")
BLOBS = [Digest.of(blob) for blob in IMAGE.blobs]
SIZE = sum(map(len, IMAGE.blobs))


class Registry:
    """A registry that keeps unreferenced blobs for an hour, and deleted content for two."""

    def __init__(self, database: SqliteDatabase, blobs: DiskBlobs, clock: Clock) -> None:
        metadata = Metadata(database)
        grace = GracePeriod(HOUR, clock)
        self.metadata, self.blobs = metadata, blobs
        self.push = Push(
            metadata,
            blobs,
            max_blob_bytes=0,
            max_open_uploads=0,
            sparse_indexes=False,
            clock=clock,
        )
        self.pull = Pull(metadata, blobs, None, grace=grace)
        self.mount = Mount(metadata, blobs)
        self.delete = Delete(metadata, blobs, allowed=True)
        self.collector = Collector(
            metadata, blobs, grace=grace, keep_deleted=2 * HOUR, tag_history=5 * HOUR
        )

    async def push_blobs(self, repository: RepositoryName, content: Content = IMAGE) -> None:
        """Push the blobs of an image."""
        for blob in content.blobs:
            await self.push.blob(repository, Digest.of(blob), Chunk(body(blob)))

    async def push_image(self, repository: RepositoryName, content: Content = IMAGE) -> None:
        """Push an image whole."""
        await self.push_blobs(repository, content)
        await self.push.manifest(repository, Tag("v1"), content.manifest, content_type=None)

    async def stored(self) -> set[Digest]:
        """Return the blobs that take up space."""
        return {digest async for digest, _ in self.blobs.stored_blobs()}


async def body(content: bytes) -> AsyncIterator[bytes]:
    """Send a body in one piece."""
    yield content


@pytest.fixture
def clock() -> Clock:
    """Make a clock that does not move."""
    made = Clock()
    made.now = 100 * HOUR
    return made


@pytest.fixture
async def registry(tmp_path: Path, clock: Clock) -> AsyncIterator[Registry]:
    """Open an empty registry."""
    database = SqliteDatabase(tmp_path, clock=clock)
    await database.migrate()
    blobs = DiskBlobs(tmp_path, hold_timeout=1)
    blobs.create()
    yield Registry(database, blobs, clock)
    database.close()
    blobs.close()


async def test_blobs_without_a_manifest(registry: Registry, clock: Clock) -> None:
    """They have the grace period, and a little more, as times are stored coarsely."""
    await registry.push_blobs(A)
    clock.now += HOUR
    assert await registry.collector.collect() == Collected()
    clock.now += MINUTE
    assert await registry.collector.collect() == Collected(links=3, blobs=3, bytes=SIZE)
    assert await registry.stored() == set()
    assert await registry.collector.collect() == Collected()


async def test_an_image_stays(registry: Registry, clock: Clock) -> None:
    """Nothing that a manifest refers to goes, however old it is."""
    await registry.push_image(A)
    clock.now += 1000 * HOUR
    assert await registry.collector.collect() == Collected()
    await registry.push.manifest(A, Tag("v2"), IMAGE.manifest, content_type=None)
    assert await registry.stored() == set(BLOBS)


async def test_a_deleted_image(registry: Registry, clock: Clock) -> None:
    """It is kept to be restored; then its manifest is purged, and its blobs have their grace."""
    await registry.push_image(A)
    await registry.push_blobs(B)
    await registry.delete.manifest(A, Digest(IMAGE.digest))
    clock.now += 2 * HOUR - 1
    assert (await registry.collector.collect()).manifests == 0
    clock.now += 1
    assert (await registry.collector.collect()).manifests == 1
    clock.now += HOUR
    assert await registry.collector.collect() == Collected()
    clock.now += MINUTE
    assert await registry.collector.collect() == Collected(links=3, blobs=3, bytes=SIZE)


async def test_shared_blobs(registry: Registry, clock: Clock) -> None:
    """Bytes stay for as long as one repository has them."""
    await registry.push_image(A)
    await registry.push_blobs(B)
    clock.now += 2 * HOUR
    assert await registry.collector.collect() == Collected(links=3)
    with pytest.raises(BlobUnknown):
        await registry.pull.stat_blob(B, BLOBS[0])
    assert await registry.pull.stat_blob(A, BLOBS[0]) == len(IMAGE.blobs[0])


@pytest.mark.parametrize("told", ["HEAD", "mount", "push"])
async def test_who_is_told_of_a_blob_has_the_grace_period(
    registry: Registry, clock: Clock, told: str
) -> None:
    """From the last time on that any client was told that the blob exists."""
    await registry.push_blobs(A)
    await registry.push_blobs(B)
    for _ in range(5):
        clock.now += HOUR - 1
        if told == "HEAD":
            for blob in BLOBS:
                await registry.pull.stat_blob(A, blob)
        elif told == "mount":
            for blob in BLOBS:
                assert await registry.mount.blob(A, blob, A)
        else:
            await registry.push_blobs(A)
        await registry.collector.collect()
    clock.now += HOUR - 1
    await registry.collector.collect()
    await registry.push.manifest(A, Tag("v1"), IMAGE.manifest, content_type=None)
    with pytest.raises(BlobUnknown):
        await registry.pull.stat_blob(B, BLOBS[0])


async def test_a_client_that_asks_often_causes_few_writes(registry: Registry, clock: Clock) -> None:
    """The time of a link is renewed when it is a minute old, and never that of an image's."""
    await registry.push_blobs(A)
    pushed = clock.now
    for seconds, stored in ((59, pushed), (60, pushed + MINUTE), (119, pushed + MINUTE)):
        clock.now = pushed + seconds * 1_000_000
        await registry.pull.stat_blob(A, BLOBS[0])
        assert (await registry.metadata.get_blob(A, BLOBS[0])).unreferenced == stored
    await registry.push.manifest(A, Tag("v1"), IMAGE.manifest, content_type=None)
    clock.now += HOUR
    await registry.pull.stat_blob(A, BLOBS[0])
    assert (await registry.metadata.get_blob(A, BLOBS[0])).unreferenced is None


async def test_a_read_only_registry_still_sends_them(registry: Registry, clock: Clock) -> None:
    """Nothing is collected from it, so that nothing has to be written."""
    await registry.push_blobs(A)
    clock.now += HOUR
    await registry.metadata.set_read_only(read_only=True)
    assert await registry.pull.stat_blob(A, BLOBS[0]) == len(IMAGE.blobs[0])


async def test_orphaned_bytes(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes without a row go, page by page, and nothing else does."""
    monkeypatch.setattr("portside.operations.collect.PAGE", 2)
    await registry.push_image(A)
    kept = await registry.stored()
    for content in (image("lost"), image("orphaned")):
        await registry.push_blobs(B, content)
    await registry.metadata._database.execute(  # noqa: SLF001  # what a crash leaves
        "DELETE FROM repository_blobs WHERE repository <> 1"
    )
    await registry.metadata._database.execute(  # noqa: SLF001  # likewise
        "DELETE FROM blobs WHERE digest NOT IN (SELECT digest FROM repository_blobs)"
    )
    assert len(await registry.stored()) == 9
    collected = await collect_orphaned(registry.metadata, registry.blobs, 0)
    assert (collected.bytes, collected.kept) == (
        sum(map(len, [*image("lost").blobs, *image("orphaned").blobs])),
        0,
    )
    assert await registry.stored() == kept


async def test_a_deleted_repository(registry: Registry, clock: Clock) -> None:
    """Its blobs go with its manifests: nobody can have been told of them since."""
    await registry.push_image(A)
    await registry.delete.repository(A)
    clock.now += 2 * HOUR
    assert await registry.collector.collect() == Collected(1, 3, 3, SIZE)
    assert await registry.stored() == set()


async def test_the_history_of_tags(registry: Registry, clock: Clock) -> None:
    """Changes that nothing within the limit depends on are forgotten, and none before."""
    other = image("other")
    await registry.push_blobs(A, other)
    start = clock.now
    await registry.push_image(A)
    clock.now = start + HOUR
    await registry.push.manifest(A, Tag("v1"), other.manifest, content_type=None)
    for hours, left in ((5.9, [1, 0]), (6, [1]), (1000, [1])):
        clock.now = start + int(hours * HOUR)
        await registry.collector.collect()
        found = await registry.metadata.list_tag_changes(A, Tag("v1"), limit=9)
        assert [(change.time - start) // HOUR for change in found.items] == left


async def test_tags_that_can_be_restored_are_not_forgotten(
    registry: Registry, clock: Clock
) -> None:
    """With less history than deleted content is kept, the tags of that content are known."""
    grace = GracePeriod(HOUR, clock)
    stores = registry.metadata, registry.blobs
    collector = Collector(*stores, grace=grace, keep_deleted=2 * HOUR, tag_history=0)
    await registry.push_image(A)
    await registry.delete.manifest(A, Digest(IMAGE.digest))
    clock.now += 2 * HOUR - 1
    await collector.collect()
    restored = await registry.metadata.restore_manifest(A, Digest(IMAGE.digest))
    assert restored.tags == ["v1"]
    await registry.delete.manifest(A, Digest(IMAGE.digest))
    clock.now += 2 * HOUR
    await collector.collect()
    assert (await registry.metadata.list_tag_changes(A, Tag("v1"), limit=9)).items == []
