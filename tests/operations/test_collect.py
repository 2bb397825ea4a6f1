"""The garbage collector, with pushes and pulls beside it and a clock that a test sets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from operations.conftest import HOUR, IMAGE, MINUTE, Registry, body
from portside.operations.collect import PAGE, Collected, Collector, collect_orphaned
from portside.operations.describe import describe_manifests
from portside.operations.grace import GracePeriod
from portside.operations.push import Chunk
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    ManifestBlobUnknown,
    Unavailable,
)
from portside.spec.names import RepositoryName, Tag
from portside.spec.schema1 import EMPTY_LAYER, EMPTY_LAYER_DIGEST
from stores.conftest import Clock
from support.content import OCI_LAYER, descriptor, image

A, B = RepositoryName("a"), RepositoryName("b")
BLOBS = [Digest.of(blob) for blob in IMAGE.blobs]
SIZE = sum(map(len, IMAGE.blobs))


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


async def test_each_removal_is_a_step(registry: Registry, clock: Clock) -> None:
    """Requests that are answered between two removals need not wait for all of them."""
    await registry.push_image(A)
    await registry.delete.manifest(A, Digest(IMAGE.digest))
    await registry.push_blobs(B)
    clock.now += 2 * HOUR
    links: list[int] = []

    @asynccontextmanager
    async def step() -> AsyncIterator[None]:
        yield
        links.append(len(await registry.metadata.list_unreferenced(clock.now, limit=9)))

    await registry.collector_with(step).collect()
    assert links == [6, 5, 4, 3, 3]


async def test_the_empty_layer(registry: Registry, clock: Clock) -> None:
    """A push that needs it has it for the grace period, although no client asks for it."""
    await registry.push.blob(A, EMPTY_LAYER_DIGEST, Chunk(body(EMPTY_LAYER)))
    clock.now += 2 * HOUR
    document = json.loads(IMAGE.manifest)
    document["layers"].append(descriptor(EMPTY_LAYER, OCI_LAYER))
    payload = json.dumps(document).encode()
    with pytest.raises(ManifestBlobUnknown):
        await registry.push.manifest(A, Tag("v1"), payload, content_type=None)
    await registry.collector.collect()
    assert (await registry.metadata.get_blob(A, EMPTY_LAYER_DIGEST)).unreferenced == clock.now


async def test_a_repeated_finish_of_what_is_removed(registry: Registry, clock: Clock) -> None:
    """A client whose blob is removed while it repeats its request pushes the blob again."""
    session = await registry.push.open_upload(A, Algorithm.SHA256)
    digest = Digest.of(b"content")
    await registry.push.finish(A, session.id, digest, Chunk(body(b"content")))
    await registry.push.finish(A, session.id, digest, Chunk(body(b"content")))

    async def slow() -> AsyncIterator[bytes]:
        clock.now += 2 * HOUR
        await registry.collector.collect()
        yield b"content"

    with pytest.raises(BlobUploadUnknown):
        await registry.push.finish(A, session.id, digest, Chunk(slow()))


async def test_what_an_older_version_received(registry: Registry, clock: Clock) -> None:
    """Nothing goes before it is known what each manifest names."""
    await registry.push.blob(A, Digest.of(b"named"), Chunk(body(b"named")))
    named = str(Digest.of(b"named"))
    await registry.push_image(A, image("naming", annotations={"com.example.of": named}))
    await registry.database.execute("DELETE FROM manifest_references WHERE weak")
    await registry.database.execute("UPDATE manifests SET image_size = NULL")
    await registry.database.execute("UPDATE repository_blobs SET unreferenced = 1 WHERE TRUE")
    clock.now += 2 * HOUR
    with pytest.raises(Unavailable, match="run `portside migrate` first"):
        await registry.collector.collect()
    assert [done async for done in describe_manifests(registry.metadata, registry.blobs)] == [1]
    assert await registry.collector.collect() == Collected()
    assert Digest(named) in await registry.stored()


class TestGracePeriod:
    """What is stored, and what is told."""

    def test_a_clock_that_was_set_back(self, clock: Clock) -> None:
        """A time in the future is renewed: it would keep the blob for too long."""
        grace = GracePeriod(HOUR, clock)
        assert not grace.has_begun(clock.now)
        assert grace.has_begun(clock.now + 1)
        assert grace.has_begun(clock.now - MINUTE)

    @pytest.mark.parametrize(("length", "told", "kept"), [(HOUR, 0, MINUTE), (100, 0, 10)])
    def test_by_default(self, clock: Clock, length: int, told: int, kept: int) -> None:
        """Times are stored as coarsely as the grace period is long."""
        assert GracePeriod(length, clock, told).expired == clock.now - length - kept

    def test_of_a_command(self, clock: Clock) -> None:
        """A shorter one knows how coarsely the registry stores times."""
        assert GracePeriod(100, clock, HOUR).expired == clock.now - 100 - MINUTE


async def test_requests_have_their_turn_beside_a_long_history(registry: Registry) -> None:
    """A walk through many changes waits for nobody, but lets others run between pages."""
    await registry.push_blobs(A)
    tags = [Tag(f"t{number}") for number in range(3 * PAGE)]
    await registry.push.manifest(
        A, Digest(IMAGE.digest), IMAGE.manifest, content_type=None, extra_tags=tags
    )
    collector = Collector(
        registry.metadata,
        registry.blobs,
        grace=GracePeriod(HOUR, registry.clock),
        keep_deleted=0,
        tag_history=0,
    )
    turns = 0
    done = asyncio.create_task(collector.collect())
    while not done.done():
        await asyncio.sleep(0)
        turns += 1
    await done
    assert turns > 3
