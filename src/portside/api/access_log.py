"""One structured event for each request, for those who want a log of them."""

from __future__ import annotations

import logging
import time

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)


class AccessLog:
    """An application around another one, which writes a line of JSON when a request has ended.

    `bytes` counts the body that was sent, `seconds` the time from the head of the request to the
    end of the answer. A status of 0 means that no answer was begun.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = size = 0

        async def counting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, counting)
        finally:
            log.info("%s", _event(scope, status, size, time.perf_counter() - started))


def _event(scope: Scope, status: int, size: int, seconds: float) -> str:
    agents = [value for name, value in scope["headers"] if name == b"user-agent"]
    client = scope.get("client")
    event = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "status": status,
        "bytes": size,
        "seconds": round(seconds, 6),
        "client": client[0] if client else None,
        "agent": agents[0].decode("latin-1") if agents else None,
    }
    return msgspec.json.encode(event).decode("utf-8")
