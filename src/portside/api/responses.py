"""Responses, and the locations that they name."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from urllib.parse import quote, urlencode

import anyio
import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from portside.api.connections import CONNECTION, Connection, Sending
from portside.api.requests import Body
from portside.spec.digests import Digest
from portside.spec.media_types import JSON
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadSession

Headers = list[tuple[bytes, bytes]]

API_VERSION = (b"docker-distribution-api-version", b"registry/2.0")
"""Sent with every response: old clients do not take a server without it for a registry."""

AS_DECLARED = (b"x-content-type-options", b"nosniff")
FORBID_ALL = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'; sandbox",
)
"""Anyone who may push chooses the content, so no browser may guess its type, run it or frame it."""


def headers(**fields: str | None) -> Headers:
    """Return header fields; underscores become hyphens, and fields of None are left out."""
    written = [API_VERSION, AS_DECLARED, FORBID_ALL]
    for name, value in fields.items():
        if value is not None:
            written.append((_hyphenated(name), value.encode("latin-1")))
    return written


@cache
def _hyphenated(name: str) -> bytes:
    """Return the name of a header; there are as many as are written down."""
    return name.replace("_", "-").encode("ascii")


CLOSE = (b"connection", b"close")
"""Sent if the body was not read to its end: the connection cannot be used again."""


class PreparedResponse(Response):
    """A response with its headers already encoded."""

    def __init__(self, status: int, fields: Headers, body: bytes = b"") -> None:
        self.status_code = status
        self.raw_headers = fields
        self.body = body
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        del scope, receive
        fields = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": fields})
        await send({"type": "http.response.body", "body": self.body})


class ClosingResponse:
    """A response to a request whose body is refused, and the end of its connection.

    All but the last byte of the response is sent at once, and then the body is read for a while. If
    the connection were closed while the client still sends, the system would discard the response
    (RFC 9112, section 9.6).
    """

    def __init__(self, answer: PreparedResponse, body: Body) -> None:
        self._answer = answer
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, wait for the client to receive it, and end."""
        del scope, receive
        answer = self._answer
        start = {"status": answer.status_code, "headers": answer.raw_headers}
        await send({"type": "http.response.start", **start})
        # A server that has sent the last byte would close the connection.
        await send({"type": "http.response.body", "body": answer.body[:-1], "more_body": True})
        await self._body.drain()
        await send({"type": "http.response.body", "body": answer.body[-1:], "more_body": False})


class StreamResponse(StreamingResponse):
    """A response with a streamed body, sent no faster than the client takes it.

    It stops reading when the client has gone, and closes what it reads from.
    """

    def __init__(self, status: int, fields: Headers, pieces: AsyncGenerator[bytes, None]) -> None:
        super().__init__(pieces, status)
        self.raw_headers = fields
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces."""
        connection: Connection | None = scope.get(CONNECTION)
        sending = Sending(send)
        if connection is not None:
            connection.sending.add(sending)
        try:
            await super().__call__(scope, receive, sending)
        finally:
            if connection is not None:
                connection.sending.discard(sending)
            # A generator that is cut off would not be finished before it is garbage-collected.
            with anyio.CancelScope(shield=True):
                await self._pieces.aclose()


WHOLE = 64 * 1024
"""Bytes of a body that is sent at once, if its first piece is all of it: to stream it takes several
times as long. Of a response that is streamed, the server may hold more (`stores.blobs.open_reads`).
"""


async def streamed(
    status: int, fields: Headers, pieces: AsyncGenerator[bytes, None], *, size: int = 0
) -> Response:
    """Return a response with the pieces of a body of `size` bytes; 0 if that is not known.

    The first piece is read before the response begins, so that a failure can still be reported.
    """
    first = await anext(pieces, None)
    if first and len(first) == size <= WHOLE:
        async with aclosing(pieces):
            # What is read to its end leaves its connection to the next one.
            await anext(pieces, None)
        return PreparedResponse(status, fields, first)
    return StreamResponse(status, fields, _after(first, pieces))


async def _after(
    first: bytes | None, pieces: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        if first is not None:
            yield first
        async for piece in pieces:
            yield piece


def no_content(status: int, **fields: str | None) -> PreparedResponse:
    """Return a response without a body."""
    if status == 204:  # noqa: PLR2004  # RFC 9110, section 8.6: no Content-Length in a 204
        return PreparedResponse(status, headers(**fields))
    return PreparedResponse(status, headers(content_length="0", **fields))


def json_response(status: int, document: object, **fields: str | None) -> PreparedResponse:
    """Return a response with a JSON document."""
    body = msgspec.json.encode(document)
    fields.setdefault("content_type", JSON)
    return PreparedResponse(status, headers(content_length=str(len(body)), **fields), body)


def next_link(path: str, *, last: str, limit: int, kept: list[tuple[str, str]]) -> str:
    """Return the Link to the next page, relative so that it works behind any proxy (RFC 8288).

    `kept` are the other parameters of the query.
    """
    query = urlencode([*kept, ("n", str(limit)), ("last", last)])
    return f'<{quote(path)}?{query}>; rel="next"'


def blob_location(repository: RepositoryName, digest: Digest) -> str:
    """Return the path of a blob."""
    return f"/v2/{repository}/blobs/{digest}"


def manifest_location(repository: RepositoryName, digest: Digest) -> str:
    """Return the path of a manifest."""
    return f"/v2/{repository}/manifests/{digest}"


def upload_location(session: UploadSession) -> str:
    """Return the path of an upload session."""
    return f"/v2/{session.repository}/blobs/uploads/{session.id}"
