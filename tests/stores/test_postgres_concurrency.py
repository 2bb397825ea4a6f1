"""PostgreSQL under many nodes at once: nothing dangles, and there is an order that explains it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import asyncpg
import pytest

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestInUse,
    ManifestUnknown,
    PreconditionFailed,
    RegistryError,
    Unavailable,
)
from portside.spec.manifests import Manifest, parse_manifest
from portside.spec.names import RepositoryName, Tag
from portside.stores.metadata.engine import Transaction
from portside.stores.metadata.postgres.transactions import QUICK
from portside.stores.metadata.store import Metadata
from stores.conftest import Clock, PostgresShelf
from support.blobs import listed
from support.content import Content, image, index
from support.postgres import Server
from support.waiting import PATIENCE

REPOSITORIES = [RepositoryName("a"), RepositoryName("b")]
A, B = REPOSITORIES
NODES = 3
KINDS = ["push", "mount", "unlink", "stray", "put", "delete", "untag"]
BLOB = Digest.of(b"blob")


class Shelves:
    """The bytes of blobs, as a blob store keeps them: a set that threads change."""

    def __init__(self) -> None:
        self.held: set[Digest] = set()
        self._busy: set[Digest] = set()
        self._lock = threading.Lock()
        self.met: list[Digest] = []

    def _alone(self, digest: Digest, act: Callable[[Digest], None]) -> None:
        """Act, slowly, and note if anybody else acts on the same digest at the same time."""
        with self._lock:
            if digest in self._busy:
                self.met.append(digest)
            self._busy.add(digest)
        threading.Event().wait(0.0005)
        act(digest)
        with self._lock:
            self._busy.discard(digest)

    def place(self, digest: Digest) -> Callable[[], None]:
        """Return the function that puts bytes there."""
        return lambda: self._alone(digest, self.held.add)

    def remove(self, digest: Digest) -> Callable[[], None]:
        """Return the function that removes them."""
        return lambda: self._alone(digest, self.held.discard)


@pytest.fixture
async def shelf(postgresql: Server, clock: Clock) -> AsyncIterator[PostgresShelf]:
    """Make an empty database."""
    shelf = await PostgresShelf.create(postgresql, clock)
    yield shelf
    await shelf.close()


@pytest.fixture
def nodes(shelf: PostgresShelf) -> list[Metadata]:
    """Open it by several pools."""
    return [shelf.metadata() for _ in range(NODES)]


def parsed(content: Content) -> Manifest:
    """Read a manifest as the edge does."""
    return parse_manifest(content.manifest, content_type=content.media_type)


async def push(
    node: Metadata, shelves: Shelves, repository: RepositoryName, digest: Digest
) -> None:
    """Commit a blob."""
    place = shelves.place(digest)
    await node.commit_blob(repository, digest, 4, session=None, place=place)


async def problems(node: Metadata, shelves: Shelves) -> list[str]:
    """List what dangles."""
    known = {record.digest async for record in node.blob_records()}
    found = await listed(node.integrity_problems())
    found += [f"{digest} has no bytes" for digest in known - set(map(str, shelves.held))]
    found += [f"{digest} has no row" for digest in set(map(str, shelves.held)) - known]
    found += [f"{digest} met another" for digest in shelves.met]
    async for record in node.manifest_records():
        found += [
            f"{record.digest} lacks {reference.digest}"
            for reference in record.references
            if reference.required and not reference.present
        ]
    return found


class TestEverything:
    """All writers at once, over a few objects."""

    @pytest.mark.parametrize("seed", range(3))
    async def test_nothing_dangles(self, nodes: list[Metadata], seed: int) -> None:
        """After pushes, mounts, deletes and moved tags, each thing has all that it needs."""
        chance = random.Random(seed)
        shelves = Shelves()
        images = [image("shared", layers=1 + number % 2, turn=number) for number in range(3)]
        lists = [index(images[0], images[1]), index(images[1], images[2])]
        blobs = sorted({Digest.of(blob) for content in images for blob in content.blobs})
        manifests = [parsed(content) for content in (*images, *lists)]
        unexpected: list[BaseException] = []
        done: dict[str, int] = {}

        def choose() -> tuple[str, Awaitable[object]]:
            node = chance.choice(nodes)
            repository, other = chance.sample(REPOSITORIES, 2)
            digest, manifest = chance.choice(blobs), chance.choice(manifests)
            tag = Tag(chance.choice(["one", "two"]))
            kind = chance.choice(["push", "push", *KINDS])
            acts: dict[str, Callable[[], Awaitable[object]]] = {
                "push": lambda: push(node, shelves, repository, digest),
                "mount": lambda: node.mount_blob(repository, digest, other, size=4),
                "unlink": lambda: node.unlink_blob(
                    repository, digest, remove=shelves.remove(digest)
                ),
                "stray": lambda: node.remove_orphaned_blob(digest, remove=shelves.remove(digest)),
                "put": lambda: node.put_manifest(
                    repository, manifest, tags=[tag], condition=None, check_children=True
                ),
                "delete": lambda: node.delete_manifest(repository, manifest.digest),
                "untag": lambda: node.delete_tag(repository, tag),
            }
            return kind, acts[kind]()

        async def client() -> None:
            for _ in range(60):
                kind, act = choose()
                try:
                    await act
                except (Unavailable, AssertionError) as error:
                    unexpected.append(error)
                except RegistryError:
                    continue
                done[kind] = done.get(kind, 0) + 1

        await asyncio.gather(*(client() for _ in range(10)))
        assert unexpected == []
        assert await problems(nodes[0], shelves) == []
        assert set(done) == set(KINDS)


class TestOrders:
    """Pairs that exclude one another: one of the two orders explains what came of it."""

    @pytest.mark.parametrize("turn", range(10))
    async def test_a_manifest_and_the_end_of_its_blob(
        self, nodes: list[Metadata], turn: int
    ) -> None:
        """Either the manifest is there and its blob in use, or the blob is gone first."""
        content, shelves = image(turn), Shelves()
        manifest, digest = parsed(content), Digest.of(content.blobs[0])
        for blob in content.blobs:
            await push(nodes[0], shelves, A, Digest.of(blob))
        put, unlinked = await asyncio.gather(
            nodes[1].put_manifest(A, manifest, tags=[], condition=None, check_children=True),
            nodes[2].unlink_blob(A, digest, remove=shelves.remove(digest)),
            return_exceptions=True,
        )
        assert (put is None) != (unlinked is None)
        assert put is None or isinstance(put, ManifestBlobUnknown)
        assert await problems(nodes[0], shelves) == []

    @pytest.mark.parametrize("turn", range(10))
    async def test_an_index_and_the_end_of_its_manifest(
        self, nodes: list[Metadata], turn: int
    ) -> None:
        """Either the index is there and its manifest in use, or the manifest is gone first."""
        content, shelves = image(turn), Shelves()
        child, parent = parsed(content), parsed(index(content))
        for blob in content.blobs:
            await push(nodes[0], shelves, A, Digest.of(blob))
        await nodes[0].put_manifest(A, child, tags=[], condition=None, check_children=True)
        put, deleted = await asyncio.gather(
            nodes[1].put_manifest(A, parent, tags=[], condition=None, check_children=True),
            nodes[2].delete_manifest(A, child.digest),
            return_exceptions=True,
        )
        assert (put is None) != (deleted is None)
        assert isinstance(put or deleted, ManifestBlobUnknown | ManifestInUse)
        assert await problems(nodes[0], shelves) == []

    @pytest.mark.parametrize("turn", range(10))
    async def test_a_mount_and_the_end_of_its_source(
        self, nodes: list[Metadata], turn: int
    ) -> None:
        """A mount finds its source, and the bytes stay, or it comes too late, and they are gone."""
        digest, shelves = Digest.of(b"%d" % turn), Shelves()
        await push(nodes[0], shelves, A, digest)
        mounted, unlinked = await asyncio.gather(
            nodes[1].mount_blob(B, digest, A, size=4),
            nodes[2].unlink_blob(A, digest, remove=shelves.remove(digest)),
            return_exceptions=True,
        )
        assert unlinked is None
        assert mounted is None or isinstance(mounted, BlobUnknown)
        assert (digest in shelves.held) == (mounted is None)
        assert await problems(nodes[0], shelves) == []

    async def test_one_of_many_creates_a_tag(self, nodes: list[Metadata]) -> None:
        """Of those that push a tag only if there is none, one does, and the tag is its."""
        shelves = Shelves()
        contents = [image(number) for number in range(9)]
        for content in contents:
            for blob in content.blobs:
                await push(nodes[0], shelves, A, Digest.of(blob))
        manifests = [parsed(content) for content in contents]
        never = TagCondition(none_match=("*",))
        results = await asyncio.gather(
            *(
                nodes[number % NODES].put_manifest(
                    A, manifest, tags=[Tag("v1")], condition=never, check_children=True
                )
                for number, manifest in enumerate(manifests)
            ),
            return_exceptions=True,
        )
        (winner,) = [number for number, result in enumerate(results) if result is None]
        others = [result for result in results if result is not None]
        assert all(isinstance(result, PreconditionFailed) for result in others)
        found = await nodes[0].get_manifest(A, Tag("v1"))
        assert found.digest == str(manifests[winner].digest)

    async def test_the_last_of_a_chain_of_moves(self, nodes: list[Metadata]) -> None:
        """Moves that each name the digest they move from form one chain, with no link twice."""
        shelves = Shelves()
        contents = [image(number) for number in range(8)]
        manifests = [parsed(content) for content in contents]
        moves: list[tuple[str, str]] = []

        async def mover(node: Metadata, number: int) -> None:
            for turn in range(8):
                current = (await node.get_manifest(A, Tag("v1"))).digest
                target = manifests[(number + turn) % len(manifests)]
                condition = TagCondition(match=(current,))
                with suppress(PreconditionFailed):
                    await node.put_manifest(
                        A, target, tags=[Tag("v1")], condition=condition, check_children=True
                    )
                    moves.append((current, str(target.digest)))

        for content in contents:
            for blob in content.blobs:
                await push(nodes[0], shelves, A, Digest.of(blob))
        first = manifests[0]
        await nodes[0].put_manifest(A, first, tags=[Tag("v1")], condition=None, check_children=True)
        await asyncio.gather(*(mover(nodes[n % NODES], n) for n in range(6)))
        last = (await nodes[0].get_manifest(A, Tag("v1"))).digest
        # A walk that uses every move once exists if each digest is left as often as it is
        # reached, but for the first and the last.
        balance = {digest: 0 for move in moves for digest in move}
        balance.setdefault(last, 0)
        balance[str(first.digest)] = balance.get(str(first.digest), 0) + 1
        balance[last] -= 1
        for start, end in moves:
            balance[start] -= 1
            balance[end] += 1
        assert set(balance.values()) == {0}


class TestWaiting:
    """Who waits for whom."""

    async def test_a_commit_goes_on_without_its_request(self, nodes: list[Metadata]) -> None:
        """A request that is cancelled while bytes are placed leaves a whole blob."""
        shelves = Shelves()
        placing, go_on = threading.Event(), threading.Event()

        def place() -> None:
            placing.set()
            go_on.wait(2 * PATIENCE)
            shelves.held.add(BLOB)

        commit = nodes[0].commit_blob(A, BLOB, 4, session=None, place=place)
        pushing = asyncio.create_task(commit)
        await asyncio.to_thread(placing.wait, PATIENCE)
        pushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pushing
        # Another request for the same digest waits until the thread is done.
        dropping = asyncio.create_task(
            nodes[1].remove_orphaned_blob(BLOB, remove=shelves.remove(BLOB))
        )
        go_on.set()
        assert not await dropping
        assert (await nodes[1].get_blob(A, BLOB)).size == 4
        assert await problems(nodes[0], shelves) == []

    async def test_hold_blob(self, nodes: list[Metadata]) -> None:
        """While a blob is held nobody changes it, and afterwards everybody does."""
        shelves = Shelves()
        async with nodes[1].hold_blob(BLOB):
            pushing = asyncio.create_task(push(nodes[0], shelves, A, BLOB))
            await asyncio.wait({pushing}, timeout=0.2)
            assert not pushing.done()
            assert await nodes[1].blob_record(str(BLOB)) is None
            assert shelves.held == set()
            # Nobody else waits, and so nobody waits for one another.
            await push(nodes[0], shelves, A, Digest.of(b"other"))
        await pushing
        assert await problems(nodes[1], shelves) == []

    async def test_different_blobs_do_not_wait(self, nodes: list[Metadata]) -> None:
        """While the bytes of one blob are placed, another one of the same repository goes on."""
        placing, go_on = threading.Event(), threading.Event()

        def place() -> None:
            placing.set()
            go_on.wait(2 * PATIENCE)

        await push(nodes[0], Shelves(), A, Digest.of(b"first"))
        commit = nodes[0].commit_blob(A, BLOB, 4, session=None, place=place)
        slow = asyncio.create_task(commit)
        assert await asyncio.to_thread(placing.wait, PATIENCE)
        await push(nodes[1], Shelves(), A, Digest.of(b"other"))
        assert not slow.done()
        go_on.set()
        await slow

    async def test_a_link_is_free_while_its_bytes_are_placed_again(
        self, nodes: list[Metadata]
    ) -> None:
        """HEAD, a push and a delete of an image do not wait for a slow push of one of its blobs."""
        content, shelves = image("placed again"), Shelves()
        manifest, digest = parsed(content), Digest.of(content.blobs[0])
        for blob in content.blobs:
            await push(nodes[0], shelves, A, Digest.of(blob))
        placing, go_on = threading.Event(), threading.Event()

        def place() -> None:
            placing.set()
            go_on.wait(2 * PATIENCE)

        commit = nodes[0].commit_blob(A, digest, QUICK + 1, session=None, place=place)
        slow = asyncio.create_task(commit)
        try:
            assert await asyncio.to_thread(placing.wait, PATIENCE)
            async with asyncio.timeout(PATIENCE):
                await nodes[1].confirm_blob(A, digest)
                await nodes[1].put_manifest(
                    A, manifest, tags=[], condition=None, check_children=True
                )
                await nodes[1].delete_repository(A)
            assert not slow.done()
        finally:
            go_on.set()
            await slow
        # The push ends last, and what it pushed is there again.
        assert await nodes[1].get_blob(A, digest)
        assert await problems(nodes[0], shelves) == []


class TestNewRepository:
    """A repository that comes with its first blob."""

    async def test_no_push_waits_for_the_bytes_of_another(self, nodes: list[Metadata]) -> None:
        """While a large blob is placed, others are pushed to the same repository."""
        is_placing, may_end = threading.Event(), threading.Event()

        def place() -> None:
            is_placing.set()
            assert may_end.wait(2 * PATIENCE)

        large = asyncio.create_task(
            nodes[0].commit_blob(A, BLOB, QUICK + 1, session=None, place=place)
        )
        assert await asyncio.to_thread(is_placing.wait, PATIENCE)
        other = Digest.of(b"other")
        async with asyncio.timeout(PATIENCE):
            await nodes[1].commit_blob(A, other, 5, session=None, place=lambda: None)
        assert (await nodes[1].get_blob(A, other)).size == 5
        may_end.set()
        await large
        assert (await nodes[1].get_blob(A, BLOB)).size == QUICK + 1


class TestDeadlock:
    """Transactions that the server breaks off."""

    @pytest.mark.parametrize("rounds", [1, 2])
    async def test_once_more(self, shelf: PostgresShelf, rounds: int) -> None:
        """Of two that wait for one another both are done in the end, if once more is enough."""
        database = shelf.open()
        tries: list[str] = []
        first = "INSERT INTO blobs VALUES ('x', 1, 1) ON CONFLICT DO NOTHING"
        second = "INSERT INTO blobs VALUES ('y', 1, 1) ON CONFLICT DO NOTHING"
        together = asyncio.Barrier(2)

        async def job(transaction: Transaction, sqls: tuple[str, str]) -> None:
            tries.append(sqls[0])
            await transaction.execute(sqls[0])
            if len(tries) <= 2:
                await together.wait()
            if rounds == 2 and tries.count(sqls[0]) == 2:
                raise asyncpg.DeadlockDetectedError("again")
            await transaction.execute(sqls[1])

        results = await asyncio.gather(
            database.write(lambda transaction: job(transaction, (first, second))),
            database.write(lambda transaction: job(transaction, (second, first))),
            return_exceptions=True,
        )
        assert len(tries) == 3
        failed = [result for result in results if result is not None]
        assert all(isinstance(result, Unavailable) for result in failed)
        assert len(failed) == rounds - 1


class TestBlobsOfNobody:
    """What is refused leaves nothing."""

    async def test_unknown(self, nodes: list[Metadata]) -> None:
        """Deletes of what is not there take nothing along."""
        with pytest.raises(BlobUnknown):
            await nodes[0].unlink_blob(A, BLOB, remove=pytest.fail)
        with pytest.raises(ManifestUnknown):
            await nodes[0].delete_manifest(A, BLOB)


class TestSessions:
    """What one transaction sees and holds, beside others."""

    async def test_a_snapshot_is_one_state(self, shelf: PostgresShelf) -> None:
        """What is committed between two reads of a snapshot is not seen in it."""
        database, other = shelf.open(), shelf.open()
        count = "SELECT count(*) FROM repositories"
        async with database.snapshot() as queries:
            assert await queries.find_all(count) == [(0,)]
            await other.execute("INSERT INTO repositories (name, created) VALUES ('a', 1)")
            assert await queries.find(count) == (0,)
        assert await database.find(count) == (1,)

    async def test_old_failures_that_another_node_forgets(self, shelf: PostgresShelf) -> None:
        """A failed login does not wait for the node that removes the same rows."""
        access, database = shelf.access(), shelf.open()
        await access.add_failure("here", "alice", forget_before=0)

        async def job(transaction: Transaction) -> None:
            await transaction.execute("DELETE FROM login_failures")
            async with asyncio.timeout(PATIENCE):
                await access.add_failure("here", "bob", forget_before=2**60)

        await database.write(job)
        assert await access.count_failures("here", None, 0) == 1
