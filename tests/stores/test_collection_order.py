"""The collector beside other transactions on PostgreSQL, stopped between any two statements.

One transaction is stopped before its n-th statement while another one runs, until it is done or
waits for a lock; then the first one goes on. Whatever the two are and wherever the first one is
stopped, nothing dangles, what a client was told is true, and nothing stays that nobody needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count

import pytest

from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobInUse,
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
)
from portside.spec.names import RepositoryName, Tag
from portside.stores.metadata.engine import Database, Job, Result, Transaction
from portside.stores.metadata.store import Metadata
from stores.conftest import Clock, PostgresShelf
from stores.test_postgres_concurrency import Shelves, parsed, problems, push
from support.blobs import listed
from support.content import image
from support.postgres import Server

LATER = 10**15
STATEMENTS = {"find", "find_all", "execute", "execute_each", "insert_many", "commit_blob"}
STATEMENTS |= {"link_blob", "place"}


class Stopped:
    """A transaction that stops before one of its statements, until it is told to go on."""

    def __init__(self, transaction: Transaction, gate: Gate) -> None:
        self._transaction = transaction
        self._gate = gate

    def __getattr__(self, name: str) -> object:
        found = getattr(self._transaction, name)
        if name not in STATEMENTS:
            return found

        async def run(*arguments: object, **named: object) -> object:
            await self._gate.arrive()
            return await found(*arguments, **named)

        return run


class Gate:
    """Where a transaction stops: before the statement with that number."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.arrived = asyncio.Event()
        self.opened = asyncio.Event()

    async def arrive(self) -> None:
        """Count a statement, and wait at the one that is meant."""
        self._left -= 1
        if self._left == -1:
            self.arrived.set()
            await self.opened.wait()


class Gated:
    """A database whose transactions stop at a gate."""

    def __init__(self, database: Database, gate: Gate) -> None:
        self._database = database
        self._gate = gate

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def _gated(self, job: Job[Result]) -> Job[Result]:
        return lambda transaction: job(Stopped(transaction, self._gate))  # type: ignore[arg-type]

    async def write(self, job: Job[Result], **named: Digest | None) -> Result:
        """Run a job that stops."""
        return await self._database.write(self._gated(job), **named)

    async def write_placing(self, job: Job[Result], *, blob: Digest) -> Result:
        """Run a job that stops."""
        return await self._database.write_placing(self._gated(job), blob=blob)

    async def write_removing(
        self, job: Job[bool], *, blob: Digest, remove: Callable[[], None]
    ) -> bool:
        """Run a job that stops."""
        return await self._database.write_removing(self._gated(job), blob=blob, remove=remove)


class Scene:
    """An image in the trash, another one that was pushed but for its manifest; both are due."""

    def __init__(self, node: Metadata, clock: Clock, number: int) -> None:
        self.node, self.clock = node, clock
        self.shelves = Shelves()
        self.deleted = image(("deleted", number), layers=0)
        self.pushed = image(("pushed", number), layers=0)
        self.blob = Digest.of(self.pushed.blobs[0])
        self.old = Digest.of(self.deleted.blobs[0])
        self.a, self.b = RepositoryName(f"a{number}"), RepositoryName(f"b{number}")
        self.until = 0

    async def prepare(self) -> None:
        """Make it, and let every time pass."""
        for repository in (self.a, self.b):
            await push(self.node, self.shelves, repository, self.blob)
        await push(self.node, self.shelves, self.a, self.old)
        await self.node.put_manifest(
            self.a, parsed(self.deleted), tags=[], condition=None, check_children=True
        )
        await self.node.delete_manifest(self.a, Digest(self.deleted.digest))
        self.until = self.clock.now
        self.clock.now += 100
        due = await self.node.list_unreferenced(self.until, limit=9)
        self.due = {item.repository: item for item in due if item.digest == self.blob}
        (self.expired,) = await self.node.list_expired_manifests(self.until, limit=9)

    async def collect(self, node: Metadata) -> None:
        """Collect the link in A."""
        remove = self.shelves.remove(self.blob)
        await node.collect_blob(self.due[self.a], self.until, remove=remove)

    async def collect_other(self, node: Metadata) -> None:
        """Collect the link in B."""
        remove = self.shelves.remove(self.blob)
        await node.collect_blob(self.due[self.b], self.until, remove=remove)

    async def purge(self, node: Metadata) -> None:
        """Purge the image that is in the trash."""
        await node.purge_manifest(self.expired, self.until)

    async def put(self, node: Metadata) -> None:
        """Push the manifest for the blob."""
        manifest = parsed(self.pushed)
        await node.put_manifest(
            self.a, manifest, tags=[Tag("v1")], condition=None, check_children=True
        )

    async def put_again(self, node: Metadata) -> None:
        """Push the manifest again that is in the trash."""
        manifest = parsed(self.deleted)
        await node.put_manifest(
            self.a, manifest, tags=[Tag("v1")], condition=None, check_children=True
        )

    async def restore(self, node: Metadata) -> None:
        """Restore the image."""
        await node.restore_manifest(self.a, Digest(self.deleted.digest))

    async def confirm(self, node: Metadata) -> None:
        """Tell a client that the blob exists: its manifest can be pushed from now on."""
        await node.confirm_blob(self.a, self.blob)
        self.promised = True

    async def push(self, node: Metadata) -> None:
        """Push the blob again."""
        await push(node, self.shelves, self.a, self.blob)
        self.promised = True

    async def mount(self, node: Metadata) -> None:
        """Mount the blob from the other repository."""
        await node.mount_blob(self.a, self.blob, self.b, size=4)
        self.promised = True

    async def unlink(self, node: Metadata) -> None:
        """Delete the blob."""
        await node.unlink_blob(self.a, self.blob, remove=self.shelves.remove(self.blob))

    async def delete_repository(self, node: Metadata) -> None:
        """Delete the repository."""
        await node.delete_repository(self.a)

    promised = False

    async def act(self, what: str, node: Metadata) -> RegistryError | None:
        """Do something; return the error that a client is allowed to get."""
        try:
            await getattr(self, what)(node)
        except ALLOWED as error:
            return error
        return None


ALLOWED = (BlobInUse, BlobUnknown, ManifestBlobUnknown, ManifestUnknown, NameUnknown)
DELETING = ["unlink", "delete_repository"]
COLLECTING = ["collect", "purge"]
PAIRS = [
    *(("collect", other) for other in ("put", "confirm", "push", "mount")),
    *(("purge", other) for other in ("put", "put_again", "restore", "push")),
    *((first, second) for first in COLLECTING for second in (*DELETING, *COLLECTING)),
    *(("collect_other", other) for other in ("mount", "push", "collect", "unlink")),
]


@pytest.fixture
async def shelf(postgresql: Server, clock: Clock) -> AsyncIterator[PostgresShelf]:
    """Make an empty database."""
    shelf = await PostgresShelf.create(postgresql, clock)
    yield shelf
    await shelf.close()


async def is_done_or_waits(watching: Database, task: asyncio.Task[object]) -> None:
    """Wait until a task is done, or its transaction waits for another one."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' LIMIT 1"
    while not task.done() and await watching.find(waiting) is None:
        await asyncio.wait({task}, timeout=0.002)


@pytest.mark.long
@pytest.mark.parametrize(("collecting", "other"), PAIRS)
@pytest.mark.parametrize("is_stopped", ["the collector", "the other"])
async def test_every_order(
    shelf: PostgresShelf, clock: Clock, collecting: str, other: str, is_stopped: str
) -> None:
    """Whatever the first one was about to do when the other one ran, the outcome is right."""
    first, second = collecting, other
    if is_stopped == "the other":
        first, second = other, collecting
    # Three nodes, and one that watches them: to connect takes longer than all of their statements.
    node, stopped, going_on, watching = (shelf.open() for _ in range(4))
    for number in count():
        scene = Scene(Metadata(node), clock, number)
        await scene.prepare()
        gate = Gate(number)
        stopping = Metadata(Gated(stopped, gate))  # type: ignore[arg-type]
        one = asyncio.create_task(scene.act(first, stopping))
        arriving = asyncio.create_task(gate.arrived.wait())
        await asyncio.wait({one, arriving}, return_when=asyncio.FIRST_COMPLETED)
        was_stopped = gate.arrived.is_set()
        two = asyncio.create_task(scene.act(second, Metadata(going_on)))
        await is_done_or_waits(watching, two)
        gate.opened.set()
        arriving.cancel()
        await asyncio.gather(one, two)
        await require_right(scene, {first: one.result(), second: two.result()})
        if not was_stopped:
            break
    assert number > 0 or first == "confirm"


async def require_right(scene: Scene, outcome: dict[str, RegistryError | None]) -> None:
    """Check what came of two transactions, and that nothing stays when all is deleted."""
    node = scene.node
    assert await problems(node, scene.shelves) == []
    assert await listed(node.uncollected_links()) == []
    if scene.promised and not outcome.keys() & {*DELETING}:
        await scene.put(node)
    for what, content in (("put", scene.pushed), ("put_again", scene.deleted)):
        if what in outcome and "delete_repository" not in outcome:
            is_there = outcome[what] is None
            try:
                await node.get_manifest(scene.a, Digest(content.digest))
            except ManifestUnknown:
                assert not is_there
            else:
                assert await node.get_blob(scene.a, Digest.of(content.blobs[0]))
    await empty(scene)


async def empty(scene: Scene) -> None:
    """Delete all that is left, and collect it."""
    node = scene.node
    for content in (scene.pushed, scene.deleted):
        try:
            await node.delete_manifest(scene.a, Digest(content.digest))
        except ManifestUnknown:
            continue
    scene.clock.now += 1
    for found in await node.list_expired_manifests(LATER, limit=9):
        assert await node.purge_manifest(found, LATER)
    for item in await node.list_unreferenced(LATER, limit=9):
        assert await node.collect_blob(item, LATER, remove=scene.shelves.remove(item.digest))
    assert scene.shelves.held == set()
    assert await listed(node.blob_records()) == []
