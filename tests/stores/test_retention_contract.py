"""Every metadata store reads what retention decides about, and deletes what has not changed."""

from __future__ import annotations

import asyncio

import pytest

from portside.spec.conditions import TagCondition, keeping
from portside.spec.digests import Digest
from portside.spec.errors import TagImmutable
from portside.spec.locks import Lock, LockChange
from portside.spec.names import RepositoryName, Tag
from portside.spec.patterns import TagPattern
from portside.spec.retention import Removal, RetainedContent, RetainedManifest, RetainedTag
from portside.stores.actors import Actor
from portside.stores.interfaces import LastPull, MetadataStore
from portside.stores.properties import Deleted
from stores.conftest import CheckableStore, Clock
from stores.test_metadata_contract import add_blob, parsed
from support.content import Content, artifact, image, index

A, B = RepositoryName("a"), RepositoryName("b")
FIRST, SECOND, THIRD = image("first"), image("second"), image("third")
LATER = 10**15
V1 = TagCondition(immutable=(TagPattern("v*"),))


async def add(
    metadata: MetadataStore, repository: RepositoryName, content: Content, *tags: str
) -> None:
    """Push a manifest with its blobs."""
    for blob in content.blobs:
        await add_blob(metadata, repository, Digest.of(blob))
    await metadata.put_manifest(
        repository,
        parsed(content),
        tags=[Tag(tag) for tag in tags],
        condition=None,
        check_children=True,
    )


def size_of(content: Content) -> int:
    """Return the bytes of a manifest as it was pushed, with its blobs, which have 4 each here."""
    return len(content.manifest) + 4 * len({*content.blobs})


async def read(
    metadata: MetadataStore,
) -> tuple[dict[str, RetainedTag], dict[str, RetainedManifest]]:
    """Read a repository, by names and digests."""
    found = await metadata.read_retained(A)
    return (
        {tag.name: tag for tag in found.tags},
        {manifest.digest: manifest for manifest in found.manifests},
    )


async def remove(
    metadata: MetadataStore,
    content: RetainedContent,
    *names: str,
    subjects: dict[str, str] | None = None,
) -> Deleted:
    """Delete tags and manifests of what was read, by names and digests."""
    removal = Removal(
        [tag for tag in content.tags if tag.name in names],
        [manifest for manifest in content.manifests if manifest.digest in names],
        subjects or {},
        {},
    )
    return await metadata.remove_retained(A, removal, by=Actor("retention"))


class TestReading:
    """What is known of a repository."""

    async def test_unknown(self, metadata: MetadataStore) -> None:
        """A repository that does not exist has nothing."""
        assert await metadata.read_retained(A) == RetainedContent((), ())

    async def test_times(self, metadata: MetadataStore, clock: Clock) -> None:
        """When it was pushed, lost a tag and was pulled is known of each manifest."""
        await add(metadata, A, FIRST, "1")
        await add(metadata, B, SECOND, "1")
        start = clock.now
        tags, manifests = await read(metadata)
        assert tags == {"1": RetainedTag("1", FIRST.digest, start)}
        assert manifests == {FIRST.digest: RetainedManifest(FIRST.digest, start)}
        clock.now += 5
        await add(metadata, A, SECOND, "1")
        clock.now += 5
        await metadata.note_pulls([LastPull(A, Digest(FIRST.digest), start + 7)])
        tags, manifests = await read(metadata)
        assert tags == {"1": RetainedTag("1", SECOND.digest, start + 5)}
        assert manifests[FIRST.digest] == RetainedManifest(
            FIRST.digest, start, untagged=start + 5, pulled=start + 7
        )
        assert manifests[SECOND.digest].untagged is None
        await metadata.delete_tag(A, Tag("1"))
        _, manifests = await read(metadata)
        assert manifests[SECOND.digest].untagged == start + 10
        assert manifests[FIRST.digest].untagged == start + 5

    async def test_same_tag_again(self, metadata: MetadataStore, clock: Clock) -> None:
        """A push of the same manifest under the same tag is a push, and no tag is lost."""
        await add(metadata, A, FIRST, "1")
        clock.now += 5
        await add(metadata, A, FIRST, "1")
        tags, manifests = await read(metadata)
        assert tags["1"].pushed == manifests[FIRST.digest].pushed == clock.now
        assert manifests[FIRST.digest].untagged is None

    async def test_references(self, metadata: MetadataStore) -> None:
        """Children, subjects and what an annotation names are read; what is deleted is not."""
        await add(metadata, A, FIRST)
        await add(metadata, A, SECOND)
        both = index(FIRST, annotations={"also": SECOND.digest})
        await add(metadata, A, both)
        signature = artifact("signature", subject=FIRST.descriptor)
        await add(metadata, A, signature)
        _, manifests = await read(metadata)
        assert set(manifests[both.digest].children) == {FIRST.digest, SECOND.digest}
        assert manifests[signature.digest].subject == FIRST.digest
        await metadata.delete_manifest(A, Digest(both.digest))
        _, manifests = await read(metadata)
        assert both.digest not in manifests

    async def test_locks(self, metadata: MetadataStore) -> None:
        """All locks are known."""
        await add(metadata, A, FIRST, "1")
        await metadata.change_tag(A, Tag("1"), LockChange(lock=Lock.DELETE))
        await metadata.change_manifest(A, Digest(FIRST.digest), LockChange(lock=Lock.WRITE))
        await metadata.change_repository(A, LockChange(lock=Lock.LIST))
        found = await metadata.read_retained(A)
        assert [found.tags[0].locks, found.manifests[0].locks, found.locks] == [
            Lock.DELETE,
            Lock.WRITE,
            Lock.LIST,
        ]

    async def test_size(self, metadata: MetadataStore) -> None:
        """What would be free are the manifests, and the blobs that nothing else needs."""
        shared = image("shared", layers=0)
        also = Content(SECOND.manifest, SECOND.media_type, SECOND.blobs)
        for content in (FIRST, also, shared):
            await add(metadata, A, content)
        assert await metadata.unshared_size(A, [FIRST.digest]) == size_of(FIRST)
        assert await metadata.unshared_size(A, [FIRST.digest, SECOND.digest]) == size_of(
            FIRST
        ) + size_of(SECOND)
        await add(metadata, B, FIRST)
        assert await metadata.unshared_size(A, [FIRST.digest]) == len(FIRST.manifest)
        assert await metadata.unshared_size(A, []) == 0
        assert await metadata.unshared_size(RepositoryName("none"), [FIRST.digest]) == 0

    async def test_size_of_shared_blobs(self, metadata: MetadataStore) -> None:
        """A blob that two manifests need is free only with both."""
        one, two = artifact("same", note="1"), artifact("same", note="2")
        for content in (one, two):
            await add(metadata, A, content)
        assert await metadata.unshared_size(A, [one.digest]) == len(one.manifest)
        both = await metadata.unshared_size(A, [one.digest, two.digest])
        assert both == len(one.manifest) + len(two.manifest) + 4 * len(one.blobs)


class TestRemoving:
    """What is deleted, and what has changed since it was read."""

    async def test_all(self, metadata: MetadataStore, clock: Clock) -> None:
        """Tags and manifests go to the trash; who deleted them is recorded."""
        await add(metadata, A, FIRST, "1", "2")
        found = await metadata.read_retained(A)
        clock.now += 1
        deleted = await remove(metadata, found, "1", "2", FIRST.digest)
        assert deleted == Deleted([FIRST.digest], ["1", "2"])
        assert await read(metadata) == ({}, {})
        (trash,) = await metadata.list_expired_manifests(LATER, limit=10)
        assert trash.digest == FIRST.digest
        repository = await metadata.get_repository(A)
        assert (repository.manifest_count, repository.tag_count) == (0, 0)
        assert repository.updated == clock.now

    async def test_tags_alone(self, metadata: MetadataStore, clock: Clock) -> None:
        """A manifest stays if only its tags go, and is untagged from then on."""
        await add(metadata, A, FIRST, "1", "2")
        found = await metadata.read_retained(A)
        clock.now += 3
        assert await remove(metadata, found, "1") == Deleted([], ["1"])
        tags, manifests = await read(metadata)
        assert list(tags) == ["2"]
        assert manifests[FIRST.digest].untagged == clock.now

    async def test_moved_tag(self, metadata: MetadataStore, clock: Clock) -> None:
        """A tag that was pushed meanwhile stays, even if it points where it did."""
        await add(metadata, A, FIRST, "1", "2", "3")
        found = await metadata.read_retained(A)
        clock.now += 1
        await add(metadata, A, SECOND, "1")
        await add(metadata, A, FIRST, "2")
        assert await remove(metadata, found, "1", "2", "3", "4") == Deleted([], ["3"])
        tags, _ = await read(metadata)
        assert list(tags) == ["1", "2"]

    async def test_locked(self, metadata: MetadataStore) -> None:
        """What was locked meanwhile stays."""
        for content, tag in ((FIRST, "1"), (SECOND, "2"), (THIRD, "3")):
            await add(metadata, A, content, tag)
        found = await metadata.read_retained(A)
        await metadata.change_tag(A, Tag("1"), LockChange(lock=Lock.DELETE))
        await metadata.change_manifest(A, Digest(SECOND.digest), LockChange(lock=Lock.WRITE))
        every = ("1", "2", "3", FIRST.digest, SECOND.digest, THIRD.digest)
        assert await remove(metadata, found, *every) == Deleted([THIRD.digest], ["3"])
        await metadata.change_repository(A, LockChange(lock=Lock.WRITE))
        await metadata.change_tag(A, Tag("1"), LockChange(unlock=Lock.DELETE))
        assert await remove(metadata, found, *every) == Deleted([], [])

    async def test_tagged(self, metadata: MetadataStore) -> None:
        """A manifest that got a tag stays."""
        await add(metadata, A, FIRST)
        found = await metadata.read_retained(A)
        await add(metadata, A, FIRST, "1")
        assert await remove(metadata, found, FIRST.digest) == Deleted([], [])

    async def test_pushed(self, metadata: MetadataStore, clock: Clock) -> None:
        """A manifest that was pushed again stays."""
        await add(metadata, A, FIRST)
        found = await metadata.read_retained(A)
        clock.now += 1
        await add(metadata, A, FIRST)
        assert await remove(metadata, found, FIRST.digest) == Deleted([], [])

    async def test_listed(self, metadata: MetadataStore) -> None:
        """A manifest that an index which stays lists stays, at any depth."""
        for content in (FIRST, SECOND):
            await add(metadata, A, content)
        inner = index(FIRST)
        await add(metadata, A, inner)
        found = await metadata.read_retained(A)
        await add(metadata, A, index(inner), "new")
        every = (FIRST.digest, SECOND.digest, inner.digest)
        assert await remove(metadata, found, *every) == Deleted([SECOND.digest], [])

    async def test_index_with_its_children(self, metadata: MetadataStore) -> None:
        """An index goes together with what it lists."""
        await add(metadata, A, FIRST)
        both = index(FIRST)
        await add(metadata, A, both)
        found = await metadata.read_retained(A)
        deleted = await remove(metadata, found, FIRST.digest, both.digest)
        assert deleted.manifests == sorted([FIRST.digest, both.digest])

    async def test_subject_stays(self, metadata: MetadataStore) -> None:
        """What goes with its subject stays with it, by a tag as well."""
        await add(metadata, A, FIRST)
        signature = artifact("signature", subject=FIRST.descriptor)
        await add(metadata, A, signature)
        named = Tag(FIRST.digest.replace(":", "-") + ".sig")
        await add(metadata, A, SECOND, named)
        found = await metadata.read_retained(A)
        subjects = dict.fromkeys((signature.digest, str(named), SECOND.digest), FIRST.digest)
        every = (FIRST.digest, signature.digest, SECOND.digest, str(named))
        await add(metadata, A, FIRST, "1")
        assert await remove(metadata, found, *every, subjects=subjects) == Deleted([], [])
        await metadata.delete_tag(A, Tag("1"))
        deleted = await remove(metadata, found, *every, subjects=subjects)
        digests = sorted([FIRST.digest, signature.digest, SECOND.digest])
        assert deleted == Deleted(digests, [str(named)])

    async def test_beside_pushes(self, metadata: MetadataStore) -> None:
        """Whatever comes first, no tag is without its manifest."""
        for _ in range(5):
            await add(metadata, A, FIRST, "1")
            found = await metadata.read_retained(A)
            await asyncio.gather(
                remove(metadata, found, "1", FIRST.digest),
                *(add(metadata, A, FIRST, tag) for tag in ("1", "2", "3")),
            )
            tags, manifests = await read(metadata)
            assert {tag.digest for tag in tags.values()} <= manifests.keys()
            assert {"2", "3"} <= tags.keys()

    async def test_restored(self, shelf_metadata: CheckableStore, clock: Clock) -> None:
        """What was restored is untagged from then on, so that it does not go again at once."""
        metadata = shelf_metadata
        await add(metadata, A, FIRST, "1")
        await metadata.delete_tag(A, Tag("1"))
        found = await metadata.read_retained(A)
        await remove(metadata, found, FIRST.digest)
        clock.now += 9
        await metadata.restore_manifest(A, Digest(FIRST.digest))
        _, manifests = await read(metadata)
        assert manifests[FIRST.digest].untagged == clock.now


@pytest.fixture
def shelf_metadata(metadata: CheckableStore) -> CheckableStore:
    """Return the store with all its abilities."""
    return metadata


class TestImmutable:
    """Tags that the rules keep from moving."""

    async def push(self, metadata: MetadataStore, content: Content, *tags: str) -> None:
        """Push a manifest whose blobs are there."""
        await metadata.put_manifest(
            A, parsed(content), tags=[Tag(tag) for tag in tags], condition=V1, check_children=True
        )

    async def test_push(self, metadata: MetadataStore) -> None:
        """A new tag and the same manifest are fine; another manifest is refused whole."""
        await add(metadata, A, FIRST)
        await add(metadata, A, SECOND)
        await self.push(metadata, FIRST, "v1", "w1")
        await self.push(metadata, FIRST, "v1")
        with pytest.raises(TagImmutable, match="tag v1 of repository a is immutable"):
            await self.push(metadata, SECOND, "w1", "v1")
        await self.push(metadata, SECOND, "w1", "v2")
        tags, _ = await read(metadata)
        assert {tag.name: tag.digest for tag in tags.values()} == {
            "v1": FIRST.digest,
            "v2": SECOND.digest,
            "w1": SECOND.digest,
        }

    async def test_delete(self, metadata: MetadataStore) -> None:
        """Neither the tag nor its manifest nor the repository can be deleted."""
        await add(metadata, A, FIRST, "a", "v1")
        with pytest.raises(TagImmutable, match="to delete it, change the rules"):
            await metadata.delete_tag(A, Tag("v1"), V1)
        with pytest.raises(TagImmutable, match="to delete it, change the rules"):
            await metadata.delete_manifest(A, Digest(FIRST.digest), V1)
        with pytest.raises(TagImmutable, match="to delete it, change the rules"):
            await metadata.delete_repository(A, condition=V1)
        await metadata.delete_tag(A, Tag("a"), V1)
        await metadata.delete_tag(A, Tag("v1"))
        await metadata.delete_manifest(A, Digest(FIRST.digest), V1)

    async def test_restore(self, metadata: MetadataStore, clock: Clock) -> None:
        """It cannot be pointed back, either; what another tag leaves is untagged from then on."""
        for content in (FIRST, SECOND):
            await add(metadata, A, content, "v1", "w1")
        clock.now += 1
        with pytest.raises(TagImmutable):
            await metadata.restore_tag(A, Tag("v1"), Digest(FIRST.digest), V1)
        await metadata.restore_tag(A, Tag("w1"), Digest(FIRST.digest), V1)
        await metadata.restore_tag(A, Tag("v1"), Digest(SECOND.digest), V1)
        tags, manifests = await read(metadata)
        assert tags["w1"].digest == FIRST.digest
        assert manifests[SECOND.digest].untagged == clock.now

    def test_condition(self) -> None:
        """Immutable tags are one more condition."""
        condition = TagCondition(match=("x",))
        assert keeping(None, ()) is None
        assert keeping(condition, ()) is condition
        assert keeping(None, V1.immutable) == V1
        assert keeping(condition, V1.immutable) == TagCondition(("x",), None, V1.immutable)
        assert V1.holds(None)
        assert V1.holds("x")
