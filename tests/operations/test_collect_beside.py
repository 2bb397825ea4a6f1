"""The collector beside clients: each of its steps between any two requests of a push.

A client is never told anything that turns out to be wrong, and what nobody needs is gone at the
end. On SQLite every request is a transaction that has no other beside it, so that their order is
all that can differ; `tests/stores/test_collection_order.py` does the same with the statements of
PostgreSQL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count

import pytest

from operations.conftest import HOUR, Registry, body
from portside.operations.collect import Collected
from portside.operations.push import Chunk
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import BlobUnknown, ManifestUnknown
from portside.spec.names import RepositoryName, Tag
from stores.conftest import Clock
from support.blobs import listed
from support.content import Content, image

A, B, C = (RepositoryName(name) for name in "abc")
V1 = Tag("v1")

Request = Callable[[], Awaitable[None]]


class Client:
    """What a client does, request by request, with an image that only it knows."""

    def __init__(self, registry: Registry, number: int) -> None:
        self.registry = registry
        self.deleted = image(("deleted", number), layers=0)
        self.pushed = image(("pushed", number), layers=0)
        self.found: set[Digest] = set()

    async def prepare(self) -> None:
        """Leave what is due: a deleted image in A, and blobs without a manifest in A and B."""
        await self.registry.push_image(A, self.deleted)
        await self.registry.delete.manifest(A, Digest(self.deleted.digest))
        for repository in (A, B):
            await self.registry.push_blobs(repository, self.pushed)

    def head(self, repository: RepositoryName, blob: bytes) -> Request:
        """Ask for a blob."""

        async def request() -> None:
            with suppress(BlobUnknown):
                await self.registry.pull.stat_blob(repository, Digest.of(blob))
                self.found.add(Digest.of(blob))

        return request

    def push_missing(self, repository: RepositoryName, blob: bytes) -> Request:
        """Push a blob that was not found."""

        async def request() -> None:
            if Digest.of(blob) not in self.found:
                await self.registry.push.blob(repository, Digest.of(blob), Chunk(body(blob)))

        return request

    def upload(self, repository: RepositoryName, blob: bytes) -> list[Request]:
        """Push a blob over a session, and repeat the last request."""

        async def begin() -> None:
            self.session = await self.registry.push.open_upload(repository, Algorithm.SHA256)

        async def send() -> None:
            await self.registry.push.append(repository, self.session.id, Chunk(body(blob)))

        async def finish() -> None:
            await self.registry.push.finish(
                repository, self.session.id, Digest.of(blob), Chunk(body(b""))
            )

        return [begin, send, finish, finish]

    def mount(self, repository: RepositoryName, blob: bytes) -> Request:
        """Mount a blob from B."""

        async def request() -> None:
            if await self.registry.mount.blob(repository, Digest.of(blob), B):
                self.found.add(Digest.of(blob))

        return request

    def put(self, repository: RepositoryName, content: Content) -> Request:
        """Push a manifest, all of whose blobs are there as far as the client knows."""

        async def request() -> None:
            await self.registry.push.manifest(repository, V1, content.manifest, content_type=None)

        return request

    async def restore(self) -> None:
        """Restore the image, if it is not too late."""
        with suppress(ManifestUnknown):
            await self.registry.metadata.restore_manifest(A, Digest(self.deleted.digest))

    async def delete_blobs(self) -> None:
        """Delete blobs, of which the collector may have removed some."""
        for blob in self.pushed.blobs:
            with suppress(BlobUnknown):
                await self.registry.delete.blob(A, Digest.of(blob))

    async def delete_repository(self) -> None:
        """Delete everything."""
        await self.registry.delete.repository(A)
        self.found.clear()


def head_then_push(client: Client) -> list[Request]:
    """Ask for the blobs, push those that are missing, push the manifest."""
    blobs = client.pushed.blobs
    heads = [client.head(A, blob) for blob in blobs]
    pushes = [client.push_missing(A, blob) for blob in blobs]
    return [*heads, *pushes, client.put(A, client.pushed)]


def push_what_was_deleted(client: Client) -> list[Request]:
    """Push an image again that is in the trash."""
    blobs = client.deleted.blobs
    both = [ask for blob in blobs for ask in (client.head(A, blob), client.push_missing(A, blob))]
    return [*both, client.put(A, client.deleted)]


def push_over_sessions(client: Client) -> list[Request]:
    """Push without asking first."""
    sent = [request for blob in client.pushed.blobs for request in client.upload(A, blob)]
    return [*sent, client.put(A, client.pushed)]


def mount_what_is_due(client: Client) -> list[Request]:
    """Mount blobs from a repository of which they are collected."""
    mounts = [client.mount(C, blob) for blob in client.pushed.blobs]
    pushes = [client.push_missing(C, blob) for blob in client.pushed.blobs]
    return [*mounts, *pushes, client.put(C, client.pushed)]


def restore_and_pull(client: Client) -> list[Request]:
    """Restore an image, delete it and restore it again."""

    async def delete() -> None:
        with suppress(ManifestUnknown):
            await client.registry.delete.manifest(A, Digest(client.deleted.digest))

    return [client.restore, delete, client.restore]


def delete_and_push(client: Client) -> list[Request]:
    """Delete what the collector would remove, and push it again."""
    pushes = [client.push_missing(A, blob) for blob in client.pushed.blobs]
    return [client.delete_blobs, *pushes, client.put(A, client.pushed)]


def delete_the_repository(client: Client) -> list[Request]:
    """Delete the repository of an image, and push the image again."""
    return [
        *head_then_push(client),
        client.put(A, client.pushed),
        client.delete_repository,
        *head_then_push(client),
    ]


async def require_whole(registry: Registry, *contents: Content) -> None:
    """Pull every image that is there."""
    for repository in (A, B, C):
        for content in contents:
            with suppress(ManifestUnknown):
                await registry.pull.manifest(repository, Digest(content.digest))
                for blob in content.blobs:
                    size = await registry.pull.stat_blob(repository, Digest.of(blob))
                    assert size == len(blob)
    assert await listed(registry.metadata.integrity_problems()) == []
    assert await listed(registry.metadata.uncollected_links()) == []


async def empty(registry: Registry, clock: Clock, *contents: Content) -> None:
    """Delete everything, and let every time pass."""
    for repository in (A, C):
        for content in contents:
            with suppress(ManifestUnknown):
                await registry.delete.manifest(repository, Digest(content.digest))
    for _ in range(2):
        clock.now += 3 * HOUR
        await registry.collector.collect()
    assert await registry.stored() == set()
    assert await registry.metadata.list_unreferenced(clock.now * 2, limit=9) == []
    assert await registry.collector.collect() == Collected()


@pytest.mark.long
@pytest.mark.parametrize(
    "flow",
    [
        head_then_push,
        push_what_was_deleted,
        push_over_sessions,
        mount_what_is_due,
        restore_and_pull,
        delete_and_push,
        delete_the_repository,
    ],
)
async def test_every_order(
    registry: Registry, clock: Clock, flow: Callable[[Client], list[Request]]
) -> None:
    """A part of the flow comes before a round, a part within it, and the others after it."""
    length = len(flow(Client(registry, -1)))
    numbers = count()
    rounds = 0
    for before in range(length + 1):
        # The last hook finds nothing left to do: the round was shorter.
        for hook in count():
            ends = {before + 1, length} if before < length else {length}
            was_reached = False
            for end in sorted(ends):
                client = Client(registry, next(numbers))
                was_reached = await order(client, clock, flow(client), before, hook, end)
                rounds += 1
            if not was_reached:
                break
    assert rounds > 2 * length


async def order(
    client: Client, clock: Clock, flow: list[Request], before: int, hook: int, end: int
) -> bool:
    """Make requests before a round, at one of its steps and after it; return if it got there."""
    registry = client.registry
    contents = client.deleted, client.pushed
    await client.prepare()
    clock.now += 3 * HOUR
    waiting = iter(flow)
    steps = count()
    was_reached = False

    async def make(requests: int) -> None:
        for _, request in zip(range(requests), waiting, strict=False):
            await request()

    @asynccontextmanager
    async def step() -> AsyncIterator[None]:
        nonlocal was_reached
        if next(steps) == hook:
            was_reached = True
            await make(end - before)
        yield

    await make(before)
    await registry.collector_with(step).collect()
    await require_whole(registry, *contents)
    await make(len(flow))
    await require_whole(registry, *contents)
    await registry.collector.collect()
    await require_whole(registry, *contents)
    await empty(registry, clock, *contents)
    return was_reached
