"""No repository takes more than its quota, however many push to it at once."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import QuotaExceeded, RegistryError, UploadBusy
from portside.spec.names import RepositoryName, Tag
from portside.spec.patterns import RepositoryPattern
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.interfaces import MetadataStore, Place, Undo
from portside.stores.metadata.postgres.transactions import QUICK
from portside.stores.trash import DeletedManifest
from stores.conftest import CheckableStore, Clock, PostgresShelf, Shelf
from stores.test_metadata_contract import parsed
from support.content import Content, artifact
from support.postgres import Server
from support.waiting import PATIENCE

A, B = RepositoryName("a"), RepositoryName("b")
BLOBS = [Digest.of(b"%d" % number) for number in range(8)]
FAR = 10**16


async def push(
    metadata: MetadataStore,
    digest: Digest,
    size: int,
    quota: int | None,
    repository: RepositoryName = A,
    place: Place = lambda: None,
) -> None:
    """Push a blob."""
    await metadata.commit_blob(repository, digest, size, session=None, place=place, quota=quota)


async def put(metadata: MetadataStore, content: Content, quota: int, *tags: str) -> None:
    """Push a manifest."""
    await metadata.put_manifest(
        A,
        parsed(content),
        tags=[Tag(tag) for tag in tags],
        condition=None,
        check_children=True,
        quota=quota,
    )


async def taken(metadata: CheckableStore, repository: RepositoryName = A) -> int:
    """Return what `portside usage` says of a repository."""
    found = await metadata.measure_usage(RepositoryPattern(str(repository)))
    (size,) = [one.usage.bytes for one in found.repositories] or [0]
    return size


async def refusal(error: pytest.ExceptionInfo[QuotaExceeded]) -> str:
    """Return what a client is told."""
    (detail,) = error.value.details
    return detail


class TestBlobs:
    """Blobs that are pushed and mounted."""

    async def test_up_to_the_last_byte(self, metadata: CheckableStore) -> None:
        """What fits is added, and nothing of what does not; the bytes are not even placed."""
        placed: list[str] = []
        await push(metadata, BLOBS[0], 60, 100)
        await push(metadata, BLOBS[1], 40, 100)
        with pytest.raises(QuotaExceeded) as error:
            await push(metadata, BLOBS[2], 1, 100, place=lambda: placed.append("placed"))
        assert await refusal(error) == (
            "repository a takes 100 B of its quota of 100 B, and 1 B more do not fit; to free"
            " space, delete old images (`portside purge`), empty the trash (0 B, `portside trash"
            " empty`), and collect what no manifest needs (100 B, `portside collect --grace 0`)"
        )
        assert placed == []
        assert await taken(metadata) == 100
        assert await metadata.known_blobs(BLOBS) == {*BLOBS[:2]}

    async def test_what_is_there_costs_nothing(self, metadata: CheckableStore) -> None:
        """A blob that the repository has can be pushed and mounted again, whatever it takes."""
        for repository in (A, B):
            await push(metadata, BLOBS[0], 60, None, repository)
        await push(metadata, BLOBS[0], 60, 10)
        await metadata.mount_blob(A, BLOBS[0], B, size=60, quota=10)
        assert await taken(metadata) == 60

    async def test_a_new_repository(self, metadata: CheckableStore) -> None:
        """Its first blob must fit as well, and a refusal leaves no repository."""
        with pytest.raises(QuotaExceeded):
            await push(metadata, BLOBS[0], QUICK + 1, QUICK)
        assert await taken(metadata) == 0
        await push(metadata, BLOBS[0], QUICK + 1, QUICK + 1)
        assert await taken(metadata) == QUICK + 1

    async def test_more_than_the_whole(self, metadata: CheckableStore) -> None:
        """Nothing that is deleted makes room for a blob that is larger than the quota."""
        await push(metadata, BLOBS[0], 100, 100)
        with pytest.raises(QuotaExceeded) as error:
            await push(metadata, BLOBS[1], 100, 100)
        assert "100 B more do not fit; to free space" in await refusal(error)
        with pytest.raises(QuotaExceeded) as error:
            await push(metadata, BLOBS[1], 101, 100)
        assert await refusal(error) == (
            "101 B are more than the whole quota of repository a, 100 B; push smaller layers, or"
            " raise the quota"
        )

    async def test_mounts(self, metadata: CheckableStore) -> None:
        """A mount takes the size of the blob, as bytes that are shared do."""
        await push(metadata, BLOBS[0], 60, None, B)
        await push(metadata, BLOBS[1], 60, None, B)
        await metadata.mount_blob(A, BLOBS[0], B, size=60, quota=100)
        with pytest.raises(QuotaExceeded) as error:
            await metadata.mount_blob(A, BLOBS[1], None, size=60, quota=100)
        assert (await refusal(error)).startswith(
            "repository a takes 60 B of its quota of 100 B, and 60 B more do not fit; "
        )
        assert (await taken(metadata), await taken(metadata, B)) == (60, 120)

    async def test_what_goes_makes_room(self, metadata: CheckableStore) -> None:
        """A blob that was unlinked takes nothing any more."""
        await push(metadata, BLOBS[0], 100, 100)
        await metadata.unlink_blob(A, BLOBS[0], remove=lambda: None)
        await push(metadata, BLOBS[1], 100, 100)
        assert await taken(metadata) == 100

    async def test_room(self, metadata: CheckableStore) -> None:
        """What is left is known before a push; a repository may take too much already."""
        assert await metadata.measure_room(A, 100) == 100
        await push(metadata, BLOBS[0], 60, None)
        assert await metadata.measure_room(A, 100) == 40
        assert await metadata.measure_room(A, 10, BLOBS[1]) == -50
        assert await metadata.measure_room(A, 10, BLOBS[0]) is None
        explained = await metadata.explain_quota(A, 10, 0)
        assert explained.details[0].startswith(
            "repository a takes 60 B of its quota of 10 B; to free space"
        )

    async def test_upload_sessions(self, metadata: CheckableStore) -> None:
        """What all open ones of a repository have received is no more than its quota."""
        first, second, foreign = [
            UploadSession(UploadId.fresh(), name, Algorithm("sha256"), 1, 1) for name in (A, A, B)
        ]
        for session, received in ((first, 70), (second, 30), (foreign, 100)):
            await metadata.open_upload(session)
            await metadata.advance_upload(session.at(received), origin=0, quota=100)
        assert await metadata.measure_room(A, 100) == 100
        assert await metadata.measure_room(A, 100, upload=second.id) == 30
        with pytest.raises(QuotaExceeded) as error:
            await metadata.advance_upload(second.at(31), origin=30, quota=100)
        explained = (
            "open upload sessions of repository a have received 100 B, and together they may have"
            " 100 B, its quota; finish or cancel some, or wait until they expire"
        )
        assert error.value.details == (explained,)
        assert (await metadata.explain_quota(A, 100, 31)).details == (explained,)
        assert (await metadata.get_upload(A, second.id)).offset == 30
        with pytest.raises(UploadBusy):
            await metadata.advance_upload(second.at(10), origin=0, quota=100)
        await metadata.close_upload(first.at(70))
        await metadata.advance_upload(second.at(100), origin=30, quota=100)


class TestManifests:
    """The payloads of manifests."""

    async def test_life(self, metadata: CheckableStore, clock: Clock) -> None:
        """They take space until they are purged; what is there can be pushed and restored."""
        one, other = (artifact("it", kind, layers=[]) for kind in ("type/one", "type/two"))
        size = len(one.manifest)
        await push(metadata, Digest.of(b"{}"), 2, None)
        quota = 2 + size + 5
        await put(metadata, one, quota, "v1")
        with pytest.raises(QuotaExceeded):
            await put(metadata, other, quota, "v2")
        await put(metadata, one, quota, "v3")
        assert await taken(metadata) == 2 + size
        await metadata.delete_manifest(A, Digest(one.digest))
        with pytest.raises(QuotaExceeded) as error:
            await put(metadata, other, quota, "v2")
        assert f"empty the trash ({size + 2} B, " in await refusal(error)
        await put(metadata, one, quota)
        await metadata.delete_manifest(A, Digest(one.digest))
        await metadata.restore_manifest(A, Digest(one.digest))
        await metadata.delete_manifest(A, Digest(one.digest))
        clock.now += 1
        (found,) = await metadata.list_expired_manifests(FAR, limit=9)
        assert isinstance(found, DeletedManifest)
        await metadata.purge_manifest(found, FAR)
        assert await taken(metadata) == 2
        await put(metadata, other, quota, "v2")
        assert await taken(metadata) == 2 + len(other.manifest)

    async def test_a_refused_one_leaves_nothing(self, metadata: CheckableStore) -> None:
        """Neither the manifest nor its tag, and the numbers stay as they were."""
        content = artifact("one")
        for blob in content.blobs:
            await push(metadata, Digest.of(blob), 2, None)
        with pytest.raises(QuotaExceeded):
            await put(metadata, content, 5, "v1")
        (record,) = [record async for record in metadata.repository_records()]
        assert (
            (record.manifests, record.tags) == (record.manifest_count, record.tag_count) == (0, 0)
        )
        assert record.bytes == record.recorded_bytes == 2 * len(content.blobs)


@pytest.mark.parametrize("seed", range(4))
async def test_races(shelf: Shelf, seed: int) -> None:
    """Of many that push, mount, put and unlink at once, none exceeds the quota."""
    chance = random.Random(seed)
    nodes = [shelf.metadata() for _ in range(3)]
    sizes = {digest: chance.randrange(1, 60) for digest in BLOBS}
    contents = [artifact(f"{seed}-{number}") for number in range(4)]
    quota = 200 + len(contents[0].manifest)
    for digest, size in sizes.items():
        await push(nodes[0], digest, size, None, B)
    succeeded = 0

    async def act(number: int) -> None:
        nonlocal succeeded
        node, digest = chance.choice(nodes), chance.choice(BLOBS)
        with suppress(RegistryError):
            match number % 4:
                case 0:
                    await push(node, digest, sizes[digest], quota)
                case 1:
                    await node.mount_blob(A, digest, B, size=sizes[digest], quota=quota)
                case 2:
                    content = chance.choice(contents)
                    for blob in content.blobs:
                        await push(node, Digest.of(blob), len(blob), quota)
                    await put(node, content, quota)
                case 3:
                    await node.unlink_blob(A, digest, remove=lambda: None)
            succeeded += 1
            assert await taken(node) <= quota

    for _ in range(5):
        await asyncio.gather(*map(act, range(12)))
        assert await taken(nodes[0]) <= quota
    assert succeeded
    async for record in nodes[0].repository_records():
        assert record.recorded_bytes == record.bytes


class TestLastBytes:
    """Those who place their bytes while others do, which only PostgreSQL lets them."""

    @pytest.fixture
    @staticmethod
    async def shelf(postgresql: Server, clock: Clock) -> AsyncIterator[PostgresShelf]:
        """Make an empty database."""
        shelf = await PostgresShelf.create(postgresql, clock)
        yield shelf
        await shelf.close()

    async def test_one_of_those_who_have_placed_theirs(self, shelf: PostgresShelf) -> None:
        """None of them sees the rows of the others before it waits for the repository."""
        count = 3
        nodes = [shelf.metadata() for _ in range(count)]
        await push(nodes[0], BLOBS[7], 10, None)
        have_placed = threading.Barrier(count)

        def place() -> None:
            have_placed.wait(PATIENCE)

        pushing = [
            push(node, digest, 60, 129, place=place)
            for node, digest in zip(nodes, BLOBS, strict=False)
        ]
        outcomes = await asyncio.gather(*pushing, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(QuotaExceeded) == count - 1
        assert await taken(nodes[0]) == 70

    @pytest.mark.parametrize("other", ["blob", "mount", "manifest"])
    async def test_the_first_to_commit_wins(self, shelf: PostgresShelf, other: str) -> None:
        """The other one is refused after it has placed its bytes, which are removed again."""
        slow, quick = shelf.metadata(), shelf.metadata()
        content = artifact("one")
        for blob in content.blobs:
            await push(quick, Digest.of(blob), 1, None)
        await push(quick, BLOBS[1], 60, None, B)
        took = await taken(quick)
        quota = took + (len(content.manifest) if other == "manifest" else 60)
        is_placing, may_go_on = threading.Event(), threading.Event()
        undone: list[str] = []

        def place() -> Undo:
            is_placing.set()
            may_go_on.wait(PATIENCE)
            return lambda: undone.append("undone")

        pushing = asyncio.create_task(push(slow, BLOBS[0], 60, quota, place=place))
        await asyncio.to_thread(is_placing.wait, 20)
        match other:
            case "blob":
                await push(quick, BLOBS[1], 60, quota)
            case "mount":
                await quick.mount_blob(A, BLOBS[1], B, size=60, quota=quota)
            case "manifest":
                await put(quick, content, quota)
        now = await taken(quick)
        may_go_on.set()
        with pytest.raises(QuotaExceeded) as error:
            await pushing
        assert (await refusal(error)).startswith(f"repository a takes {now} B of its quota of")
        assert undone == ["undone"]
        assert await taken(quick) == now <= quota
        assert await quick.known_blobs(BLOBS[:1]) == set()
