"""Responses: prepared headers and a body, ready to be sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import quote, urlencode

import anyio
import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from portside.spec.media_types import JSON

Headers = list[tuple[bytes, bytes]]

API_VERSION = (b"docker-distribution-api-version", b"registry/2.0")
"""Every answer bears it: old clients take a server without it for something else."""


def headers(**fields: str | None) -> Headers:
    """Write header fields; underscores stand for hyphens, and a field of None is left out."""
    written = [API_VERSION]
    for name, value in fields.items():
        if value is not None:
            written.append((name.replace("_", "-").encode("ascii"), value.encode("latin-1")))
    return written


CLOSE = (b"connection", b"close")
"""Tells the client that a body was not read to its end: the connection is of no more use."""


class Answer(Response):
    """A response whose headers are already written: nothing is computed when it is sent."""

    def __init__(self, status: int, fields: Headers, body: bytes = b"") -> None:
        self.status_code = status
        self.raw_headers = fields
        self.body = body
        self.background = None


class StreamAnswer(StreamingResponse):
    """A response whose body comes in pieces, no faster than the client takes them.

    It stops reading when the client has gone, and lets go of what it reads from.
    """

    def __init__(self, status: int, fields: Headers, pieces: AsyncGenerator[bytes, None]) -> None:
        super().__init__(pieces, status)
        self.raw_headers = fields
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # A generator that is cut off is not finished before it is collected, if it ever is.
            with anyio.CancelScope(shield=True):
                await self._pieces.aclose()


async def started(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Get the first piece before the answer begins: what fails then is an error with a body."""
    first = await anext(pieces, None)
    return _after(first, pieces)


async def _after(
    first: bytes | None, pieces: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        if first is not None:
            yield first
        async for piece in pieces:
            yield piece


def no_content(status: int, **fields: str | None) -> Answer:
    """Answer with headers alone."""
    if status == 204:  # noqa: PLR2004  # RFC 9110, section 8.6: no Content-Length in a 204
        return Answer(status, headers(**fields))
    return Answer(status, headers(content_length="0", **fields))


def json_answer(status: int, document: object, **fields: str | None) -> Answer:
    """Answer with a JSON document."""
    body = msgspec.json.encode(document)
    fields.setdefault("content_type", JSON)
    return Answer(status, headers(content_length=str(len(body)), **fields), body)


def next_link(path: str, *, last: str, limit: int, kept: list[tuple[str, str]]) -> str:
    """Write the Link to the next page: relative, so that it works behind any proxy (RFC 8288).

    `kept` are the other parameters of the query, as they came.
    """
    query = urlencode([*kept, ("n", str(limit)), ("last", last)])
    return f'<{quote(path)}?{query}>; rel="next"'
