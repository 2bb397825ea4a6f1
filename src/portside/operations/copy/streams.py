"""Streams: copy the bytes of blobs from one store to another, several at a time.

Bytes are hashed on their way, and staged as in a push: what is placed is what the digest says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from portside.operations.staging import stage
from portside.spec.digests import Digest
from portside.spec.errors import DigestInvalid, RegistryError
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.interfaces import BlobStore, Place

AT_ONCE = 4
"""Blobs that are copied at the same time; each has a few MiB in memory."""

TRIES = 2
"""Attempts to read a blob that fails or is damaged."""

Item = TypeVar("Item")


class _SourceFailed(Exception):
    """The source's bytes of a blob cannot be read, or are not those of the blob."""


@asynccontextmanager
async def staged_copy(
    source: BlobStore, target: BlobStore, digest: Digest, size: int
) -> AsyncIterator[Place]:
    """Stage the bytes of a blob for the length of a block; yield what places them."""
    async with target.hold(UploadId.fresh(), fresh=True) as staging:
        found, _ = await stage(staging, _read(source, digest, size), digest.algorithm)
        if found != digest:
            raise _SourceFailed(f"is damaged: its content has the digest {found}")
        yield await staging.place(digest)


async def _read(source: BlobStore, digest: Digest, size: int) -> AsyncGenerator[bytes, None]:
    """Read from the source; its failures become _SourceFailed, unlike those of the target."""
    try:
        stored = await source.stat(digest)
        if stored is None:
            raise _SourceFailed("is missing")
        if stored != size:
            raise _SourceFailed(f"has {stored} bytes, and should have {size}")
        if size:
            async with aclosing(source.read(digest, ByteRange(0, size))) as pieces:
                async for piece in pieces:
                    yield piece
    except RegistryError as error:
        raise _SourceFailed(f"cannot be read: {error}") from error


async def attempt(copy: Callable[[], Awaitable[None]]) -> str | None:
    """Copy a blob; return what is wrong with the source's, or None.

    If its bytes fail, it may have been removed and pushed again since.
    """
    problem = None
    for _ in range(TRIES):
        try:
            await copy()
        except (_SourceFailed, DigestInvalid) as error:
            problem = str(error)
        else:
            return None
    return problem


async def in_parallel(items: AsyncIterator[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Work on several items at a time; the first failure cancels the others, and is raised."""
    one_at_a_time = asyncio.Lock()

    async def take() -> None:
        while True:
            async with one_at_a_time:
                item = await anext(items, None)
            if item is None:
                return
            await work(item)

    workers = [asyncio.ensure_future(take()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
