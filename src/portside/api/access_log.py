"""The access log: one structured event for each request."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TextIO
from urllib.parse import unquote_plus

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portside.api.log_lines import line_handler

log = logging.getLogger(__name__)

SECRET_NAMES = ("password", "secret", "token", "assertion")
"""Parts of the names of query parameters whose values are secret."""

SECRET_PATHS = ("/oauth2", "/token")
"""The token server's paths, where any parameter may hold a credential."""

MASK = "***"


def log_to(stream: TextIO) -> None:
    """Write the events to a stream, one JSON object a line."""
    log.handlers = [line_handler(stream)]
    log.setLevel(logging.INFO)
    log.propagate = False


class AccessLog:
    """An ASGI middleware that writes a line of JSON when a request has ended.

    `time` is when the request arrived, `bytes` counts the body that was sent, and `seconds` is the
    time from the request's headers to the end of the response. A status of 0 means that no response
    was begun.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = size = 0
        # The server sends no body to a HEAD, whatever it is given (RFC 9110, section 9.3.2).
        has_body = scope["method"] != "HEAD"

        async def counting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            if has_body:
                size += len(message.get("body", b""))
            await send(message)

        moment = datetime.now(UTC)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, counting)
        finally:
            seconds = time.perf_counter() - started
            log.info("%s", _event(scope, moment, status, size, seconds))


def _event(scope: Scope, moment: datetime, status: int, size: int, seconds: float) -> str:
    agents = [value for name, value in scope["headers"] if name == b"user-agent"]
    client = scope.get("client")
    event = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "method": scope["method"],
        "path": scope["path"],
        "query": _masked(scope["path"], scope["query_string"].decode("latin-1")),
        "status": status,
        "bytes": size,
        "seconds": round(seconds, 6),
        "client": (client[0] or None) if client else None,
        "agent": agents[0].decode("latin-1") if agents else None,
    }
    return msgspec.json.encode(event).decode("utf-8")


def _masked(path: str, query: str) -> str:
    """Return a query with the values masked that may be secret."""
    if not query:
        return ""
    is_secret = path.lower().startswith(SECRET_PATHS)
    return "&".join(_masked_pair(pair, is_secret=is_secret) for pair in query.split("&"))


def _masked_pair(pair: str, *, is_secret: bool) -> str:
    name, equals, _ = pair.partition("=")
    if not equals:
        return MASK if is_secret and pair else pair
    known = unquote_plus(name).lower()
    if is_secret or any(part in known for part in SECRET_NAMES):
        return f"{name}={MASK}"
    return pair
