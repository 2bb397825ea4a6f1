"""What a push and a pull do with a blob store, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from portside.spec.digests import Algorithm, Digest
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.interfaces import BlobStore

Item = TypeVar("Item")

STEP = 700_000
"""Bytes that are written at once."""


async def listed(items: AsyncIterator[Item]) -> list[Item]:
    """Return all items as a list."""
    return [item async for item in items]


async def stage(
    blobs: BlobStore, upload: UploadId, offset: int, content: bytes, *, keep: bool = False
) -> int:
    """Append content to an upload in a hold of its own; returns the offset."""
    async with blobs.hold(upload) as staging:
        await staging.resume(offset, Algorithm.SHA256)
        for start in range(0, len(content), STEP):
            await staging.write(content[start : start + STEP])
        reached = await staging.flush()
        if keep:
            staging.keep()
        return reached


async def finish(
    blobs: BlobStore, upload: UploadId, offset: int, algorithm: Algorithm = Algorithm.SHA256
) -> Digest:
    """Make an upload the blob of its digest."""
    async with blobs.hold(upload) as staging:
        await staging.resume(offset, Algorithm.SHA256)
        digest = await staging.finish(algorithm)
        await asyncio.to_thread(await staging.place(digest))
        await blobs.discard(upload)
        return digest


async def read(blobs: BlobStore, digest: Digest, size: int) -> bytes:
    """Read a blob whole."""
    return await read_part(blobs, digest, ByteRange(0, size))


async def read_part(blobs: BlobStore, digest: Digest, part: ByteRange) -> bytes:
    """Read a part of a blob whole."""
    return b"".join([piece async for piece in blobs.read(digest, part)])
