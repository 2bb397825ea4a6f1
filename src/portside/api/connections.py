"""What the requests on a connection do, for those who decide how long it may stay open."""

from __future__ import annotations

from asyncio import sleep
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONNECTION = "portside.connection"
"""The key in a scope of the connection that a request came by, where connections are watched."""

Client = tuple[str, str]
"""The address and the port at the other end of a connection; Granian writes both as text."""


class Sending:
    """The `send` of a streamed response, which remembers since when it waits for the client."""

    __slots__ = ("_send", "since")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.since: float | None = None

    async def __call__(self, message: Message) -> None:
        """Send a message, and let others run.

        Granian drops what is sent to a client that has gone, and does not suspend for it. Without a
        pause, a blob would be read to its end before the disconnect is seen.
        """
        self.since = monotonic()
        await self._send(message)
        self.since = None
        await sleep(0)


class Connection:
    """The requests of one connection: how many are answered now, and when the last one ended."""

    __slots__ = ("has_streams", "latest", "running", "sending")

    def __init__(self, *, has_streams: bool) -> None:
        self.has_streams = has_streams
        self.running = 0
        self.latest = 0.0
        self.sending: set[Sending] = set()

    def waits_since(self) -> float | None:
        """Return since when one of the streamed responses waits for the client."""
        return min((each.since for each in tuple(self.sending) if each.since), default=None)


class Connections:
    """An ASGI middleware that notes the requests of every connection, by its client.

    Times are those of `time.monotonic`. Another thread reads `known`, and removes what is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.known: dict[Client, Connection] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope["client"]
        connection = self.known.get(client)
        if connection is None:
            has_streams = not scope["http_version"].startswith("1")
            connection = self.known[client] = Connection(has_streams=has_streams)
        connection.running += 1
        connection.latest = monotonic()
        scope[CONNECTION] = connection
        try:
            await self._app(scope, receive, send)
        finally:
            connection.running -= 1
            connection.latest = monotonic()
