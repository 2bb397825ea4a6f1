"""Every metadata store lists what is in the trash, and restores or purges some of it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable

import pytest

from portside.spec.digests import Digest
from portside.spec.errors import ManifestUnknown, NameUnknown
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import START, Order, OrderedPageRequest, Page, PageRequest, Position
from portside.spec.patterns import RepositoryPattern
from portside.stores.actors import Actor
from portside.stores.interfaces import MetadataStore
from portside.stores.trash import (
    DeletedManifest,
    TrashedManifest,
    TrashedRepository,
    TrashedTag,
)
from stores.conftest import Clock, Shelf
from stores.test_metadata_contract import add_blob, parsed
from support.content import Content, artifact, image, index

A, B, C = RepositoryName("a"), RepositoryName("b/app"), RepositoryName("b/base")
IMAGE, OTHER = image("deleted"), image("kept")
BOTH = index(IMAGE, OTHER)
NESTED = index(BOTH)
SPARE = image("never pushed")
DIGEST = Digest(IMAGE.digest)
V1, V2 = Tag("v1"), Tag("v2")
LATER = 10**15
ALL = PageRequest(100)


async def push(
    metadata: MetadataStore, repository: RepositoryName, content: Content, *tags: str
) -> None:
    """Push a manifest with its blobs, and tags for it."""
    for blob in content.blobs:
        await add_blob(metadata, repository, Digest.of(blob))
    await metadata.put_manifest(
        repository,
        parsed(content),
        tags=[Tag(tag) for tag in tags],
        condition=None,
        check_children=True,
    )


def oldest(limit: int = 100, after: Position = START[Order.OLDEST_FIRST]) -> OrderedPageRequest:
    """Return a page in the order in which things were deleted."""
    return OrderedPageRequest(limit, Order.OLDEST_FIRST, after)


async def manifests(metadata: MetadataStore, since: int = 0) -> list[TrashedManifest]:
    """List the deleted manifests of A."""
    return (await metadata.list_trashed_manifests(A, oldest(), since=since)).items


async def tags(metadata: MetadataStore, since: int = 0) -> list[TrashedTag]:
    """List the deleted tags of A."""
    return (await metadata.list_trashed_tags(A, oldest(), since=since)).items


async def tag_names(metadata: MetadataStore) -> list[str]:
    """Name the deleted tags of A."""
    return [found.name for found in await tags(metadata)]


class TestRepositories:
    """Which repositories have something in the trash."""

    async def test_deleted(self, metadata: MetadataStore, clock: Clock) -> None:
        """A repository is listed with what was deleted with it, until it is in use again."""
        await push(metadata, A, IMAGE, "v1", "v2")
        await push(metadata, A, OTHER)
        clock.now += 5
        await metadata.delete_repository(A, by=Actor("alice"))
        expected = TrashedRepository(A, 1_000_000, clock.now, 2, 2, "alice")
        assert await metadata.list_trashed_repositories(ALL, deleted=True) == ([expected], False)
        assert await metadata.list_trashed_repositories(ALL) == ([expected], False)
        nothing = await metadata.list_trashed_repositories(ALL, deleted=True, since=clock.now)
        assert nothing.items == []
        clock.now += 5
        await metadata.restore_manifest(A, DIGEST)
        assert (await metadata.list_trashed_repositories(ALL, deleted=True)).items == []
        (left,) = (await metadata.list_trashed_repositories(ALL)).items
        assert left == TrashedRepository(A, 1_000_000, None, 0, 0, "")

    async def test_in_use(self, metadata: MetadataStore, clock: Clock) -> None:
        """One that lost a manifest or a tag is listed; one that lost nothing is not."""
        for repository in (A, B, C):
            await push(metadata, repository, IMAGE, "v1")
        await metadata.delete_manifest(A, DIGEST)
        await metadata.delete_tag(B, V1)
        listed = (await metadata.list_trashed_repositories(ALL)).items
        assert [(found.name, found.deleted) for found in listed] == [(A, None), (B, None)]
        assert (await metadata.list_trashed_repositories(ALL, since=clock.now)).items == []
        assert (await metadata.list_trashed_repositories(ALL, deleted=True)).items == []

    async def test_partly_purged(self, metadata: MetadataStore, clock: Clock) -> None:
        """Of a deleted repository, only what can be restored is counted."""
        await push(metadata, A, IMAGE, "v1", "v2")
        await push(metadata, A, OTHER, "v3")
        clock.now += 5
        await metadata.delete_repository(A)
        (whole,) = (await metadata.list_trashed_repositories(ALL)).items
        assert (whole.manifests, whole.tags) == (2, 3)
        await metadata.purge_image(A, DIGEST)
        (rest,) = (await metadata.list_trashed_repositories(ALL, deleted=True)).items
        assert (rest.manifests, rest.tags) == (1, 1)
        restored = await metadata.restore_repository(A)
        assert (len(restored.manifests), restored.tags) == (1, ["v3"])

    async def test_a_repository_without_manifests(self, metadata: MetadataStore) -> None:
        """Nothing of it can be restored."""
        await push(metadata, A, IMAGE, "v1")
        await delete(metadata)
        await purge(metadata)
        await metadata.delete_repository(A)
        assert (await metadata.list_trashed_repositories(ALL, deleted=True)).items == []
        assert (await metadata.list_trashed_repositories(ALL)).items == []

    @pytest.mark.parametrize("deleted", [True, False])
    async def test_pages(self, metadata: MetadataStore, *, deleted: bool) -> None:
        """They are listed page by page, of the names that are asked for."""
        names = [RepositoryName(f"{letter}/{number}") for letter in "abc" for number in range(3)]
        for name in names:
            await push(metadata, name, IMAGE)
            await metadata.delete_repository(name)
        found: list[str] = []
        page = Page[TrashedRepository]([], more=True)
        shown = [RepositoryPattern(text).names for text in ("a/*", "b/1", "c/*")]
        while page.more:
            request = PageRequest(2, found[-1] if found else "")
            page = await metadata.list_trashed_repositories(request, shown, deleted=deleted)
            found += [item.name for item in page.items]
        assert found == [*names[:3], names[4], *names[6:]]
        none = await metadata.list_trashed_repositories(PageRequest(0), deleted=deleted)
        assert none == ([], False)


async def delete(metadata: MetadataStore, content: Content = IMAGE) -> Digest:
    """Delete a manifest of A."""
    digest = Digest(content.digest)
    await metadata.delete_manifest(A, digest)
    return digest


async def purge(metadata: MetadataStore) -> int:
    """Empty the trash; return how many manifests were purged by name."""
    found = await metadata.list_expired_manifests(LATER, limit=100)
    return sum([await metadata.purge_manifest(item, LATER) for item in found])


class TestManifests:
    """What is known of deleted manifests."""

    async def test_properties(self, metadata: MetadataStore, clock: Clock) -> None:
        """A manifest is listed with the tags that were deleted with it, and no others."""
        await push(metadata, A, IMAGE, "v1", "v2", "v3")
        await push(metadata, A, OTHER, "v4")
        await metadata.delete_tag(A, V1)
        clock.now += 5
        await metadata.delete_manifest(A, DIGEST, by=Actor("alice"))
        (found,) = await manifests(metadata)
        assert found.key
        assert found == TrashedManifest(
            key=found.key,
            digest=IMAGE.digest,
            media_type=IMAGE.media_type,
            size=len(IMAGE.manifest),
            image_size=sum(map(len, IMAGE.blobs)),
            created=1_000_000,
            deleted=clock.now,
            deleted_by="alice",
            tags=("v2", "v3"),
        )
        assert await manifests(metadata, since=clock.now - 1) == [found]
        assert await manifests(metadata, since=clock.now) == []
        await metadata.restore_manifest(A, DIGEST)
        assert await manifests(metadata) == []

    async def test_of_a_deleted_repository(self, metadata: MetadataStore) -> None:
        """They are listed as others are."""
        await push(metadata, A, IMAGE, "v1")
        await metadata.delete_repository(A, by=Actor("alice"))
        (found,) = await manifests(metadata)
        assert (found.digest, found.tags, found.deleted_by) == (IMAGE.digest, ("v1",), "alice")

    async def test_unknown(self, metadata: MetadataStore) -> None:
        """A repository in use has an empty list; one that is unknown, or purged, has none."""
        for listing in (metadata.list_trashed_manifests, metadata.list_trashed_tags):
            with pytest.raises(NameUnknown):
                await listing(B, oldest())
        await push(metadata, A, IMAGE)
        assert await manifests(metadata) == []
        assert await tags(metadata) == []
        await metadata.delete_repository(A)
        assert len(await manifests(metadata)) == 1
        await purge(metadata)
        for listing in (metadata.list_trashed_manifests, metadata.list_trashed_tags):
            with pytest.raises(NameUnknown):
                await listing(A, oldest())


@pytest.mark.parametrize("kind", ["manifests", "tags"])
async def test_pages(metadata: MetadataStore, clock: Clock, kind: str) -> None:
    """Both are listed in the order in which they were deleted, those of one moment by name."""
    contents = sorted((image(number) for number in range(7)), key=lambda one: one.digest)
    for number, content in enumerate(contents):
        await push(metadata, A, content, f"v{number}")
    order = [3, 0, 6, 1, 2, 4, 5]
    for number in order:
        clock.now += number % 2
        if kind == "manifests":
            await delete(metadata, contents[number])
        else:
            await metadata.delete_tag(A, Tag(f"v{number}"))
    read: Callable[..., Awaitable[Page[TrashedManifest | TrashedTag]]] = getattr(
        metadata, f"list_trashed_{kind}"
    )
    seen: list[Position] = []
    page = Page[TrashedManifest | TrashedTag]([], more=True)
    while page.more:
        page = await read(A, oldest(2, seen[-1] if seen else START[Order.OLDEST_FIRST]))
        for item in page.items:
            name = item.digest if isinstance(item, TrashedManifest) else item.name
            seen.append(Position(item.deleted, name))
    assert len(seen) == 7
    assert seen == sorted(seen)
    half = await read(A, oldest(), since=seen[3].time)
    assert len(half.items) == sum(one.time > seen[3].time for one in seen)


class TestTags:
    """Deleted tags."""

    async def test_properties(self, metadata: MetadataStore, clock: Clock) -> None:
        """A tag is listed with what it pointed to, since when, and what became of that."""
        await push(metadata, A, IMAGE)
        clock.now += 5
        await push(metadata, A, IMAGE, "v1", "v2")
        clock.now += 5
        await metadata.delete_tag(A, V1, by=Actor("alice"))
        clock.now += 5
        first = TrashedTag("v1", IMAGE.digest, 1_000_005, 1_000_010, "alice", None)
        assert await tags(metadata) == [first]
        await metadata.delete_manifest(A, DIGEST, by=Actor("bob"))
        assert await tags(metadata) == [
            TrashedTag("v1", IMAGE.digest, 1_000_005, 1_000_010, "alice", clock.now),
            TrashedTag("v2", IMAGE.digest, 1_000_005, 1_000_015, "bob", clock.now),
        ]
        assert await tags(metadata, since=clock.now) == []
        await purge(metadata)
        assert await tags(metadata) == []

    async def test_deleted_more_than_once(self, metadata: MetadataStore, clock: Clock) -> None:
        """It is listed once for each manifest, unless it points to that one again."""
        for content in (IMAGE, OTHER, IMAGE):
            clock.now += 5
            await push(metadata, A, content, "v1")
            clock.now += 5
            await metadata.delete_tag(A, V1)
        found = [(one.digest, one.deleted) for one in await tags(metadata)]
        assert found == [(OTHER.digest, 1_000_020), (IMAGE.digest, 1_000_030)]
        clock.now += 5
        await push(metadata, A, OTHER, "v1")
        assert [one.digest for one in await tags(metadata)] == [IMAGE.digest]
        clock.now += 5
        await push(metadata, A, IMAGE, "v1")
        assert await tags(metadata) == []

    async def test_without_a_history(self, shelf: Shelf, metadata: MetadataStore) -> None:
        """A tag of an older version is as old as its manifest, as far as is known."""
        await push(metadata, A, IMAGE, "v1")
        await shelf.execute("DELETE FROM tag_history")
        await metadata.delete_tag(A, V1)
        assert [one.created for one in await tags(metadata)] == [1_000_000]


class TestPurge:
    """Manifests that are purged before their time."""

    async def test_one(self, metadata: MetadataStore, clock: Clock) -> None:
        """What is listed can be purged."""
        await push(metadata, A, IMAGE, "v1")
        await push(metadata, A, OTHER)
        for content in (IMAGE, OTHER):
            await delete(metadata, content)
        found = (await manifests(metadata))[0]
        item = DeletedManifest(A, Digest(found.digest), found.key, found.deleted)
        assert await metadata.purge_manifest(item, clock.now)
        assert not await metadata.purge_manifest(item, clock.now)
        assert len(await manifests(metadata)) == 1

    async def test_an_index_goes_with_its_manifest(
        self, metadata: MetadataStore, clock: Clock
    ) -> None:
        """No deleted index is left that could not be restored."""
        for content in (IMAGE, OTHER, BOTH, NESTED):
            await push(metadata, A, content)
        for content in (NESTED, BOTH, IMAGE):
            await delete(metadata, content)
        (child,) = [
            item
            for item in await metadata.list_expired_manifests(LATER, limit=9)
            if item.digest == DIGEST
        ]
        assert await metadata.purge_manifest(child, clock.now) == 3
        assert await manifests(metadata) == []

    async def test_an_image(self, metadata: MetadataStore, clock: Clock) -> None:
        """It goes with what would be restored with it, but for what another index lists."""
        signature = artifact("signature", subject=NESTED.descriptor)
        earlier = artifact("earlier", subject=NESTED.descriptor)
        other = index(OTHER)
        for content in (IMAGE, OTHER, BOTH, NESTED, other, signature, earlier):
            await push(metadata, A, content)
        await delete(metadata, earlier)
        clock.now += 5
        for content in (NESTED, signature, BOTH, other, IMAGE, OTHER):
            await delete(metadata, content)
        purged = await metadata.purge_image(A, Digest(NESTED.digest))
        assert purged == sorted(content.digest for content in (NESTED, BOTH, IMAGE, signature))
        left = {found.digest for found in await manifests(metadata)}
        assert left == {earlier.digest, other.digest, OTHER.digest}
        for content in (NESTED, SPARE):
            with pytest.raises(ManifestUnknown, match="has no deleted manifest"):
                await metadata.purge_image(A, Digest(content.digest))
        assert await metadata.restore_manifest(A, Digest(other.digest))

    async def test_listed_by_a_sparse_index(self, metadata: MetadataStore) -> None:
        """What an index lists stays, even if the index can be restored without it."""
        other = index(IMAGE)
        for content in (IMAGE, OTHER):
            await push(metadata, A, content)
        for content in (BOTH, other):
            await metadata.put_manifest(
                A, parsed(content), tags=[], condition=None, check_children=False
            )
        for content in (BOTH, other, IMAGE):
            await delete(metadata, content)
        assert await metadata.purge_image(A, Digest(BOTH.digest)) == [BOTH.digest]
        assert {found.digest for found in await manifests(metadata)} == {
            other.digest,
            IMAGE.digest,
        }

    async def test_deeply_nested(self, metadata: MetadataStore) -> None:
        """Indexes that list one another deeper than calls can be nested go as well."""
        nested = [SPARE]
        await push(metadata, A, SPARE)
        deepest, before = len(inspect.stack()) + 120, sys.getrecursionlimit()
        while len(nested) <= deepest:
            nested.append(index(nested[-1]))
            await push(metadata, A, nested[-1])
        await metadata.delete_repository(A)
        (found,) = await metadata.list_expired_manifests(LATER, limit=1)
        assert found.digest == SPARE.digest
        sys.setrecursionlimit(deepest)
        try:
            assert await metadata.purge_manifest(found, LATER) == len(nested)
        finally:
            sys.setrecursionlimit(before)
        assert await metadata.list_expired_manifests(LATER, limit=1) == []
