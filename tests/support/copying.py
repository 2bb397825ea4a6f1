"""Registries to copy, without a server, and a process that copies and can be killed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from portside.operations.check import Tally as CheckTally
from portside.operations.check import check
from portside.operations.copy.moving import Ending, Move
from portside.operations.copy.plan import RegistryStores, Tally, compared
from portside.operations.push import Chunk, Push
from portside.spec.digests import Algorithm, Digest
from portside.spec.manifests import parse_manifest
from portside.spec.names import RepositoryName, Tag
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.postgres.database import PostgresDatabase, Terms
from portside.stores.metadata.store import Metadata
from portside.stores.read_only import Successor
from support.blobs import listed
from support.content import Content
from support.sqlite import open_database

ELSEWHERE = Successor("postgresql://db.example/portside", "https://registry.example")
"""Where a test says that a registry is moved."""


def now() -> int:
    """Return the time in microseconds since 1970."""
    return time.time_ns() // 1000


@asynccontextmanager
async def opened_side(
    root: Path, url: str = "", clock: Callable[[], int] = now
) -> AsyncIterator[RegistryStores]:
    """Open a registry with its blobs in a directory, and its database there or on a server."""
    async with AsyncExitStack() as stack:
        blobs = DiskBlobs(root, hold_timeout=0.5)
        stack.callback(blobs.close)
        blobs.create()
        if url:
            server = PostgresDatabase(Terms(url=url, connections=6), clock=clock)
            stack.push_async_callback(server.disconnect)
            await server.migrate()
            yield RegistryStores(Metadata(server), blobs)
        else:
            database = await open_database(root, clock=clock)
            stack.callback(database.close)
            yield RegistryStores(Metadata(database), blobs)


async def push(side: RegistryStores, repository: str, content: Content, *tags: str) -> None:
    """Push content, and first the content that it refers to."""
    name = RepositoryName(repository)
    for child in content.children:
        await push(side, repository, child)
    receiver = Push(
        side.metadata,
        side.blobs,
        max_blob_bytes=0,
        max_open_uploads=0,
        sparse_indexes=False,
        clock=now,
    )
    for blob in content.blobs:
        digest = Digest.of(blob, Algorithm(content.algorithm))
        await receiver.blob(name, digest, Chunk(_pieces(blob)))
    await side.metadata.put_manifest(
        name,
        parse_manifest(content.manifest, content_type=content.media_type),
        tags=[Tag(tag) for tag in tags],
        condition=None,
        check_children=True,
    )


async def _pieces(blob: bytes) -> AsyncIterator[bytes]:
    yield blob


async def copy(source: RegistryStores, target: RegistryStores, *, verify: bool = False) -> Tally:
    """Copy once."""
    tally = Tally()
    await Move(source, target, tally=tally, clock=now, successor=ELSEWHERE).copy(verify=verify)
    return tally


async def finish(
    source: RegistryStores, target: RegistryStores, progress: Callable[[], object] = lambda: None
) -> tuple[Ending, Tally]:
    """Copy to the end."""
    tally = Tally()
    move = Move(source, target, tally=tally, clock=now, successor=ELSEWHERE, progress=progress)
    return await move.finish(), tally


async def unequal(source: RegistryStores, target: RegistryStores) -> list[object]:
    """Return all rows that are not the same on both sides."""
    return [
        pair
        for table in source.metadata.tables
        async for pair in compared(source.metadata, target.metadata, table)
        if pair[0] != pair[1]
    ]


async def problems(side: RegistryStores) -> list[str]:
    """Check all of a registry."""
    found = await listed(check(side.metadata, side.blobs, CheckTally(), pause=0.1))
    return [finding.text for finding in found]


async def _main(source: str, target: str, url: str) -> None:
    async with opened_side(Path(source)) as left, opened_side(Path(target), url) as right:
        tally = Tally()

        def progress() -> None:
            sys.stdout.write(f"{tally.moved}\n")
            sys.stdout.flush()

        await Move(
            left, right, tally=tally, clock=now, successor=ELSEWHERE, progress=progress
        ).copy()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
