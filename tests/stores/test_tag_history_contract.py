"""Every metadata store remembers what its tags pointed to, and points them back."""

from __future__ import annotations

import pytest

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobUnknown,
    ManifestUnknown,
    OperationDisallowed,
    PreconditionFailed,
    TagImmutable,
)
from portside.spec.locks import Lock, LockChange
from portside.spec.names import RepositoryName, Tag
from portside.spec.patterns import TagPattern
from portside.stores.actors import Actor
from portside.stores.interfaces import MetadataStore
from portside.stores.metadata.store import Metadata
from portside.stores.tag_history import RestoredTag, TagChange, TrimPosition
from stores.conftest import Clock
from stores.test_collection_contract import LATER, link, purge, push
from support.content import artifact, image, index

A, B = RepositoryName("a"), RepositoryName("b")
TAG = Tag("v1")
FIRST, SECOND = artifact("first"), artifact("second")
ONE, TWO = Digest(FIRST.digest), Digest(SECOND.digest)
IMAGE = image("layers")
INDEX = index(IMAGE)


@pytest.fixture(autouse=True)
async def _blobs(metadata: MetadataStore) -> None:
    for content in (FIRST, SECOND, IMAGE):
        for blob in content.blobs:
            await link(metadata, A, blob)


async def history(metadata: MetadataStore, tag: str = "v1") -> list[TagChange]:
    """Return every change of a tag, newest first."""
    return (await metadata.list_tag_changes(A, Tag(tag), limit=100)).items


async def told(metadata: MetadataStore, tag: str = "v1") -> list[tuple[int, str, str, str]]:
    """Return what was recorded of a tag, newest first."""
    return [(*change[:3], change.identity) for change in await history(metadata, tag)]


async def trim(metadata: MetadataStore, until: int, *, limit: int = 100) -> int:
    """Trim the history page by page; return the number of pages."""
    pages = 0
    last: TrimPosition | None = None
    while (found := await metadata.trim_tag_history(until, last, limit=limit)) is not None:
        last = found
        pages += 1
    return pages


async def tagged(metadata: MetadataStore, tag: str = "v1") -> str:
    """Return what a tag points to."""
    return (await metadata.get_tag(A, Tag(tag))).digest


class TestList:
    """The changes of a tag."""

    async def test_every_change(self, metadata: MetadataStore, clock: Clock) -> None:
        """Newest first, with who made it; a push of what the tag points to is none."""
        start = clock.now
        await push(metadata, FIRST, "v1", by="ann")
        clock.now += 1
        await push(metadata, FIRST, "v1", by="ben")
        clock.now += 1
        await push(metadata, SECOND, "v1", "other", by="ben")
        clock.now += 1
        await metadata.delete_tag(A, TAG, by=Actor("eve"))
        assert await told(metadata) == [
            (start + 3, "deleted", TWO, "eve"),
            (start + 2, "set", TWO, "ben"),
            (start, "set", ONE, "ann"),
        ]
        assert await told(metadata, "other") == [(start + 2, "set", TWO, "ben")]
        assert await told(metadata, "unknown") == []
        assert (await metadata.list_tag_changes(B, TAG, limit=9)).items == []

    async def test_pages(self, metadata: MetadataStore, clock: Clock) -> None:
        """A page begins before a time, and says whether older changes follow."""
        start = clock.now
        for number in range(5):
            clock.now = start + number
            await push(metadata, (FIRST, SECOND)[number % 2], "v1")
        found, before = [], None
        while True:
            page = await metadata.list_tag_changes(A, TAG, before=before, limit=2)
            found += [change.time - start for change in page.items]
            if not page.more:
                break
            before = page.items[-1].time
        assert found == [4, 3, 2, 1, 0]
        assert (await metadata.list_tag_changes(A, TAG, before=start, limit=2)).items == []
        assert not (await metadata.list_tag_changes(A, TAG, limit=5)).more
        assert await metadata.list_tag_changes(A, TAG, limit=0) == ([], False)
        far = await metadata.list_tag_changes(A, TAG, before=10**30, limit=1)
        assert [change.time - start for change in far.items] == [4]

    async def test_manifests(self, metadata: MetadataStore, clock: Clock) -> None:
        """Each change says whether its manifest is stored, in the trash or gone."""
        await push(metadata, FIRST, "v1")
        clock.now += 1
        await push(metadata, SECOND, "v1")
        assert [change[4:] for change in await history(metadata)] == [(True, None)] * 2
        clock.now += 1
        await metadata.delete_manifest(A, ONE)
        assert [change[4:] for change in await history(metadata)] == [
            (True, None),
            (True, clock.now),
        ]
        await purge(metadata)
        assert [change[4:] for change in await history(metadata)] == [(True, None), (False, None)]

    async def test_with_the_manifest(self, metadata: MetadataStore, clock: Clock) -> None:
        """Tags that go or come back with their manifests, or with all of them, are recorded."""
        start = clock.now
        await push(metadata, FIRST, "v1")
        clock.now += 1
        await metadata.delete_manifest(A, ONE, by=Actor("eve"))
        clock.now += 1
        await metadata.restore_manifest(A, ONE, by=Actor("ann"))
        clock.now += 1
        await metadata.delete_repository(A, by=Actor("eve"))
        clock.now += 1
        await metadata.restore_repository(A, by=Actor("ann"))
        assert [(time - start, *rest) for time, *rest in await told(metadata)] == [
            (4, "restored", ONE, "ann"),
            (3, "deleted", ONE, "eve"),
            (2, "restored", ONE, "ann"),
            (1, "deleted", ONE, "eve"),
            (0, "set", ONE, ""),
        ]

    async def test_clocks_that_differ(self, metadata: MetadataStore, clock: Clock) -> None:
        """The last change is the newest, even if the node that made it has a clock behind."""
        ahead = clock.now + 1000
        clock.now = ahead
        await push(metadata, FIRST, "v1")
        clock.now = ahead - 1000
        await push(metadata, SECOND, "v1")
        await metadata.delete_manifest(A, TWO)
        assert [change[:2] for change in await told(metadata)] == [
            (ahead + 2, "deleted"),
            (ahead + 1, "set"),
            (ahead, "set"),
        ]
        # And its tag comes back with the manifest.
        assert (await metadata.restore_manifest(A, TWO)).tags == ["v1"]
        assert (await told(metadata))[0][:2] == (ahead + 3, "restored")


class TestRestore:
    """A tag is pointed back."""

    async def test_to_what_is_there(self, metadata: MetadataStore, clock: Clock) -> None:
        """It points to the manifest; that is a change like others."""
        await push(metadata, FIRST, "v1")
        clock.now += 1
        await push(metadata, SECOND, "v1")
        clock.now += 1
        assert await metadata.restore_tag(A, TAG, ONE, by=Actor("ann")) == RestoredTag(TWO, [])
        assert await tagged(metadata) == ONE
        assert (await metadata.get_tag(A, TAG)).updated == clock.now
        assert (await told(metadata))[0] == (clock.now, "restored", ONE, "ann")
        assert (await metadata.get_repository(A)).tag_count == 1

    async def test_what_it_points_to(self, metadata: MetadataStore, clock: Clock) -> None:
        """Nothing changes."""
        await push(metadata, FIRST, "v1")
        before = await metadata.get_tag(A, TAG), await told(metadata)
        clock.now += 1
        assert await metadata.restore_tag(A, TAG, ONE, by=Actor("ann")) == RestoredTag(ONE, [])
        assert (await metadata.get_tag(A, TAG), await told(metadata)) == before

    async def test_a_tag_that_was_deleted(self, metadata: MetadataStore, clock: Clock) -> None:
        """It exists again, and is counted."""
        await push(metadata, FIRST, "v1")
        await metadata.delete_tag(A, TAG)
        clock.now += 1
        assert await metadata.restore_tag(A, TAG, ONE) == RestoredTag(None, [])
        assert await tagged(metadata) == ONE
        assert (await metadata.get_repository(A)).tag_count == 1

    async def test_out_of_the_trash(self, metadata: MetadataStore, clock: Clock) -> None:
        """The manifest comes back with what it lists, and with no other tag than this one."""
        for blob in IMAGE.blobs:
            await link(metadata, A, blob)
        await push(metadata, IMAGE)
        await push(metadata, INDEX, "v1", "other")
        clock.now += 1
        await metadata.delete_repository(A)
        clock.now += 1
        done = await metadata.restore_tag(A, TAG, Digest(INDEX.digest), by=Actor("ann"))
        assert (done.before, sorted(done.manifests)) == (
            None,
            sorted([INDEX.digest, IMAGE.digest]),
        )
        assert await tagged(metadata) == INDEX.digest
        await metadata.get_manifest(A, Digest(IMAGE.digest))
        for blob in IMAGE.blobs:
            await metadata.get_blob(A, Digest.of(blob))
        with pytest.raises(BlobUnknown):
            await metadata.get_blob(A, Digest.of(FIRST.blobs[0]))
        assert await told(metadata, "other") == [
            (clock.now - 1, "deleted", INDEX.digest, ""),
            (clock.now - 2, "set", INDEX.digest, ""),
        ]
        found = await metadata.get_repository(A)
        assert (found.manifest_count, found.tag_count) == (2, 1)

    async def test_what_can_no_longer_be_restored(
        self, metadata: MetadataStore, clock: Clock
    ) -> None:
        """Neither what was deleted too long ago, nor what is purged, nor what never was there."""
        await push(metadata, FIRST, "v1")
        await push(metadata, SECOND, "v1")
        await metadata.delete_manifest(A, ONE)
        for repository, digest, since in (
            (A, ONE, clock.now),
            (A, Digest.of(b"never"), 0),
            (B, TWO, 0),
        ):
            with pytest.raises(ManifestUnknown):
                await metadata.restore_tag(repository, TAG, digest, since=since)
        await purge(metadata)
        with pytest.raises(ManifestUnknown):
            await metadata.restore_tag(A, TAG, ONE)
        assert await tagged(metadata) == TWO

    @pytest.mark.parametrize("place", ["tag", "repository"])
    async def test_locks(self, metadata: MetadataStore, place: str) -> None:
        """What is locked stays where it is, and nothing leaves the trash."""
        await push(metadata, FIRST, "v1")
        await push(metadata, SECOND, "v1")
        await metadata.delete_manifest(A, ONE)
        lock = LockChange(Lock.WRITE, Lock(0))
        if place == "tag":
            await metadata.change_tag(A, TAG, lock)
        else:
            await metadata.change_repository(A, lock)
        with pytest.raises(OperationDisallowed, match=place):
            await metadata.restore_tag(A, TAG, ONE)
        assert await tagged(metadata) == TWO
        with pytest.raises(ManifestUnknown):
            await metadata.get_manifest(A, ONE)

    async def test_condition(self, metadata: MetadataStore) -> None:
        """A tag that somebody else has moved since is not touched."""
        await push(metadata, FIRST, "v1")
        await push(metadata, SECOND, "v1")
        with pytest.raises(PreconditionFailed):
            await metadata.restore_tag(A, TAG, ONE, TagCondition(match=(ONE,)))
        assert await tagged(metadata) == TWO
        await metadata.restore_tag(A, TAG, ONE, TagCondition(match=(TWO,)))
        assert await tagged(metadata) == ONE

    async def test_immutable(self, metadata: MetadataStore) -> None:
        """An immutable tag does not move, but one that was deleted comes back."""
        immutable = TagCondition(immutable=(TagPattern.parse("v*"),))
        await push(metadata, FIRST, "v1")
        await push(metadata, SECOND, "v1")
        with pytest.raises(TagImmutable):
            await metadata.restore_tag(A, TAG, ONE, immutable)
        assert await metadata.restore_tag(A, TAG, TWO, immutable) == RestoredTag(TWO, [])
        await metadata.delete_tag(A, TAG)
        await metadata.restore_tag(A, TAG, ONE, immutable)
        assert await tagged(metadata) == ONE


class TestTrim:
    """What is older than the limit goes, but for what says where a tag pointed within it."""

    async def test_changes_before_the_last_one(self, metadata: MetadataStore, clock: Clock) -> None:
        """Of the changes up to the limit, the last one of each tag stays."""
        start = clock.now
        for number in range(4):
            clock.now = start + number
            await push(metadata, (FIRST, SECOND)[number % 2], "v1")
        await push(metadata, FIRST, "other")
        for until, left in ((start - 1, 4), (start, 4), (start + 1, 3), (start + 2, 2), (LATER, 1)):
            await trim(metadata, until)
            assert [change[0] - start for change in await told(metadata)] == [3, 2, 1, 0][:left]
        assert len(await told(metadata, "other")) == 1

    async def test_the_end_of_a_tag(self, metadata: MetadataStore, clock: Clock) -> None:
        """Nothing is left of a tag that was deleted before the limit."""
        await push(metadata, FIRST, "v1")
        clock.now += 1
        await metadata.delete_tag(A, TAG)
        await trim(metadata, clock.now - 1)
        assert [change[1] for change in await told(metadata)] == ["deleted", "set"]
        await trim(metadata, clock.now)
        assert await told(metadata) == []

    async def test_a_tag_that_came_back(self, metadata: MetadataStore, clock: Clock) -> None:
        """That it did not exist for a while is known until it is older than the limit."""
        start = clock.now
        await push(metadata, FIRST, "v1")
        clock.now = start + 1
        await metadata.delete_tag(A, TAG)
        clock.now = start + 2
        await push(metadata, SECOND, "v1")
        await trim(metadata, start + 1)
        assert [change[1] for change in await told(metadata)] == ["set", "deleted"]
        await trim(metadata, start + 2)
        assert [change[:3] for change in await told(metadata)] == [(start + 2, "set", TWO)]

    async def test_any_time_within_the_limit(self, metadata: MetadataStore, clock: Clock) -> None:
        """Whatever is forgotten, what is said of any later time stays the same."""
        start = clock.now
        steps = ["s1", "s2", "d", "s2", "d", "s1", "d"]
        for number, step in enumerate(steps):
            clock.now = start + 2 * number
            if step == "d":
                await metadata.delete_tag(A, TAG)
            else:
                await push(metadata, (FIRST, SECOND)[step == "s2"], "v1")

        async def at(time: int) -> Digest | None:
            page = await metadata.list_tag_changes(A, TAG, before=time + 1, limit=1)
            is_there = page.items and page.items[0].action != "deleted"
            return page.items[0].digest if is_there else None

        times = range(start - 1, start + 2 * len(steps))
        truth = {time: await at(time) for time in times}
        assert set(truth.values()) == {None, ONE, TWO}
        for until in times:
            await trim(metadata, until)
            later = [time for time in times if time > until]
            assert {time: await at(time) for time in later} == {time: truth[time] for time in later}
        assert await told(metadata) == []

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    async def test_pages(self, metadata: MetadataStore, clock: Clock, limit: int) -> None:
        """The same is forgotten in pages of any size, though many changes have one time."""
        tags = [f"t{number}" for number in range(5)]
        await push(metadata, FIRST, *tags)
        clock.now += 1
        await push(metadata, SECOND, *tags)
        clock.now += 1
        await metadata.delete_manifest(A, TWO)
        clock.now += 1
        await push(metadata, FIRST, "t0")
        pages = await trim(metadata, clock.now - 2, limit=limit)
        assert pages == -(-10 // limit)
        for tag in tags:
            kept = [change[1] for change in await told(metadata, tag)]
            assert kept[-2:] == ["deleted", "set"]
        await trim(metadata, LATER, limit=limit)
        assert [await told(metadata, tag) for tag in tags[1:]] == [[]] * 4
        assert [change[1] for change in await told(metadata, "t0")] == ["set"]

    async def test_from_a_position(self, metadata: Metadata, clock: Clock) -> None:
        """What is old enough by now is found without looking at what was looked at before."""
        await push(metadata, FIRST, "v1", "other")
        last = await metadata.trim_tag_history(clock.now, limit=9)
        assert last is not None
        assert last.time == clock.now
        assert await metadata.trim_tag_history(clock.now, last, limit=9) is None
        # Where nothing can be forgotten, nothing is written.
        await metadata.set_read_only(read_only=True)
        assert await trim(metadata, clock.now) == 1
        await metadata.set_read_only(read_only=False)
        clock.now += 1
        await push(metadata, SECOND, "v1")
        again = await metadata.trim_tag_history(clock.now, last, limit=9)
        assert again is not None
        assert (again.time, again.name) == (clock.now, "v1")
        assert [change[:2] for change in await told(metadata)] == [(clock.now, "set")]
        assert len(await told(metadata, "other")) == 1
