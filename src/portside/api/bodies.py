"""Request bodies: streamed, and never waited for without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive

from portside.api.calls import Call
from portside.operations.push import Chunk
from portside.spec.errors import BodyIncomplete, BodyTimeout, ManifestTooLarge
from portside.spec.ranges import parse_chunk


async def stream(receive: Receive, patience: float) -> AsyncIterator[bytes]:
    """Give the pieces of a body as they come, each within `patience` seconds of the one before.

    Raises BodyTimeout, and BodyIncomplete if the connection ends before the body does.
    """
    while True:
        try:
            async with asyncio.timeout(patience):
                message = await receive()
        except TimeoutError as error:
            silent = f"nothing arrived for {patience:g} s; ask for the offset and go on from there"
            raise BodyTimeout(silent) from error
        if message["type"] == "http.disconnect":
            cut_off = "the connection was closed before the end of the body"
            raise BodyIncomplete(cut_off)
        piece: bytes = message.get("body", b"")
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


def chunk(call: Call) -> Chunk:
    """Give the body of an upload request, with what its headers announce.

    Raises RangeInvalid and SizeInvalid.
    """
    content_range = call.header("content-range")
    return Chunk(
        body=stream(call.request.receive, call.registry.limits.body_timeout),
        range=parse_chunk(content_range) if content_range is not None else None,
        length=call.content_length(),
    )


async def read_manifest(call: Call) -> bytes:
    """Read a body that is kept in memory, up to the limit for manifests.

    Raises ManifestTooLarge, BodyTimeout and BodyIncomplete.
    """
    limit = call.registry.limits.max_manifest_bytes
    announced = call.content_length() or 0
    pieces: list[bytes] = []
    size = 0
    if announced <= limit:
        async for piece in stream(call.request.receive, call.registry.limits.body_timeout):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                break
    if max(size, announced) > limit:
        large = f"a manifest may have {limit} bytes at most"
        raise ManifestTooLarge(large)
    return b"".join(pieces)
