"""What every metadata store keeps to; the API tests go through all of it over HTTP as well."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from portside.spec.conditions import TagCondition
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import (
    BlobInUse,
    BlobUnknown,
    BlobUploadUnknown,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    PreconditionFailed,
    TooManyRequests,
    Unavailable,
    UploadBusy,
)
from portside.spec.manifests import Manifest, parse_manifest
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import PageRequest
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.inspection import ReferenceRecord
from portside.stores.interfaces import MetadataStore
from stores.conftest import CheckableStore, Clock, Shelf
from support.blobs import listed
from support.content import Content, artifact, image, index

A, B = RepositoryName("a"), RepositoryName("b")
BLOB = Digest.of(b"blob")


def parsed(content: Content) -> Manifest:
    """Read a manifest as the edge does."""
    return parse_manifest(content.manifest, content_type=content.media_type)


async def add_blob(metadata: MetadataStore, repository: RepositoryName, digest: Digest) -> None:
    """Link a blob, as if its bytes were there."""
    await metadata.commit_blob(repository, digest, 4, session=None, place=lambda: None)


async def add(metadata: MetadataStore, repository: RepositoryName, content: Content) -> Manifest:
    """Link the blobs of a manifest, and add it."""
    for blob in content.blobs:
        await add_blob(metadata, repository, Digest.of(blob))
    manifest = parsed(content)
    await metadata.put_manifest(
        repository, manifest, tags=[Tag("v1")], condition=None, check_children=True
    )
    return manifest


class TestBlobs:
    """Links, and what happens with the last of them."""

    async def test_order_of_a_commit(self, metadata: MetadataStore) -> None:
        """Bytes that cannot be placed leave no row; others are placed before the row is seen."""

        def fail() -> None:
            raise Unavailable("no disk")

        with pytest.raises(Unavailable):
            await metadata.commit_blob(A, BLOB, 4, session=None, place=fail)
        with pytest.raises(BlobUnknown):
            await metadata.get_blob(A, BLOB)
        with pytest.raises(NameUnknown):
            await metadata.list_tags(A, PageRequest(1))
        placed: list[bool] = []

        def place() -> None:
            placed.append(True)

        await metadata.commit_blob(A, BLOB, 4, session=None, place=place)
        assert placed
        assert (await metadata.get_blob(A, BLOB)).size == 4

    async def test_bytes_go_with_the_last_link(self, metadata: MetadataStore) -> None:
        """The bytes are removed once, after the last repository let go."""
        removed: list[Digest] = []

        def remove() -> None:
            removed.append(BLOB)

        await add_blob(metadata, A, BLOB)
        await metadata.mount_blob(B, BLOB, A, size=4)
        await metadata.unlink_blob(A, BLOB, remove=remove)
        assert removed == []
        with pytest.raises(BlobUnknown):
            await metadata.unlink_blob(A, BLOB, remove=remove)
        await metadata.unlink_blob(B, BLOB, remove=remove)
        assert removed == [BLOB]
        assert await metadata.remove_orphaned_blob(BLOB, remove=remove)
        assert removed == [BLOB, BLOB]
        await add_blob(metadata, A, BLOB)
        assert not await metadata.remove_orphaned_blob(BLOB, remove=pytest.fail)

    @pytest.mark.parametrize("source", [A, None])
    async def test_mount_of_a_damaged_blob(
        self, metadata: MetadataStore, source: RepositoryName | None
    ) -> None:
        """A blob whose bytes have another size than was recorded cannot be mounted."""
        await add_blob(metadata, A, BLOB)
        for size in (0, 3, 5):
            with pytest.raises(BlobUnknown):
                await metadata.mount_blob(B, BLOB, source, size=size)
        with pytest.raises(BlobUnknown):
            await metadata.get_blob(B, BLOB)
        await metadata.mount_blob(B, BLOB, source, size=4)

    async def test_in_use(self, metadata: MetadataStore) -> None:
        """A blob that a manifest needs stays."""
        content = image(1)
        await add(metadata, A, content)
        with pytest.raises(BlobInUse):
            await metadata.unlink_blob(A, Digest.of(content.blobs[0]), remove=pytest.fail)
        assert (await metadata.get_blob(A, Digest.of(content.blobs[0]))).size == 4

    async def test_a_failing_job_does_not_disturb_others(self, metadata: MetadataStore) -> None:
        """Jobs that share a transaction succeed and fail each for itself."""
        jobs = [add_blob(metadata, A, Digest.of(b"%d" % number)) for number in range(20)]
        bad = [metadata.mount_blob(B, Digest.of(b"none"), A, size=4) for _ in range(20)]
        mixed = [job for pair in zip(jobs, bad, strict=True) for job in pair]
        results = await asyncio.gather(*mixed, return_exceptions=True)
        assert results[::2] == [None] * 20
        assert all(isinstance(result, BlobUnknown) for result in results[1::2])
        for number in range(20):
            assert (await metadata.get_blob(A, Digest.of(b"%d" % number))).size == 4


class TestManifests:
    """All or nothing."""

    async def test_nothing_of_a_refused_push(self, metadata: MetadataStore) -> None:
        """A refused manifest leaves no manifest, no tag and no repository."""
        manifest = parsed(image(1))
        with pytest.raises(ManifestBlobUnknown) as caught:
            await metadata.put_manifest(
                A, manifest, tags=[Tag("v1")], condition=None, check_children=True
            )
        assert len(caught.value.details) == 3
        with pytest.raises(ManifestUnknown):
            await metadata.get_manifest(A, Tag("v1"))
        with pytest.raises(NameUnknown):
            await metadata.list_tags(A, PageRequest(1))

    async def test_conditions(self, metadata: MetadataStore) -> None:
        """A condition is judged in the transaction that moves the tag."""
        manifest = await add(metadata, A, image(1))
        never = TagCondition(none_match=("*",))
        with pytest.raises(PreconditionFailed):
            await metadata.put_manifest(
                A, manifest, tags=[Tag("v1")], condition=never, check_children=True
            )
        await metadata.put_manifest(
            A, manifest, tags=[Tag("v2")], condition=never, check_children=True
        )
        assert (await metadata.get_manifest(A, Tag("v2"))).digest == str(manifest.digest)

    async def test_a_condition_holds_for_every_reference(self, metadata: MetadataStore) -> None:
        """All tags are judged, the digest where there are none, and a delete like a push."""
        manifest, other = await add(metadata, A, image(1)), parsed(image(2))
        for blob in image(2).blobs:
            await add_blob(metadata, A, Digest.of(blob))

        async def put(pushed: Manifest, condition: TagCondition, *tags: str) -> None:
            await metadata.put_manifest(
                A, pushed, tags=list(map(Tag, tags)), condition=condition, check_children=True
            )

        never = TagCondition(none_match=("*",))
        is_other = TagCondition(match=(str(other.digest),))
        for condition, pushed, tags in (
            (never, manifest, []),
            (never, other, ["new", "v1"]),
            (never, other, ["v1", "new"]),
            (is_other, manifest, []),
            (TagCondition(match=("*",)), other, ["v1", "new"]),
        ):
            with pytest.raises(PreconditionFailed):
                await put(pushed, condition, *tags)
        for refused in (
            metadata.delete_tag(A, Tag("v1"), is_other),
            metadata.delete_manifest(A, manifest.digest, is_other),
        ):
            with pytest.raises(PreconditionFailed):
                await refused
        assert (await metadata.list_tags(A, PageRequest(5))).items == ["v1"]
        assert (await metadata.get_manifest(A, Tag("v1"))).digest == str(manifest.digest)
        await put(other, never)
        is_manifest = TagCondition(match=(str(manifest.digest),))
        await metadata.delete_tag(A, Tag("v1"), is_manifest)
        await metadata.delete_manifest(A, manifest.digest, is_manifest)

    async def test_times_of_a_tag(self, metadata: CheckableStore, clock: Clock) -> None:
        """A tag that moves was created when it first was, and updated when it moved."""
        (table,) = [table for table in metadata.tables if table.name == "tags"]
        first, second = await add(metadata, A, image(1)), parsed(image(2))
        created = clock.now
        clock.now += 10
        await add(metadata, A, image(2))
        (row,) = await metadata.list_rows(table, None, 5)
        assert row == ("a", "v1", str(second.digest), created, clock.now, 0)
        assert str(first.digest) != str(second.digest)

    async def test_sparse(self, metadata: MetadataStore) -> None:
        """Children are looked for unless they may be missing."""
        content = index(image(1))
        manifest = parsed(content)

        async def put(*, check: bool) -> None:
            await metadata.put_manifest(A, manifest, tags=[], condition=None, check_children=check)

        with pytest.raises(ManifestBlobUnknown):
            await put(check=True)
        with pytest.raises(NameUnknown):
            await metadata.list_tags(A, PageRequest(1))
        await put(check=False)
        assert (await metadata.get_manifest(A, manifest.digest)).payload == content.manifest

    async def test_damaged(self, shelf: Shelf, metadata: CheckableStore) -> None:
        """A push of the same manifest replaces damaged bytes, whatever it says that its type is."""
        manifest = await add(metadata, A, image(1))
        other = msgspec.structs.replace(manifest, media_type="application/vnd.other+json")
        for pushed in (manifest, other):
            await shelf.execute("UPDATE manifests SET payload = SUBSTR(payload, 1, 2), size = 2")
            await shelf.execute("UPDATE repositories SET manifest_bytes = 2")
            await metadata.put_manifest(A, pushed, tags=[], condition=None, check_children=True)
            found = await metadata.get_manifest(A, manifest.digest)
            assert (found.media_type, found.payload) == (pushed.media_type, manifest.payload)
            (record,) = await listed(metadata.repository_records())
            assert record.recorded_bytes == record.bytes

    @pytest.mark.parametrize("dropped", ["all references", "one reference", "the subject"])
    async def test_a_type_that_forgets(self, metadata: MetadataStore, dropped: str) -> None:
        """Under another media type a manifest keeps all that it refers to."""
        content = image(1, subject=image(2).descriptor)
        manifest = await add(metadata, A, content)
        other = msgspec.structs.replace(manifest, media_type="application/vnd.other+json")
        if dropped == "all references":
            other = msgspec.structs.replace(other, references=())
        elif dropped == "one reference":
            other = msgspec.structs.replace(other, references=manifest.references[1:])
        else:
            other = msgspec.structs.replace(other, subject=None)
        with pytest.raises(ManifestInvalid, match="no longer refer"):
            await metadata.put_manifest(
                A, other, tags=[Tag("v2")], condition=None, check_children=True
            )
        stored = await metadata.get_manifest(A, Tag("v1"))
        assert stored.media_type == content.media_type
        with pytest.raises(ManifestUnknown):
            await metadata.get_manifest(A, Tag("v2"))
        for blob in content.blobs:
            with pytest.raises(BlobInUse):
                await metadata.unlink_blob(A, Digest.of(blob), remove=pytest.fail)

    async def test_blob_pushed_after_its_index(self, metadata: MetadataStore) -> None:
        """It belongs to the index, unless what the index lists has become a manifest too."""
        child = image(1, layers=0)
        sparse = parsed(index(child))
        await metadata.put_manifest(A, sparse, tags=[], condition=None, check_children=False)
        digest = Digest(child.digest)
        await add_blob(metadata, A, digest)
        removed: list[bool] = []
        with pytest.raises(BlobInUse):
            await metadata.unlink_blob(A, digest, remove=lambda: removed.append(True))
        await add(metadata, A, child)
        await metadata.unlink_blob(A, digest, remove=lambda: removed.append(True))
        assert removed

    async def test_a_type_that_is_corrected(self, metadata: CheckableStore) -> None:
        """References are those of the new media type, and none of the old one's are left."""
        manifest = parsed(index(image(1), artifactType="a/b", annotations={"key": "value"}))
        child = manifest.references[0].digest
        await metadata.put_manifest(A, manifest, tags=[], condition=None, check_children=False)
        await add_blob(metadata, A, child)
        other = msgspec.structs.replace(
            manifest,
            media_type="application/vnd.other+json",
            subject=Digest.of(b"subject"),
            artifact_type="application/other",
            annotations={"other": "value"},
        )
        await metadata.put_manifest(A, other, tags=[], condition=None, check_children=True)
        (record,) = await listed(metadata.manifest_records())
        assert record.media_type == other.media_type
        assert record.artifact_type == other.artifact_type
        assert (record.subject, record.annotations) == (str(other.subject), other.annotations)
        assert record.references == (
            ReferenceRecord("blob", str(child), required=True, present=True),
        )


class TestReferrers:
    """Pages that are limited in bytes."""

    async def test_every_field_counts(self, metadata: MetadataStore) -> None:
        """A page has as many entries as fit as JSON: long types count as annotations do."""
        subject = image("subject")
        long = f"a/{'b' * 250}"
        referrers = [artifact(number, long, subject=subject.descriptor) for number in range(4)]
        for content in referrers:
            await add(metadata, A, content)
        digest, request = Digest(subject.digest), PageRequest(10)
        page = await metadata.list_referrers(A, digest, None, request, 1200)
        assert (len(page.items), page.more) == (2, True)
        page = await metadata.list_referrers(A, digest, None, request, 1)
        assert (len(page.items), page.more) == (1, True)
        page = await metadata.list_referrers(A, digest, None, request, 10_000)
        assert (len(page.items), page.more) == (4, False)

    async def test_pages(self, metadata: MetadataStore) -> None:
        """Page after page each is there once, in the order of digests, of one type or of all."""
        subject = image("subject")
        kinds = {f"a/{number % 2}": list[str]() for number in range(2)}
        for number in range(5):
            content = artifact(number, f"a/{number % 2}", subject=subject.descriptor)
            kinds[f"a/{number % 2}"].append(content.digest)
            await add(metadata, A, content)
        index_of = index(image(1), subject=subject.descriptor)
        await metadata.put_manifest(
            A, parsed(index_of), tags=[], condition=None, check_children=False
        )
        everything = [*kinds["a/0"], *kinds["a/1"], index_of.digest]
        for kind, expected in (*kinds.items(), (None, everything), ("a/2", [])):
            for limit, max_bytes in ((1, 10_000), (2, 10_000), (4, 500), (2, 500), (9, 10_000)):
                found, last, more = list[str](), "", True
                while more:
                    page, more = await metadata.list_referrers(
                        A, Digest(subject.digest), kind, PageRequest(limit, last), max_bytes
                    )
                    assert len(page) <= limit
                    found += [str(item.digest) for item in page]
                    last = found[-1] if found else ""
                assert found == sorted(expected)


class TestTags:
    """Lists of tags."""

    async def test_pages(self, metadata: MetadataStore) -> None:
        """Page after page each is there once, in ASCII order; a page behind the last is empty."""
        manifest = await add(metadata, A, image(1))
        expected = ["B", "_", "a", "a-b", "a.b", "v1"]
        tags = list(map(Tag, expected))
        await metadata.put_manifest(A, manifest, tags=tags, condition=None, check_children=True)
        for limit in (1, 2, 6):
            found, more = list[str](), True
            while more:
                last = found[-1] if found else ""
                page, more = await metadata.list_tags(A, PageRequest(limit, last))
                found += page
            assert found == expected
        assert await metadata.list_tags(A, PageRequest(3, "v1")) == ([], False)

    async def test_a_repository_without_tags(self, metadata: MetadataStore) -> None:
        """It has a list, which is empty, as soon as anything was pushed to it."""
        await add_blob(metadata, A, BLOB)
        assert await metadata.list_tags(A, PageRequest(3)) == ([], False)


class TestUploads:
    """Sessions."""

    def session(self, clock: Clock) -> UploadSession:
        """Open one."""
        return UploadSession(
            id=UploadId.fresh(),
            repository=A,
            algorithm=Algorithm.SHA512,
            created=clock.now,
            updated=clock.now,
        )

    async def test_life(self, metadata: MetadataStore, clock: Clock) -> None:
        """A session is found in its repository until it is closed, and is stale when it is old."""
        session = self.session(clock)
        await metadata.open_upload(session)
        assert await metadata.get_upload(A, session.id) == session
        with pytest.raises(BlobUploadUnknown):
            await metadata.get_upload(B, session.id)
        clock.now += 10
        advanced = session.at(5)
        await metadata.advance_upload(advanced, origin=0)
        found = await metadata.get_upload(A, session.id)
        assert (found.offset, found.updated) == (5, clock.now)
        assert await metadata.list_stale_uploads(clock.now) == []
        assert await metadata.list_stale_uploads(clock.now + 1) == [found]
        await metadata.close_upload(found)
        with pytest.raises(BlobUploadUnknown):
            await metadata.close_upload(found)
        with pytest.raises(BlobUploadUnknown):
            await metadata.advance_upload(found, origin=5)
        assert not await metadata.has_upload(session.id)

    async def test_stale_ones_by_pages(self, metadata: MetadataStore, clock: Clock) -> None:
        """A list goes on behind any session of it: by time, then by id; none is there twice."""
        opened = []
        for number in range(6):
            clock.now += number % 2
            opened.append(self.session(clock))
            await metadata.open_upload(opened[-1])
        expected = sorted(opened, key=lambda session: (session.updated, session.id))
        late = clock.now + 1
        assert await metadata.list_stale_uploads(late) == expected
        for number, session in enumerate(expected, 1):
            assert await metadata.list_stale_uploads(late, session) == expected[number:]

    async def test_a_finished_session_whose_blob_went(
        self, metadata: MetadataStore, clock: Clock
    ) -> None:
        """It counts for nothing, although the repository has other blobs, and another this one."""
        session = self.session(clock)
        await metadata.open_upload(session)
        await metadata.commit_blob(A, BLOB, 4, session=session, place=lambda: None)
        await add_blob(metadata, A, Digest.of(b"other"))
        await add_blob(metadata, B, BLOB)
        await metadata.unlink_blob(A, BLOB, remove=pytest.fail)
        assert not await metadata.was_finished(A, session.id, BLOB, owner="")
        open_one = self.session(clock)
        await metadata.open_upload(open_one)
        await metadata.forget_finished_uploads(clock.now + 1)
        assert await metadata.has_upload(open_one.id)

    async def test_a_session_ends_once(self, metadata: MetadataStore, clock: Clock) -> None:
        """A commit by a session that has ended is refused, and its blob is not there."""
        session = self.session(clock)
        await metadata.open_upload(session)
        for digest, ends in ((BLOB, True), (Digest.of(b"other"), False)):
            commit = metadata.commit_blob(A, digest, 4, session=session, place=lambda: None)
            if ends:
                await commit
            else:
                with pytest.raises(BlobUploadUnknown):
                    await commit
                with pytest.raises(BlobUnknown):
                    await metadata.get_blob(A, digest)

    async def test_sessions_are_limited(self, metadata: MetadataStore, clock: Clock) -> None:
        """So many may be open in one repository for one owner; those that ended do not count."""

        async def open_one(repository: RepositoryName, owner: str, most: int) -> UploadSession:
            fresh = msgspec.structs.replace(
                self.session(clock), id=UploadId.fresh(), repository=repository, owner=owner
            )
            await metadata.open_upload(fresh, most=most)
            return fresh

        first, second = [await open_one(A, "alice", 2) for _ in range(2)]
        with pytest.raises(TooManyRequests):
            await open_one(A, "alice", 2)
        for repository, owner, most in ((B, "alice", 2), (A, "bob", 2), (A, "", 2), (A, "bob", 0)):
            await open_one(repository, owner, most)
        await metadata.close_upload(first)
        await open_one(A, "alice", 2)
        await metadata.commit_blob(A, BLOB, 4, session=second, place=lambda: None)
        await open_one(A, "alice", 2)
        with pytest.raises(TooManyRequests):
            await open_one(A, "alice", 2)

    async def test_a_finished_session_is_remembered(
        self, metadata: MetadataStore, clock: Clock
    ) -> None:
        """Its digest is known in its repository until it expires; for all else it has ended."""
        session = self.session(clock)
        await metadata.open_upload(session)
        assert not await metadata.was_finished(A, session.id, BLOB, owner="")
        clock.now += 10
        await metadata.commit_blob(A, BLOB, 4, session=session, place=lambda: None)
        assert await metadata.was_finished(A, session.id, BLOB, owner="")
        assert not await metadata.was_finished(B, session.id, BLOB, owner="")
        assert not await metadata.was_finished(A, session.id, BLOB, owner="alice")
        assert not await metadata.was_finished(A, session.id, Digest.of(b"other"), owner="")
        for request in (
            metadata.get_upload(A, session.id),
            metadata.advance_upload(session.at(1), origin=0),
            metadata.close_upload(session),
        ):
            with pytest.raises(BlobUploadUnknown):
                await request
        assert not await metadata.has_upload(session.id)
        assert await metadata.list_stale_uploads(clock.now + 1) == []
        await metadata.forget_finished_uploads(clock.now)
        assert await metadata.was_finished(A, session.id, BLOB, owner="")
        await metadata.forget_finished_uploads(clock.now + 1)
        assert not await metadata.was_finished(A, session.id, BLOB, owner="")

    async def test_a_request_that_lost_its_hold_is_refused(
        self, metadata: MetadataStore, clock: Clock
    ) -> None:
        """A session that another request moved is neither moved nor ended, and no blob is made."""
        session = self.session(clock)

        def moved(offset: int) -> UploadSession:
            return session.at(offset)

        await metadata.open_upload(session)
        await metadata.advance_upload(moved(5), origin=0)
        late = (
            metadata.advance_upload(moved(9), origin=0),
            metadata.advance_upload(moved(5), origin=0),
            metadata.close_upload(session),
            metadata.commit_blob(A, BLOB, 4, session=session, place=pytest.fail),
        )
        for request in late:
            with pytest.raises(UploadBusy, match="another request has changed"):
                await request
        assert (await metadata.get_upload(A, session.id)).offset == 5
        with pytest.raises(BlobUnknown):
            await metadata.get_blob(A, BLOB)
        await metadata.commit_blob(A, BLOB, 4, session=moved(5), place=lambda: None)
        assert (await metadata.get_blob(A, BLOB)).size == 4
