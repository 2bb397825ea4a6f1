"""Blobs: pull all or part of one (end-2), and delete (end-10)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from starlette.responses import Response

from portside.api.requests import Request
from portside.api.responses import (
    API_VERSION,
    AS_DECLARED,
    FORBID_ALL,
    Headers,
    PreparedResponse,
    headers,
    no_content,
    streamed,
)
from portside.operations.pull import Reader, SignedUrl
from portside.spec.digests import Digest
from portside.spec.errors import PreconditionFailed
from portside.spec.media_types import OCTET_STREAM
from portside.spec.ranges import ByteRange, grouped

NEAR = 32 * 1024
"""Bytes between two parts that are read on the way: less than another request to a store costs."""

_OCTETS = OCTET_STREAM.encode("ascii")
_FOREVER = (b"cache-control", b"max-age=31536000")
_ACCEPT_RANGES = (b"accept-ranges", b"bytes")
_ACCEPT_NO_RANGES = (b"accept-ranges", b"none")


async def head_blob(request: Request) -> Response:
    """Send the size; a Range is ignored, because a HEAD has no content."""
    digest, repository = request.digest, request.repository
    size = await request.registry.pull.stat_blob(repository, digest)
    request.check_match(digest)
    if request.is_not_modified(digest):
        return PreparedResponse(304, _fields(digest))
    return PreparedResponse(request.status, [*_fields(digest, size), _accept_ranges(request)])


async def get_blob(request: Request) -> Response:
    """Send the blob or the requested parts of it, or redirect to the object store."""
    digest, repository, pull = request.digest, request.repository, request.registry.pull
    size = await pull.blob_size(repository, digest)
    request.check_match(digest)
    if request.is_not_modified(digest):
        return PreparedResponse(304, _fields(digest))
    parts = request.ranges(digest, size)
    read = await pull.open_blob(digest, size, parts=request.range_count() if parts else 0)
    if isinstance(read, SignedUrl):
        return _redirect(digest, read)
    if len(parts) == 1:
        return await _one_part(read, digest, size, parts[0])
    if parts:
        return await _several_parts(read, digest, size, parts)
    fields = [*_fields(digest, size), _accept_ranges(request)]
    return await streamed(request.status, fields, read(digest, ByteRange(0, size)), size=size)


async def delete_blob(request: Request) -> Response:
    """Delete a blob from the repository."""
    repository, digest = request.repository, request.digest
    condition = request.tag_condition()
    if condition is not None:
        await request.registry.pull.blob_size(repository, digest)
        if not condition.holds(digest):
            raise PreconditionFailed(f"{digest} is not in the state that the headers require")
    await request.registry.delete.blob(repository, digest, by=request.actor)
    return no_content(request.status)


def _redirect(digest: Digest, url: str) -> Response:
    """Redirect the client; the URL is for this client only, and expires soon."""
    written = headers(
        location=url,
        docker_content_digest=digest,
        cache_control="no-store",
        content_length="0",
    )
    return PreparedResponse(307, written)


def _fields(digest: Digest, size: int | None = None, content_type: bytes = _OCTETS) -> Headers:
    """Return the headers of a blob; without a size, those of a 304."""
    written = digest.encode("ascii")
    fields = [
        API_VERSION,
        AS_DECLARED,
        FORBID_ALL,
        (b"docker-content-digest", written),
        (b"etag", b'"%b"' % written),
        _FOREVER,
    ]
    if size is not None:
        fields += [(b"content-type", content_type), (b"content-length", b"%d" % size)]
    return fields


def _accept_ranges(request: Request) -> tuple[bytes, bytes]:
    return _ACCEPT_RANGES if request.registry.limits.max_ranges else _ACCEPT_NO_RANGES


async def _one_part(read: Reader, digest: Digest, size: int, part: ByteRange) -> Response:
    content_range = part.content_range(size).encode("ascii")
    fields = [*_fields(digest, part.length), (b"content-range", content_range)]
    return await streamed(206, fields, read(digest, part), size=part.length)


async def _several_parts(
    read: Reader, digest: Digest, size: int, parts: list[ByteRange]
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
        left = iter(heads)
        for group in grouped(parts, gap=NEAR):
            whole = read(digest, ByteRange(group[0].start, group[-1].stop))
            async with aclosing(whole) as content, aclosing(_cut(content, group, left)) as cut:
                async for piece in cut:
                    yield piece
        yield end

    content_type = f"multipart/byteranges; boundary={boundary}".encode("ascii")
    fields = _fields(digest, length, content_type)
    return await streamed(206, fields, pieces())


async def _cut(
    content: AsyncGenerator[bytes, None], parts: list[ByteRange], heads: Iterator[bytes]
) -> AsyncGenerator[bytes, None]:
    """Yield each part after its head; `content` is read from the first part to the last."""
    position, number = parts[0].start, 0
    async for piece in content:
        end = position + len(piece)
        while number < len(parts) and parts[number].start < end:
            part = parts[number]
            if part.start >= position:
                yield next(heads)
            yield piece[max(part.start - position, 0) : part.stop - position]
            if part.stop > end:
                break
            number += 1
        position = end
