"""What every metadata store keeps to about properties, locks, and lists in the order of time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import (
    BlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    OperationDisallowed,
    TagUnknown,
)
from portside.spec.locks import NOTHING, Lock, LockChange
from portside.spec.manifests import read_manifest
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import START, Order, OrderedPageRequest, PageRequest, Position
from portside.spec.platforms import Platform
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.actors import Actor
from portside.stores.inspection import ReferenceRecord
from portside.stores.interfaces import Recorded
from portside.stores.metadata.engine import Database
from stores.conftest import CheckableStore, Clock
from stores.test_metadata_contract import add, add_blob, parsed
from support.content import Content, artifact, image, index

A, B = RepositoryName("a"), RepositoryName("b")
V1, V2 = Tag("v1"), Tag("v2")
EVERY = LockChange(unlock=Lock.DELETE | Lock.WRITE | Lock.LIST | Lock.READ)
FIRST = image(1)
DIGEST = Digest(FIRST.digest)
UNKNOWN = Digest.of(b"unknown")


async def push(metadata: CheckableStore, content: Content, *tags: str, by: str = "") -> None:
    """Push content whose blobs are there."""
    await metadata.put_manifest(
        A,
        parsed(content),
        tags=[Tag(tag) for tag in tags],
        condition=None,
        check_children=True,
        recorded=Recorded(Platform("amd64", "linux"), Actor(by)),
    )


async def link(metadata: CheckableStore, *contents: Content) -> None:
    """Link the blobs of contents."""
    for content in contents:
        for blob in content.blobs:
            await add_blob(metadata, A, Digest.of(blob))


class TestRepositories:
    """Counts and times of a repository."""

    async def test_counts(self, metadata: CheckableStore, clock: Clock) -> None:
        """Counts follow pushes and deletes; a tag that moves is counted once."""
        with pytest.raises(NameUnknown):
            await metadata.get_repository(A)
        await link(metadata, FIRST, image(2))
        clock.now += 1
        await push(metadata, FIRST, "v1", "v2")
        found = await metadata.get_repository(A)
        assert (found.manifest_count, found.tag_count) == (1, 2)
        assert (found.created, found.updated) == (clock.now - 1, clock.now)
        for contents, tags, counts in (
            (image(2), ("v1", "v3", "v3"), (2, 3)),
            (image(2), ("v1",), (2, 3)),
            (FIRST, (), (2, 3)),
        ):
            clock.now += 1
            await push(metadata, contents, *tags)
            found = await metadata.get_repository(A)
            assert (found.manifest_count, found.tag_count) == counts
            assert found.updated == clock.now
        await metadata.delete_tag(A, Tag("v3"))
        found = await metadata.get_repository(A)
        assert (found.manifest_count, found.tag_count) == (2, 2)
        clock.now += 1
        await metadata.delete_manifest(A, Digest(image(2).digest))
        found = await metadata.get_repository(A)
        assert (found.manifest_count, found.tag_count) == (1, 1)
        assert found.updated == clock.now

    async def test_list(self, metadata: CheckableStore) -> None:
        """Repositories are listed in ASCII order; hidden ones where they are asked for."""
        for name in (B, RepositoryName("a-b"), RepositoryName("a/b"), A):
            await add(metadata, name, FIRST)
        await metadata.change_repository(B, LockChange(Lock.LIST))
        page = await metadata.list_repository_properties(PageRequest(2))
        assert ([found.name for found in page.items], page.more) == (["a", "a-b"], True)
        page = await metadata.list_repository_properties(PageRequest(2, "a-b\0"))
        assert ([found.name for found in page.items], page.more) == (["a/b"], False)
        page = await metadata.list_repository_properties(PageRequest(9), hidden=True)
        assert [found.name for found in page.items] == ["a", "a-b", "a/b", "b"]

    async def test_delete(self, metadata: CheckableStore, clock: Clock) -> None:
        """A deleted repository is unknown, and begins again with the next manifest."""
        await add(metadata, A, FIRST)
        await push(metadata, FIRST, "v2")
        await metadata.change_repository(A, LockChange(Lock.LIST))
        gone = await metadata.delete_repository(A)
        assert gone == ([FIRST.digest], ["v1", "v2"])
        with pytest.raises(NameUnknown):
            await metadata.get_repository(A)
        with pytest.raises(NameUnknown):
            await metadata.delete_repository(A)
        with pytest.raises(NameUnknown):
            await metadata.change_repository(A, EVERY)
        with pytest.raises(NameUnknown):
            await metadata.list_tags(A, PageRequest(9))
        with pytest.raises(ManifestUnknown):
            await metadata.get_manifest(A, DIGEST)
        assert (await metadata.list_repositories(PageRequest(9))).items == []
        assert (await metadata.list_repository_properties(PageRequest(9))).items == []
        clock.now += 5
        await link(metadata, FIRST)
        await push(metadata, FIRST, "v1")
        found = await metadata.get_repository(A)
        assert (found.created, found.manifest_count, found.tag_count) == (clock.now, 1, 1)
        assert found.locks == NOTHING


class TestManifests:
    """What is known of a manifest."""

    async def test_image(self, metadata: CheckableStore, clock: Clock) -> None:
        """The config, the platform, the size of the blobs, who pushed it, and when again."""
        await link(metadata, FIRST)
        await push(metadata, FIRST, "v2", "v1", by="robot")
        pushed = clock.now
        clock.now += 1
        await push(metadata, FIRST, by="another")
        found = await metadata.get_manifest_properties(A, DIGEST)
        assert found.image_size == sum(map(len, FIRST.blobs))
        assert found.size == len(FIRST.manifest)
        assert found.config_media_type == "application/vnd.oci.image.config.v1+json"
        assert (found.architecture, found.os) == ("amd64", "linux")
        assert (found.pushed_by, found.index) == ("robot", None)
        assert (found.created, found.updated) == (pushed, pushed + 1)
        assert found.tags == ("v1", "v2")
        with pytest.raises(ManifestUnknown):
            await metadata.get_manifest_properties(A, UNKNOWN)
        with pytest.raises(ManifestUnknown):
            await metadata.get_manifest_properties(B, DIGEST)

    async def test_index(self, metadata: CheckableStore) -> None:
        """An index has the blobs of its manifests, each once, through other indexes too."""
        shared = Content(FIRST.manifest + b" ", FIRST.media_type, FIRST.blobs)
        inner = index(FIRST, shared)
        outer = index(inner, artifact(3))
        for blob in (*FIRST.blobs, *artifact(3).blobs):
            await metadata.commit_blob(
                A, Digest.of(blob), len(blob), session=None, place=lambda: None
            )
        for content in (FIRST, shared, artifact(3), inner, outer):
            await push(metadata, content)
        found = await metadata.get_manifest_properties(A, Digest(outer.digest))
        assert found.image_size == sum(map(len, (*FIRST.blobs, *artifact(3).blobs)))
        assert found.index == outer.manifest
        assert found.config_media_type is None

    async def test_describe(self, metadata: CheckableStore) -> None:
        """Manifests are read together, those of this repository, without their tags."""
        await add(metadata, B, image(3))
        await link(metadata, FIRST, image(2))
        await push(metadata, FIRST, "v1", by="alice")
        await push(metadata, image(2))
        wanted = [DIGEST, UNKNOWN, Digest(image(2).digest), Digest(image(3).digest), DIGEST]
        found = await metadata.describe_manifests(A, wanted)
        expected = [
            msgspec.structs.replace(await metadata.get_manifest_properties(A, digest), tags=())
            for digest in (DIGEST, wanted[2])
        ]
        assert sorted(found, key=lambda one: one.digest) == sorted(
            expected, key=lambda one: one.digest
        )
        assert await metadata.describe_manifests(A, []) == []
        assert await metadata.describe_manifests(RepositoryName("c"), wanted) == []

    async def test_hidden_tags(self, metadata: CheckableStore) -> None:
        """A tag that may not be listed is not named by its manifest, but counted."""
        await add(metadata, A, FIRST)
        await push(metadata, FIRST, "v2")
        await metadata.change_tag(A, V1, LockChange(Lock.LIST))
        assert (await metadata.get_manifest_properties(A, DIGEST)).tags == ("v2",)
        assert (await metadata.get_repository(A)).tag_count == 2


class TestWeakReferences:
    """Digests that a manifest names outside of the fields that it needs."""

    async def test_kept(self, metadata: CheckableStore) -> None:
        """They are recorded, need not be there, and do not keep a person from deleting."""
        named = Digest.of(b"named")
        content = image(1, annotations={"com.example.of": str(named)})
        await link(metadata, content)
        await add_blob(metadata, A, named)
        await push(metadata, content)
        records = {found.digest: found async for found in metadata.manifest_records()}
        record = records[content.digest]
        weak = [reference for reference in record.references if reference.weak]
        assert weak == [
            ReferenceRecord("blob", str(named), required=False, present=True, weak=True)
        ]
        removed: list[bool] = []
        await metadata.unlink_blob(A, named, remove=lambda: removed.append(True))
        assert removed == [True]

    async def test_another_type(self, metadata: CheckableStore) -> None:
        """A media type under which what the manifest needs is only named is refused."""
        content = image(1)
        await link(metadata, content)
        await push(metadata, content)
        manifest = parsed(content)
        weak = [
            msgspec.structs.replace(item, required=False, is_weak=True)
            for item in manifest.references
        ]
        with pytest.raises(ManifestInvalid):
            await metadata.put_manifest(
                A,
                msgspec.structs.replace(
                    manifest, media_type="application/json", references=tuple(weak)
                ),
                tags=[],
                condition=None,
                check_children=True,
            )


class TestOlderManifests:
    """Manifests that an older version received, without their properties."""

    async def test_are_described(self, metadata: CheckableStore) -> None:
        """Each once, and what was deleted in between is passed over."""
        named = Digest.of(b"named")
        content = image(1, annotations={"com.example.of": str(named)})
        await link(metadata, content, image(2))
        for pushed in (content, image(2)):
            await push(metadata, pushed)
        before = await metadata.get_manifest_properties(A, Digest(content.digest))
        assert await metadata.list_undescribed(9) == []
        await make_older(metadata)
        found = {item.digest: item for item in await metadata.list_undescribed(9)}
        assert found.keys() == {content.digest, image(2).digest}
        unknown = await metadata.get_manifest_properties(A, Digest(content.digest))
        assert (unknown.image_size, unknown.architecture) == (None, None)
        await metadata.delete_manifest(A, Digest(image(2).digest))
        for item in found.values():
            manifest = read_manifest(
                item.payload, media_type=item.media_type, expected=Digest(item.digest)
            )
            await metadata.describe_manifest(item, manifest, Platform("amd64", "linux"))
        assert await metadata.list_undescribed(9) == []
        assert await metadata.get_manifest_properties(A, Digest(content.digest)) == before
        records = {found.digest: found async for found in metadata.manifest_records()}
        record = records[content.digest]
        assert [item.digest for item in record.references if item.weak] == [named]

    async def test_unreadable(self, metadata: CheckableStore) -> None:
        """What cannot be read is not read again and again."""
        await add(metadata, A, FIRST)
        await make_older(metadata)
        (found,) = await metadata.list_undescribed(1)
        await metadata.describe_manifest(found, None, Platform())
        assert await metadata.list_undescribed(1) == []
        assert (await metadata.get_manifest_properties(A, DIGEST)).image_size == 0


async def make_older(metadata: CheckableStore) -> None:
    """Take from every manifest what an older version did not record."""
    database: Database = metadata._database  # type: ignore[attr-defined]  # noqa: SLF001  # no older version is at hand
    await database.execute("DELETE FROM manifest_references WHERE weak")
    await database.execute(
        "UPDATE manifests SET image_size = NULL, architecture = NULL, os = NULL,"
        " config_media_type = NULL"
    )


class TestLists:
    """Lists of tags and manifests, by name and by time."""

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            (Order.NAME, ["a", "b", "c", "d"]),
            (Order.OLDEST_FIRST, ["c", "a", "b", "d"]),
            (Order.NEWEST_FIRST, ["d", "b", "a", "c"]),
        ],
    )
    async def test_tags(
        self, metadata: CheckableStore, clock: Clock, order: Order, expected: list[str]
    ) -> None:
        """Each tag is listed once, those of one time among them, as is one that was deleted."""
        await link(metadata, FIRST)
        for tags in ("ab", "c", "ab", "d"):
            clock.now += tags != "d"
            await push(metadata, FIRST, *tags)
        listed: list[str] = []
        request = OrderedPageRequest(1, order, START[order])
        while True:
            page = await metadata.list_tag_properties(A, request)
            (found,) = page.items
            listed.append(found.name)
            if not page.more:
                break
            await metadata.delete_tag(A, Tag(found.name))
            request = request._replace(after=Position(found.updated, found.name))
        assert listed == expected

    @pytest.mark.parametrize("order", Order)
    async def test_manifests(self, metadata: CheckableStore, clock: Clock, order: Order) -> None:
        """A manifest that was pushed again is the newest one; pages hold each one once."""
        contents = [image(number) for number in range(3)]
        await link(metadata, *contents)
        for content in (*contents, contents[0]):
            clock.now += 1
            await push(metadata, content)
        by_time = [contents[number].digest for number in (1, 2, 0)]
        expected = {
            Order.NAME: sorted(by_time),
            Order.OLDEST_FIRST: by_time,
            Order.NEWEST_FIRST: by_time[::-1],
        }
        request = OrderedPageRequest(2, order, START[order])
        page = await metadata.list_manifest_properties(A, request)
        assert page.more
        last = page.items[-1]
        request = request._replace(after=Position(last.updated, last.digest))
        rest = await metadata.list_manifest_properties(A, request)
        assert not rest.more
        assert [found.digest for found in (*page.items, *rest.items)] == expected[order]

    async def test_many_tags(self, metadata: CheckableStore) -> None:
        """A manifest names the first of its many tags; one with few is not affected."""
        await link(metadata, FIRST, image(2))
        names = [f"t{number:04}" for number in range(1003)]
        await push(metadata, FIRST, *names)
        await push(metadata, image(2), "z")
        await metadata.change_tag(A, Tag("t0000"), LockChange(Lock.LIST))
        page = await metadata.list_manifest_properties(A, OrderedPageRequest(9))
        found = {item.digest: item.tags for item in page.items}
        assert found == {FIRST.digest: tuple(names[1:1001]), image(2).digest: ("z",)}

    async def test_large_indexes(self, metadata: CheckableStore, clock: Clock) -> None:
        """A page holds as many large indexes as fit into memory, and at least one."""
        sizes = {"a": 1_500_000, "b": 1_500_000, "c": 1_500_000, "d": 4_500_000}
        indexes = [index(annotations={name: "x" * size}) for name, size in sizes.items()]
        for content in indexes:
            clock.now += 1
            await push(metadata, content)
        order = Order.OLDEST_FIRST
        request = OrderedPageRequest(9, order, START[order])
        pages: list[list[bytes | None]] = []
        more = True
        while more:
            page = await metadata.list_manifest_properties(A, request)
            pages.append([found.index for found in page.items])
            more, last = page.more, page.items[-1]
            request = request._replace(after=Position(last.updated, last.digest))
        payloads = [content.manifest for content in indexes]
        assert pages == [payloads[:2], payloads[2:3], payloads[3:]]

    async def test_tags_of_a_manifest(self, metadata: CheckableStore) -> None:
        """A list can be limited to the tags of one manifest, of this repository."""
        await add(metadata, B, FIRST)
        await link(metadata, FIRST, image(2))
        await push(metadata, FIRST, "a", "c")
        await push(metadata, image(2), "b")
        for order in Order:
            request = OrderedPageRequest(9, order, START[order])
            page = await metadata.list_tag_properties(A, request, DIGEST)
            assert sorted(found.name for found in page.items) == ["a", "c"]
            page = await metadata.list_tag_properties(A, request, UNKNOWN)
            assert page.items == []

    async def test_unknown(self, metadata: CheckableStore) -> None:
        """A repository that does not exist has no lists."""
        request = OrderedPageRequest(1)
        with pytest.raises(NameUnknown):
            await metadata.list_tag_properties(A, request)
        with pytest.raises(NameUnknown):
            await metadata.list_tag_properties(A, request, DIGEST)
        with pytest.raises(NameUnknown):
            await metadata.list_manifest_properties(A, request)

    async def test_hidden(self, metadata: CheckableStore) -> None:
        """What may not be listed is left out of every list, and had by name."""
        subject = parsed(FIRST).digest
        referrer = artifact(2, subject=FIRST.descriptor)
        await add(metadata, A, FIRST)
        await link(metadata, referrer)
        await push(metadata, referrer, "r")
        await metadata.change_tag(A, V1, LockChange(Lock.LIST))
        await metadata.change_manifest(A, Digest(referrer.digest), LockChange(Lock.LIST))
        request = OrderedPageRequest(9)
        assert (await metadata.list_tags(A, PageRequest(9))).items == ["r"]
        tags = await metadata.list_tag_properties(A, request)
        assert [found.name for found in tags.items] == ["r"]
        manifests = await metadata.list_manifest_properties(A, request)
        assert [found.digest for found in manifests.items] == [FIRST.digest]
        referrers = await metadata.list_referrers(A, subject, None, PageRequest(9), 10_000)
        assert referrers.items == []
        assert len((await metadata.list_tag_properties(A, request, hidden=True)).items) == 2
        assert len((await metadata.list_manifest_properties(A, request, hidden=True)).items) == 2
        assert (await metadata.get_manifest(A, V1)).digest == FIRST.digest
        await metadata.change_repository(A, LockChange(Lock.LIST))
        assert (await metadata.list_repositories(PageRequest(9))).items == []
        assert (await metadata.get_repository(A)).locks == Lock.LIST


def session() -> UploadSession:
    """Make an upload session."""
    return UploadSession(UploadId.fresh(), A, Algorithm.SHA256, created=1, updated=1)


Lockable = Callable[[CheckableStore, LockChange], Any]

PLACES: dict[str, Lockable] = {
    "repository": lambda metadata, change: metadata.change_repository(A, change),
    "tag": lambda metadata, change: metadata.change_tag(A, V1, change),
    "manifest": lambda metadata, change: metadata.change_manifest(A, DIGEST, change),
}

OPERATIONS: dict[str, Callable[[CheckableStore], Any]] = {
    "push": lambda metadata: push(metadata, image(2), "v1"),
    "push again": lambda metadata: push(metadata, FIRST, "v1"),
    "push another tag": lambda metadata: push(metadata, image(2), "v2"),
    "push a new tag": lambda metadata: push(metadata, FIRST, "v3"),
    "untag": lambda metadata: metadata.delete_tag(A, V1),
    "untag another": lambda metadata: metadata.delete_tag(A, V2),
    "delete manifest": lambda metadata: metadata.delete_manifest(A, DIGEST),
    "delete another manifest": lambda metadata: metadata.delete_manifest(
        A, Digest(image(2).digest)
    ),
    "delete repository": lambda metadata: metadata.delete_repository(A),
    "delete blob": lambda metadata: metadata.unlink_blob(
        A, Digest.of(b"free"), remove=lambda: None
    ),
    "pull tag": lambda metadata: metadata.get_manifest(A, V1),
    "pull another tag": lambda metadata: metadata.get_manifest(A, V2),
    "pull manifest": lambda metadata: metadata.get_manifest(A, DIGEST),
    "pull blob": lambda metadata: metadata.get_blob(A, Digest.of(b"free")),
    "mount": lambda metadata: metadata.mount_blob(B, Digest.of(b"free"), A, size=4),
    "start upload": lambda metadata: metadata.open_upload(session()),
    "push blob": lambda metadata: add_blob(metadata, A, Digest.of(b"free")),
    "mount here": lambda metadata: metadata.mount_blob(A, Digest.of(b"there"), None, size=4),
}

PUSHES = ["push", "push again", "push another tag", "push a new tag", "start upload"]
PUSHES += ["push blob", "mount here"]
DELETES = [
    *("untag", "untag another", "delete manifest", "delete another manifest", "delete blob"),
    "delete repository",
]
OF_TAG = ["untag", "delete manifest", "delete repository"]

REFUSED: dict[tuple[str, Lock], list[str]] = {
    ("repository", Lock.WRITE): [*PUSHES, *DELETES],
    ("repository", Lock.DELETE): ["delete repository"],
    ("repository", Lock.READ): [
        *("pull tag", "pull another tag", "pull manifest", "pull blob", "mount")
    ],
    ("repository", Lock.LIST): [],
    ("tag", Lock.WRITE): ["push", "push again", *OF_TAG],
    ("tag", Lock.DELETE): OF_TAG,
    ("tag", Lock.READ): ["pull tag"],
    ("tag", Lock.LIST): [],
    ("manifest", Lock.WRITE): ["delete manifest", "delete repository"],
    ("manifest", Lock.DELETE): ["delete manifest", "delete repository"],
    ("manifest", Lock.READ): ["pull tag", "pull manifest"],
    ("manifest", Lock.LIST): [],
}
"""What each lock refuses, written down by hand: `v1` points to the manifest, `v2` to another."""


class TestLocks:
    """Every lock with every operation."""

    @pytest.mark.parametrize(("place", "lock"), REFUSED)
    async def test_refusals(self, metadata: CheckableStore, place: str, lock: Lock) -> None:
        """A lock refuses what it should and nothing else, and names the object and the flag."""
        free = {"delete repository"}
        for operation, run in OPERATIONS.items():
            await link(metadata, FIRST, image(2))
            await add_blob(metadata, A, Digest.of(b"free"))
            await add_blob(metadata, B, Digest.of(b"there"))
            await push(metadata, FIRST, "v1")
            await push(metadata, image(2), "v2")
            await PLACES[place](metadata, LockChange(lock))
            if operation in REFUSED[place, lock]:
                before = await metadata.get_repository(A)
                error = BlobUnknown if operation == "mount" else OperationDisallowed
                with pytest.raises(error) as refused:
                    await run(metadata)
                assert await metadata.get_repository(A) == before
                if error is OperationDisallowed:
                    (detail,) = refused.value.details
                    assert f"{place} " in detail
                    assert "Enabled is false" in detail
            else:
                await run(metadata)
            if operation not in free or operation in REFUSED[place, lock]:
                await _unlock(metadata, place)
                await metadata.delete_repository(A)

    async def test_changes(self, metadata: CheckableStore, clock: Clock) -> None:
        """A change leaves the other locks, and every time, as they are."""
        await add(metadata, A, FIRST)
        before = [
            await metadata.get_repository(A),
            await metadata.get_tag(A, V1),
            await metadata.get_manifest_properties(A, DIGEST),
        ]
        clock.now += 1
        for change, locks in (
            (LockChange(Lock.WRITE | Lock.READ), Lock.WRITE | Lock.READ),
            (LockChange(Lock.LIST, Lock.READ), Lock.WRITE | Lock.LIST),
            (LockChange(), Lock.WRITE | Lock.LIST),
            (EVERY, NOTHING),
        ):
            for place in PLACES.values():
                assert (await place(metadata, change)).locks == locks
        assert before == [
            await metadata.get_repository(A),
            await metadata.get_tag(A, V1),
            await metadata.get_manifest_properties(A, DIGEST),
        ]

    async def test_unknown(self, metadata: CheckableStore) -> None:
        """What does not exist cannot be locked, nor can what another repository has."""
        await add(metadata, B, FIRST)
        for repository in (A, B):
            with pytest.raises(TagUnknown):
                await metadata.get_tag(repository, V2)
            with pytest.raises(TagUnknown):
                await metadata.change_tag(repository, V2, EVERY)
            with pytest.raises(ManifestUnknown):
                await metadata.change_manifest(repository, UNKNOWN, EVERY)
        with pytest.raises(NameUnknown):
            await metadata.change_repository(A, EVERY)

    @pytest.mark.parametrize("lock", Lock)
    async def test_open_sessions(self, metadata: CheckableStore, lock: Lock) -> None:
        """A lock on writing alone refuses more bytes of a session; the session stays."""
        opened = session()
        await metadata.open_upload(opened)
        assert await metadata.get_upload(A, opened.id, writable=True) == opened
        await add(metadata, A, FIRST)
        await add(metadata, B, FIRST)
        await metadata.change_repository(B, LockChange(Lock.WRITE))
        await metadata.change_repository(A, LockChange(lock))
        if lock is Lock.WRITE:
            with pytest.raises(OperationDisallowed, match=f"repository {A} is locked"):
                await metadata.get_upload(A, opened.id, writable=True)
        else:
            assert await metadata.get_upload(A, opened.id, writable=True) == opened
        assert await metadata.get_upload(A, opened.id) == opened
        await metadata.change_repository(A, EVERY)
        assert await metadata.get_upload(A, opened.id, writable=True) == opened
        await metadata.close_upload(opened)

    async def test_lock_stays_with_a_tag(self, metadata: CheckableStore) -> None:
        """A tag that may not be deleted can move, and stays locked."""
        await add(metadata, A, FIRST)
        await link(metadata, image(2))
        await metadata.change_tag(A, V1, LockChange(Lock.DELETE))
        await push(metadata, image(2), "v1")
        assert (await metadata.get_tag(A, V1)).locks == Lock.DELETE

    async def test_another_type(self, metadata: CheckableStore) -> None:
        """A manifest that is locked keeps its media type."""
        content = Content(b'{"a": 1}', "application/vnd.a+json")
        other = Content(content.manifest, "application/vnd.b+json")
        await push(metadata, content)
        digest = Digest(content.digest)
        await metadata.change_manifest(A, digest, LockChange(Lock.WRITE))
        with pytest.raises(OperationDisallowed):
            await push(metadata, other)
        await push(metadata, content)
        await metadata.change_manifest(A, digest, EVERY)
        await push(metadata, other)


async def _unlock(metadata: CheckableStore, place: str) -> None:
    """Take the locks of a place away, if it is still there."""
    with contextlib.suppress(TagUnknown, ManifestUnknown, NameUnknown):
        await PLACES[place](metadata, EVERY)
