"""Request bodies: streamed, and never waited for without end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import Receive, Scope, Send

from portside.api.answers import Answer
from portside.spec.errors import BodyIncomplete, BodyTimeout, RegistryError

LITTLE_BYTES = 64 * 1024
LITTLE_PATIENCE = 0.5
"""Bytes and seconds of a refused body that are read before the answer, to keep the connection."""

DRAIN_PATIENCE = 10.0
DRAIN_SILENCE = 1.0
"""Seconds for which more of it is read after the answer, so that the client gets to see that; and
seconds without any of it after which there is nobody to wait for."""


class Body:
    """The body of one request; it can be read once."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._is_read = False

    async def pieces(self, patience: float) -> AsyncGenerator[bytes, None]:
        """Give the pieces as they come, each within `patience` seconds of the one before.

        Raises BodyTimeout, and BodyIncomplete if the connection ends before the body does.
        """
        while True:
            try:
                async with asyncio.timeout(patience):
                    message = await self._receive()
            except TimeoutError as error:
                silent = f"nothing arrived for {patience:g} s; ask for the offset and go on there"
                raise BodyTimeout(silent) from error
            if message["type"] == "http.disconnect":
                raise BodyIncomplete("the connection was closed before the end of the body")
            self._is_read = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            if piece:
                yield piece
            if self._is_read:
                return

    async def read(self, limit: int, patience: float, too_large: RegistryError) -> bytes:
        """Read a body that is kept in memory.

        Raises `too_large` above `limit` bytes, BodyTimeout and BodyIncomplete.
        """
        payload = bytearray()
        async with aclosing(self.pieces(patience)) as arriving:
            async for piece in arriving:
                payload += piece
                if len(payload) > limit:
                    raise too_large
        return bytes(payload)

    async def drain_little(self) -> bool:
        """Read a short rest of a refused body; tells whether that was all of it.

        A client that waits for "100 Continue" is answered before it sends anything.
        """
        return self._is_absent() or (
            not self._is_awaited()
            and await self._drain(LITTLE_BYTES, LITTLE_PATIENCE, LITTLE_PATIENCE)
        )

    async def drain(self) -> None:
        """Read what is left of a refused body, and throw it away, for a limited time."""
        if not self._is_awaited():
            await self._drain(sys.maxsize, DRAIN_PATIENCE, DRAIN_SILENCE)

    def _is_absent(self) -> bool:
        names = {name for name, _ in self._scope["headers"]}
        return self._is_read or names.isdisjoint({b"content-length", b"transfer-encoding"})

    def _is_awaited(self) -> bool:
        return any(name == b"expect" for name, _ in self._scope["headers"])

    async def _drain(self, most: int, patience: float, silence: float) -> bool:
        left = most
        try:
            async with asyncio.timeout(patience), aclosing(self.pieces(silence)) as arriving:
                async for piece in arriving:
                    left -= len(piece)
                    if left < 0:
                        return False
        except (TimeoutError, BodyTimeout, BodyIncomplete):
            return False
        return True


class Farewell:
    """An answer to a request whose body is not wanted, and the end of its connection.

    The answer is sent at once, but for its last byte, and then the body is read on for a while:
    were the connection closed while the client still sends, the system would throw the answer away
    with what arrives (RFC 9112, section 9.6).
    """

    def __init__(self, answer: Answer, body: Body) -> None:
        self._answer = answer
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, wait for the client to take it, and end."""
        del scope, receive
        answer = self._answer
        start = {"status": answer.status_code, "headers": answer.raw_headers}
        await send({"type": "http.response.start", **start})
        # A server that has sent the last byte would close the connection: it has to wait.
        await send({"type": "http.response.body", "body": answer.body[:-1], "more_body": True})
        await self._body.drain()
        await send({"type": "http.response.body", "body": answer.body[-1:], "more_body": False})
