"""Request bodies: streamed, and never waited for without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import Receive, Scope

from portside.spec.errors import BodyIncomplete, BodyTimeout, ManifestTooLarge

DRAIN_BYTES = 4 * 1024 * 1024
"""What is read of a body that was refused, so that the client gets to see the answer."""

DRAIN_PATIENCE = 1.0
"""Seconds for the same."""


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

    async def read(self, limit: int, patience: float) -> bytes:
        """Read a body that is kept in memory.

        Raises ManifestTooLarge above `limit` bytes, BodyTimeout and BodyIncomplete.
        """
        pieces: list[bytes] = []
        size = 0
        async with aclosing(self.pieces(patience)) as arriving:
            async for piece in arriving:
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise ManifestTooLarge(f"a manifest may have {limit} bytes at most")
        return b"".join(pieces)

    async def drain(self) -> bool:
        """Read what is left of a refused body, within bounds; tells whether all of it was read.

        A client that waits for "100 Continue" is answered before it sends anything.
        """
        names = {name for name, _ in self._scope["headers"]}
        if self._is_read or names.isdisjoint({b"content-length", b"transfer-encoding"}):
            return True
        if b"expect" in names:
            return False
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_PATIENCE), aclosing(self.pieces(60)) as arriving:
                async for piece in arriving:
                    left -= len(piece)
                    if left < 0:
                        return False
        except (TimeoutError, BodyTimeout, BodyIncomplete):
            return False
        return True
