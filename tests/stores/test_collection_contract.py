"""Every metadata store keeps what can be reached, and says what can go, and restores what went."""

from __future__ import annotations

from functools import partial

import pytest

from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobInUse,
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
    NameUnknown,
    OperationDisallowed,
)
from portside.spec.locks import Lock, LockChange
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import PageRequest
from portside.stores.actors import Actor
from portside.stores.interfaces import MetadataStore, Recorded, UnreferencedBlob
from stores.conftest import CheckableStore, Clock, Shelf
from stores.test_metadata_contract import add, add_blob, parsed
from support.content import OCI_LAYER, Content, artifact, descriptor, image, index

A, B = RepositoryName("a"), RepositoryName("b")
IMAGE, OTHER = image("collected"), image("other")
BLOBS = [Digest.of(blob) for blob in IMAGE.blobs]
BLOB = BLOBS[0]
DIGEST = Digest(IMAGE.digest)
LATER = 10**15


async def push(metadata: MetadataStore, content: Content, *tags: str, by: str = "") -> None:
    """Push a manifest whose blobs are there."""
    await metadata.put_manifest(
        A,
        parsed(content),
        tags=[Tag(tag) for tag in tags],
        condition=None,
        check_children=True,
        recorded=Recorded(by=Actor(by)),
    )


async def link(metadata: MetadataStore, repository: RepositoryName, blob: bytes) -> None:
    """Push a blob."""
    await add_blob(metadata, repository, Digest.of(blob))


async def unreferenced(metadata: MetadataStore, until: int = LATER) -> dict[Digest, int]:
    """Return the blobs that no manifest refers to, each with the time."""
    found = await metadata.list_unreferenced(until, limit=100)
    assert [item.since for item in found] == sorted(item.since for item in found)
    return {item.digest: item.since for item in found}


async def link_of(metadata: MetadataStore, digest: Digest) -> UnreferencedBlob:
    """Return what is known of an unreferenced blob."""
    found = await metadata.list_unreferenced(LATER, limit=100)
    return next(item for item in found if item.digest == digest)


async def purge(metadata: MetadataStore) -> int:
    """Empty the trash; return how many manifests were in it."""
    found = await metadata.list_expired_manifests(LATER, limit=100)
    return sum([await metadata.purge_manifest(item, LATER) for item in found])


class TestUnreferenced:
    """Since when nothing refers to a blob."""

    async def test_from_the_first_moment(self, metadata: MetadataStore, clock: Clock) -> None:
        """A blob is unreferenced until a manifest refers to it, and when the last one is gone."""
        for blob in IMAGE.blobs:
            await link(metadata, A, blob)
        assert await unreferenced(metadata) == dict.fromkeys(BLOBS, clock.now)
        assert (await metadata.get_blob(A, BLOB)).unreferenced == clock.now
        assert await unreferenced(metadata, clock.now - 1) == {}
        await push(metadata, IMAGE)
        assert await unreferenced(metadata) == {}
        assert (await metadata.get_blob(A, BLOB)).unreferenced is None
        clock.now += 5
        await metadata.delete_manifest(A, DIGEST)
        assert await unreferenced(metadata) == {}
        clock.now += 5
        assert await purge(metadata) == 1
        assert await unreferenced(metadata) == dict.fromkeys(BLOBS, clock.now)

    async def test_while_another_manifest_refers_to_it(self, metadata: MetadataStore) -> None:
        """Only what the last manifest referred to is unreferenced."""
        await add(metadata, A, IMAGE)
        await link(metadata, A, b"{}")
        await push(metadata, artifact("sharing", layers=[descriptor(IMAGE.blobs[1], OCI_LAYER)]))
        await metadata.delete_manifest(A, DIGEST)
        await purge(metadata)
        assert set(await unreferenced(metadata)) == {BLOBS[0], BLOBS[2]}

    async def test_weak_references_count(self, metadata: MetadataStore) -> None:
        """A digest that a manifest names anywhere is referred to."""
        await link(metadata, A, b"named")
        named = Digest.of(b"named")
        naming = image("naming", annotations={"com.example.of": str(named)})
        await add(metadata, A, naming)
        assert await unreferenced(metadata) == {}
        await metadata.delete_manifest(A, Digest(naming.digest))
        await purge(metadata)
        assert named in await unreferenced(metadata)

    async def test_is_renewed(self, metadata: MetadataStore, clock: Clock) -> None:
        """A push, a mount and a confirmation begin the grace period anew."""
        await link(metadata, A, IMAGE.blobs[0])
        await link(metadata, B, IMAGE.blobs[0])

        for renewal in (
            link(metadata, A, IMAGE.blobs[0]),
            metadata.mount_blob(A, BLOB, B, size=4),
            metadata.confirm_blob(A, BLOB),
        ):
            clock.now += 5
            await renewal
            assert (await metadata.get_blob(A, BLOB)).unreferenced == clock.now
            assert (await metadata.get_blob(B, BLOB)).unreferenced == 1_000_000

    async def test_a_referenced_blob_is_not_renewed(self, metadata: MetadataStore) -> None:
        """Nothing is written for a blob that a manifest refers to."""
        await add(metadata, A, IMAGE)
        await metadata.confirm_blob(A, BLOB)
        await link(metadata, A, IMAGE.blobs[0])
        assert await unreferenced(metadata) == {}

    async def test_what_is_gone_is_not_confirmed(self, metadata: MetadataStore) -> None:
        """A client is not told of a blob that was collected since it was found."""
        await link(metadata, A, IMAGE.blobs[0])
        found = await link_of(metadata, BLOB)
        assert await metadata.collect_blob(found, LATER, remove=lambda: None)
        with pytest.raises(BlobUnknown):
            await metadata.confirm_blob(A, BLOB)


class TestCollect:
    """What the collector does with one link."""

    async def test_the_bytes_go_with_the_last_link(self, metadata: MetadataStore) -> None:
        """A blob is removed when no repository links it."""
        removed: list[str] = []
        for repository in (A, B):
            await link(metadata, repository, IMAGE.blobs[0])
        first, second = await metadata.list_unreferenced(LATER, limit=9)
        assert {first.repository, second.repository} == {A, B}
        assert first.size == 4
        assert await metadata.collect_blob(first, LATER, remove=lambda: removed.append("first"))
        assert removed == []
        with pytest.raises(BlobUnknown):
            await metadata.get_blob(first.repository, BLOB)
        assert await metadata.get_blob(second.repository, BLOB)
        assert await metadata.collect_blob(second, LATER, remove=lambda: removed.append("second"))
        assert removed == ["second"]
        assert await metadata.list_unreferenced(LATER, limit=9) == []

    async def test_what_was_renewed_stays(self, metadata: MetadataStore, clock: Clock) -> None:
        """A link is looked at once more before it is removed."""
        await link(metadata, A, IMAGE.blobs[0])
        found = await link_of(metadata, BLOB)
        clock.now += 5
        await metadata.confirm_blob(A, BLOB)
        assert not await metadata.collect_blob(found, clock.now - 1, remove=pytest.fail)
        assert await metadata.get_blob(A, BLOB)

    async def test_what_is_referred_to_by_now_stays(self, metadata: MetadataStore) -> None:
        """A manifest that was pushed before its blob was sent keeps it as well."""
        listing = index(IMAGE)
        for blob in IMAGE.blobs:
            await link(metadata, A, blob)
        found = await link_of(metadata, BLOB)
        await push(metadata, IMAGE)
        assert not await metadata.collect_blob(found, LATER, remove=pytest.fail)
        await metadata.put_manifest(
            B, parsed(listing), tags=[], condition=None, check_children=False
        )
        await link(metadata, B, IMAGE.manifest)
        late = await link_of(metadata, DIGEST)
        assert not await metadata.collect_blob(late, LATER, remove=pytest.fail)
        assert (await metadata.get_blob(B, DIGEST)).unreferenced is None

    async def test_pages(self, metadata: MetadataStore, clock: Clock) -> None:
        """Links are listed page by page, each once."""
        for number in range(7):
            clock.now += number % 2
            await link(metadata, A, b"%d" % number)
            await link(metadata, B, b"%d" % number)
        seen: list[UnreferencedBlob] = []
        while page := await metadata.list_unreferenced(LATER, seen[-1] if seen else None, limit=3):
            seen += page
        assert len(seen) == len(set(seen)) == 14

    async def test_a_locked_repository_is_collected(self, metadata: CheckableStore) -> None:
        """A lock protects images, and not what was never one."""
        await link(metadata, A, b"rest")
        await add(metadata, A, IMAGE)
        await metadata.change_repository(A, LockChange(Lock.WRITE | Lock.DELETE, Lock(0)))
        found = await link_of(metadata, Digest.of(b"rest"))
        assert await metadata.collect_blob(found, LATER, remove=lambda: None)
        assert await metadata.get_blob(A, BLOB)


async def test_known_blobs(metadata: MetadataStore) -> None:
    """A blob is known while any repository links it."""
    await link(metadata, A, IMAGE.blobs[0])
    await link(metadata, B, IMAGE.blobs[1])
    assert await metadata.known_blobs(BLOBS) == set(BLOBS[:2])
    assert await metadata.known_blobs([]) == set()


class TestTrash:
    """Manifests that were deleted."""

    async def test_cannot_be_seen(self, metadata: CheckableStore) -> None:
        """Neither pulls nor lists nor pushes see a deleted manifest."""
        referrer = artifact("referrer", subject=IMAGE.descriptor)
        await add(metadata, A, IMAGE)
        await add(metadata, A, referrer)
        await add(metadata, A, OTHER)
        await metadata.delete_manifest(A, DIGEST)
        await metadata.delete_manifest(A, Digest(referrer.digest))
        with pytest.raises(ManifestUnknown):
            await metadata.get_manifest(A, DIGEST)
        with pytest.raises(ManifestUnknown):
            await metadata.get_manifest_properties(A, DIGEST)
        with pytest.raises(ManifestUnknown):
            await metadata.delete_manifest(A, DIGEST)
        with pytest.raises(ManifestUnknown):
            await metadata.change_manifest(A, DIGEST, LockChange(Lock.READ, Lock(0)))
        with pytest.raises(ManifestBlobUnknown):
            await push(metadata, index(IMAGE))
        found = await metadata.list_referrers(A, DIGEST, None, PageRequest(9), 10**6)
        assert found.items == []
        assert await metadata.describe_manifests(A, [DIGEST]) == []
        assert (await metadata.get_repository(A)).manifest_count == 1

    async def test_is_restored_with_its_tags(self, metadata: CheckableStore, clock: Clock) -> None:
        """What was deleted together comes back, but for tags that point elsewhere by now."""
        await add(metadata, A, IMAGE)
        await add(metadata, A, OTHER)
        await push(metadata, IMAGE, "v1", "v2", "v3")
        await metadata.delete_tag(A, Tag("v3"))
        clock.now += 5
        await metadata.delete_manifest(A, DIGEST, by=Actor("alice"))
        await push(metadata, OTHER, "v2")
        clock.now += 5
        restored = await metadata.restore_manifest(A, DIGEST, by=Actor("bob"))
        assert restored == ([str(DIGEST)], ["v1"], [])
        assert (await metadata.get_manifest(A, Tag("v1"))).payload == IMAGE.manifest
        assert (await metadata.get_manifest(A, Tag("v2"))).digest == OTHER.digest
        found = await metadata.get_repository(A)
        assert (found.manifest_count, found.tag_count) == (2, 2)
        with pytest.raises(ManifestUnknown):
            await metadata.restore_manifest(A, DIGEST)

    async def test_is_restored_with_what_it_needs(self, metadata: CheckableStore) -> None:
        """An index comes back with the manifests that it lists, and those with their blobs."""
        listing = index(IMAGE)
        await add(metadata, A, IMAGE)
        await push(metadata, listing, "v1")
        await metadata.delete_manifest(A, Digest(listing.digest))
        await metadata.delete_manifest(A, DIGEST)
        for blob in BLOBS:
            await metadata.unlink_blob(A, blob, remove=pytest.fail)
            with pytest.raises(BlobUnknown):
                await metadata.get_blob(A, blob)
            with pytest.raises(BlobUnknown):
                await metadata.mount_blob(B, blob, A, size=4)
            assert await metadata.list_linking(blob, 9) == []
        with pytest.raises(ManifestBlobUnknown):
            await push(metadata, IMAGE)
        restored = await metadata.restore_manifest(A, Digest(listing.digest), tags=[Tag("again")])
        assert restored == (sorted([str(DIGEST), listing.digest]), ["again"], [])
        assert (await metadata.get_blob(A, BLOB)).unreferenced is None
        with pytest.raises(BlobInUse):
            await metadata.unlink_blob(A, BLOB, remove=pytest.fail)

    async def test_nothing_is_restored_in_part(
        self, shelf: Shelf, metadata: CheckableStore
    ) -> None:
        """An index whose manifest is gone is not restored, and stays in the trash."""
        listing = index(IMAGE)
        listing_it = index(listing)
        await add(metadata, A, IMAGE)
        await add(metadata, A, OTHER)
        await push(metadata, listing, "v1")
        await push(metadata, listing_it, "v2")
        await push(metadata, OTHER, "v3")
        await metadata.delete_repository(A)
        await shelf.execute(f"DELETE FROM manifests WHERE digest = '{DIGEST}'")  # noqa: S608  # of a test
        incomplete = sorted([listing.digest, listing_it.digest])
        assert await metadata.restore_repository(A) == ([OTHER.digest], ["v3"], incomplete)
        with pytest.raises(ManifestUnknown, match=f"it needs {DIGEST}, which is gone"):
            await metadata.restore_manifest(A, Digest(listing.digest))
        with pytest.raises(ManifestUnknown):
            await metadata.restore_repository(A)
        assert len(await metadata.list_expired_manifests(LATER, limit=9)) == len(incomplete)

    async def test_a_tag_of_several(self, metadata: CheckableStore, clock: Clock) -> None:
        """A tag points again to the manifest from which it was deleted last."""
        for content in (IMAGE, OTHER):
            await add(metadata, A, content)
        await push(metadata, OTHER)
        for content in (IMAGE, OTHER):
            await push(metadata, content, "v1")
            clock.now += 5
            await metadata.delete_manifest(A, Digest(content.digest))
            clock.now += 5
        assert (await metadata.restore_repository(A)).tags == ["v1"]
        assert (await metadata.get_tag(A, Tag("v1"))).digest == OTHER.digest

    async def test_is_restored_by_a_push(self, metadata: CheckableStore) -> None:
        """The same manifest is there again, with what it refers to."""
        await add(metadata, A, IMAGE)
        await metadata.delete_manifest(A, DIGEST)
        await push(metadata, IMAGE, "v1")
        assert (await metadata.get_manifest(A, Tag("v1"))).payload == IMAGE.manifest
        assert (await metadata.get_repository(A)).manifest_count == 1
        assert await purge(metadata) == 0
        assert await unreferenced(metadata) == {}

    async def test_a_blob_pushed_again_is_seen_again(self, metadata: CheckableStore) -> None:
        """A blob that was hidden for a deleted manifest can be pushed and deleted again."""
        await add(metadata, A, IMAGE)
        await metadata.delete_manifest(A, DIGEST)
        await metadata.unlink_blob(A, BLOB, remove=pytest.fail)
        await link(metadata, A, IMAGE.blobs[0])
        assert await metadata.get_blob(A, BLOB)
        await metadata.unlink_blob(A, BLOB, remove=pytest.fail)
        await purge(metadata)
        # It needs no grace period: nobody can have been told of it.
        assert (await unreferenced(metadata))[BLOB] == 0

    async def test_nothing_older_is_restored(self, metadata: CheckableStore, clock: Clock) -> None:
        """What should have been purged by now cannot be restored."""
        await add(metadata, A, IMAGE)
        await metadata.delete_manifest(A, DIGEST)
        with pytest.raises(ManifestUnknown):
            await metadata.restore_manifest(A, DIGEST, since=clock.now)
        with pytest.raises(NameUnknown):
            await metadata.restore_repository(A, since=clock.now)
        assert await metadata.restore_manifest(A, DIGEST, since=clock.now - 1)

    async def test_repository(self, metadata: CheckableStore, clock: Clock) -> None:
        """A repository comes back as it was when it was deleted."""
        await add(metadata, A, OTHER)
        await metadata.delete_manifest(A, Digest(OTHER.digest))
        clock.now += 5
        await add(metadata, A, IMAGE)
        await link(metadata, A, b"rest")
        await push(metadata, IMAGE, "v1")
        clock.now += 5
        await metadata.delete_repository(A, by=Actor("alice"))
        assert await unreferenced(metadata) == {Digest.of(b"rest"): 0}
        with pytest.raises(NameUnknown):
            await metadata.get_repository(A)
        restored = await metadata.restore_repository(A)
        assert restored == ([str(DIGEST)], ["v1"], [])
        assert await metadata.get_blob(A, BLOB)
        found = await metadata.get_repository(A)
        assert (found.tag_count, found.created) == (1, 1_000_000)
        with pytest.raises(BlobUnknown):
            await metadata.get_blob(A, Digest.of(b"rest"))
        # It is in use again: all that is deleted in it is restored now.
        assert await metadata.restore_repository(A) == ([OTHER.digest], [], [])
        with pytest.raises(NameUnknown):
            await metadata.restore_repository(B)

    async def test_a_lock_keeps_it(self, metadata: CheckableStore) -> None:
        """Nothing is restored into a repository that may not be written to."""
        await add(metadata, A, IMAGE)
        await metadata.delete_manifest(A, DIGEST)
        await metadata.change_repository(A, LockChange(Lock.WRITE, Lock(0)))
        with pytest.raises(OperationDisallowed):
            await metadata.restore_manifest(A, DIGEST)
        with pytest.raises(OperationDisallowed):
            await metadata.restore_repository(A)

    async def test_purge_looks_once_more(self, metadata: CheckableStore, clock: Clock) -> None:
        """What was restored, or deleted again, is not purged by an older list."""
        await add(metadata, A, IMAGE)
        await metadata.delete_manifest(A, DIGEST)
        (found,) = await metadata.list_expired_manifests(clock.now, limit=9)
        assert await metadata.list_expired_manifests(clock.now - 1, limit=9) == []
        await metadata.restore_manifest(A, DIGEST)
        assert not await metadata.purge_manifest(found, clock.now)
        clock.now += 5
        await metadata.delete_manifest(A, DIGEST)
        assert not await metadata.purge_manifest(found, clock.now - 1)
        assert await metadata.purge_manifest(found, clock.now)


class TestLeases:
    """Which process does a background task."""

    async def test_one_holder(self, metadata: MetadataStore, clock: Clock) -> None:
        """Another process takes over when the lease is over, and not before."""
        assert await metadata.take_lease("work", "first", seconds=10)
        assert not await metadata.take_lease("work", "second", seconds=10)
        assert await metadata.take_lease("other", "second", seconds=10)
        clock.now += 9_000_000
        assert await metadata.take_lease("work", "first", seconds=10)
        clock.now += 9_999_999
        assert not await metadata.take_lease("work", "second", seconds=10)
        clock.now += 1
        assert await metadata.take_lease("work", "second", seconds=10)
        assert not await metadata.take_lease("work", "first", seconds=10)

    async def test_a_clock_that_was_wrong(self, metadata: MetadataStore, clock: Clock) -> None:
        """A lease that was taken before the clock was set back holds for no longer than others."""
        clock.now += 10**12
        assert await metadata.take_lease("work", "first", seconds=10)
        assert await metadata.is_leased("work", seconds=10)
        clock.now -= 10**12
        assert not await metadata.is_leased("work", seconds=10)
        assert await metadata.take_lease("work", "second", seconds=10)
        assert not await metadata.take_lease("work", "first", seconds=10)

    async def test_release(self, metadata: MetadataStore, clock: Clock) -> None:
        """Anyone can see a lease until it is released by its holder, or over."""
        is_leased = partial(metadata.is_leased, seconds=10)
        assert not await is_leased("work")
        assert await metadata.take_lease("work", "first", seconds=10)
        await metadata.release_lease("work", "second")
        assert await is_leased("work")
        assert not await is_leased("other")
        await metadata.release_lease("work", "first")
        assert not await is_leased("work")
        assert await metadata.take_lease("work", "second", seconds=10)
        clock.now += 10_000_000
        assert not await is_leased("work")
