"""Blobs: pull, whole or in parts (end-2), and delete (end-10)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response

from portside.api.answers import (
    API_VERSION,
    Answer,
    Headers,
    StreamAnswer,
    headers,
    no_content,
    started,
)
from portside.api.calls import Call
from portside.api.conditions import check_match, is_not_modified, may_send_range
from portside.api.registry import Redirects
from portside.operations.delete import delete_blob as delete
from portside.operations.pull import find_blob, require_whole
from portside.spec.digests import Digest
from portside.spec.errors import DeleteDisabled
from portside.spec.media_types import OCTET_STREAM
from portside.spec.ranges import ByteRange, parse_range
from portside.stores.interfaces import BlobStore

_OCTETS = OCTET_STREAM.encode("ascii")
_FOREVER = (b"cache-control", b"max-age=31536000")
_ACCEPT_RANGES = (b"accept-ranges", b"bytes")
_ACCEPT_NO_RANGES = (b"accept-ranges", b"none")


async def head_blob(call: Call) -> Response:
    """Tell the size; a Range is ignored, as a HEAD has no content to take a part of."""
    digest = call.digest
    size = await find_blob(call.registry.metadata, call.registry.blobs, call.repository, digest)
    check_match(call, digest)
    if is_not_modified(call, digest):
        return Answer(304, _fields(digest))
    return Answer(call.status, [*_fields(digest, size), _accept_ranges(call)])


async def get_blob(call: Call) -> Response:
    """Send the blob, or the parts of it that are asked for, or say where it is.

    Who is sent on costs one query and one signature: that the bytes are there, the object store
    will say.
    """
    registry, digest = call.registry, call.digest
    size = await registry.metadata.get_blob_size(call.repository, digest)
    check_match(call, digest)
    if is_not_modified(call, digest):
        return Answer(304, _fields(digest))
    parts = _wanted(call, size)
    # No object store answers several ranges at once.
    if len(parts) <= 1:
        elsewhere = await _signed(registry.redirects, digest, size)
        if elsewhere is not None:
            return _redirect(digest, elsewhere)
    await require_whole(registry.blobs, digest, size)
    if len(parts) == 1:
        return await _one_part(registry.blobs, digest, size, parts[0])
    if parts:
        return await _several_parts(registry.blobs, digest, size, parts)
    fields = [*_fields(digest, size), _accept_ranges(call)]
    pieces = await started(registry.blobs.read(digest, ByteRange(0, size)))
    return StreamAnswer(call.status, fields, pieces)


def _wanted(call: Call, size: int) -> list[ByteRange]:
    """Read which parts are asked for; none stands for the whole. Raises RangeInvalid."""
    wanted = call.header("range")
    if wanted is None or not may_send_range(call, call.digest):
        return []
    return parse_range(wanted, size=size, max_ranges=call.registry.limits.max_ranges)


async def _signed(redirects: Redirects | None, digest: Digest, size: int) -> str | None:
    """Give the URL at which the client finds the blob, if it is to be sent there."""
    if redirects is None or size <= redirects.above:
        return None
    return await redirects.blobs.sign(digest, redirects.life)


def _redirect(digest: Digest, url: str) -> Response:
    """Send the client on; the URL is for it alone, and soon of no use."""
    written = headers(
        location=url,
        docker_content_digest=digest,
        cache_control="no-store",
        content_length="0",
    )
    return Answer(307, written)


def _fields(digest: Digest, size: int | None = None, content_type: bytes = _OCTETS) -> Headers:
    """Write the headers of a blob; without a size, those that a 304 has as well."""
    written = digest.encode("ascii")
    fields = [
        API_VERSION,
        (b"docker-content-digest", written),
        (b"etag", b'"%b"' % written),
        _FOREVER,
    ]
    if size is not None:
        fields += [(b"content-type", content_type), (b"content-length", b"%d" % size)]
    return fields


def _accept_ranges(call: Call) -> tuple[bytes, bytes]:
    return _ACCEPT_RANGES if call.registry.limits.max_ranges else _ACCEPT_NO_RANGES


async def _one_part(blobs: BlobStore, digest: Digest, size: int, part: ByteRange) -> Response:
    content_range = part.content_range(size).encode("ascii")
    fields = [*_fields(digest, part.length), (b"content-range", content_range)]
    return StreamAnswer(206, fields, await started(blobs.read(digest, part)))


async def _several_parts(
    blobs: BlobStore, digest: Digest, size: int, parts: list[ByteRange]
) -> Response:
    """Send multipart/byteranges (RFC 9110, section 15.3.7.2)."""
    boundary = secrets.token_hex(16)
    heads = [
        (
            f"\r\n--{boundary}\r\nContent-Type: {OCTET_STREAM}\r\n"
            f"Content-Range: {part.content_range(size)}\r\n\r\n"
        ).encode("ascii")
        for part in parts
    ]
    end = f"\r\n--{boundary}--\r\n".encode("ascii")
    length = sum(map(len, heads)) + sum(part.length for part in parts) + len(end)

    async def pieces() -> AsyncGenerator[bytes, None]:
        for head, part in zip(heads, parts, strict=True):
            async with aclosing(await started(blobs.read(digest, part))) as content:
                yield head
                async for piece in content:
                    yield piece
        yield end

    content_type = f"multipart/byteranges; boundary={boundary}".encode("ascii")
    fields = _fields(digest, length, content_type)
    return StreamAnswer(206, fields, await started(pieces()))


async def delete_blob(call: Call) -> Response:
    """Delete a blob from the repository."""
    if not call.registry.allow_delete:
        raise DeleteDisabled("the registry is set to keep everything (--no-delete)")
    await delete(call.registry.metadata, call.registry.blobs, call.repository, call.digest)
    return no_content(call.status)
