"""Staging: receive bytes whose digest is known before they arrive."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from portside.spec.digests import Algorithm, Digest
from portside.stores.interfaces import Staging


async def stage(
    staging: Staging, pieces: AsyncGenerator[bytes, None], algorithm: Algorithm
) -> tuple[Digest, int]:
    """Write all pieces to a fresh upload; return their digest and how many bytes they are."""
    size = 0
    await staging.resume(0, algorithm)
    async with aclosing(pieces):
        async for piece in pieces:
            size += len(piece)
            await staging.write(piece)
    return await staging.finish(algorithm), size
