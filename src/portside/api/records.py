"""The record of a request: what is known of it once it has been answered.

Logs, metrics and traces are made from it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portside.api.addresses import Addresses
from portside.auth.identities import Identity
from portside.spec.endpoints import Endpoint

RECORD = "portside.record"
"""The key of the record in the scope of a request."""

REQUEST_ID = b"x-request-id"

DIGEST = b"docker-content-digest"

# What proxies and gateways write: UUIDs, ULIDs, hexadecimal numbers, base64.
_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestRecord:
    """One request.

    `id` names it in every log and in the response, where `header` is it. `endpoint` is None for a
    request that reached none; `name` and `last` are the parts of its path. `identity` is None for a
    request without valid credentials, and while the registry is open. `error` is the code of an
    error.

    What only a `Recorder` with readers measures: `received` is when the request arrived, in seconds
    since 1970; `seconds` is the time from its headers to the end of the response, and `first_byte`
    to the headers of the response. `bytes_in` and `bytes_out` count the bodies. A status of 0 means
    that no response was begun; `headers` are those of the response. `trace` is the id of the trace
    if the request is traced, and else empty.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "endpoint",
        "error",
        "first_byte",
        "header",
        "headers",
        "identity",
        "last",
        "name",
        "received",
        "seconds",
        "status",
        "trace",
    )

    # Without readers, all that a request pays for is the id and five empty fields.
    headers: Sequence[tuple[bytes, bytes]]
    status: int
    bytes_in: int
    bytes_out: int
    received: float
    seconds: float
    first_byte: float
    trace: str

    def __init__(self, header: bytes) -> None:
        self.header = header
        self.endpoint: Endpoint | None = None
        self.name = self.last = self.error = ""
        self.identity: Identity | None = None

    @property
    def id(self) -> str:
        """The id of the request."""
        return self.header.decode("ascii")

    @property
    def digest(self) -> str:
        """The digest that the response names, if it names one."""
        for name, value in self.headers:
            if name == DIGEST:
                return value.decode("latin-1")
        return ""


RecordReader = Callable[[RequestRecord, Scope], None]
"""Is given each record when the request has ended."""


class RequestIds:
    """Makes the ids of requests: 32 hexadecimal digits, none of them twice.

    A trusted proxy may have given the request an id, by which its own log knows it.
    """

    def __init__(self, addresses: Addresses) -> None:
        self._is_from_proxy = addresses.is_called_by_proxy if addresses.has_proxies else None
        self._prefix = secrets.token_hex(10).encode("ascii")
        self._number = count(1).__next__

    def make(self, scope: Scope) -> bytes:
        """Return the id of a request, as a header has it."""
        if self._is_from_proxy is not None and self._is_from_proxy(scope):
            for name, value in scope["headers"]:
                if name == REQUEST_ID and _ID.fullmatch(value):
                    return bytes(value)
        return b"%b%012x" % (self._prefix, self._number())


class Recorder:
    """An ASGI middleware that begins the record of each request, and hands it to its readers.

    So many requests are `running`. Without readers, nothing is measured.
    """

    def __init__(self, app: ASGIApp, *, ids: RequestIds, readers: Sequence[RecordReader]) -> None:
        self._app = app
        self._make_id = ids.make
        self._readers = readers
        self.running = 0

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request, without readers in no coroutine of its own."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        if self._readers:
            return self._measure(scope, receive, send)
        scope[RECORD] = RequestRecord(self._make_id(scope))
        return self._app(scope, receive, send)

    async def _measure(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = scope[RECORD] = _MeasuredRecord(self._make_id(scope), scope, receive, send)
        self.running += 1
        try:
            await self._app(scope, record.receive, record.send)
        finally:
            self.running -= 1
            record.end()
            for read in self._readers:
                read(record, scope)


class _MeasuredRecord(RequestRecord):
    """A record between the two directions of its request, which counts what passes in them.

    One object, and few calls: all of this is paid for by each request.
    """

    __slots__ = ("_has_body", "_receive", "_send", "_started")

    def __init__(self, header: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        self.header = header
        self.endpoint = self.identity = None
        self.name = self.last = self.error = self.trace = ""
        self.headers = ()
        self.status = self.bytes_in = self.bytes_out = 0
        self.first_byte = 0.0
        self._receive = receive
        self._send = send
        # The server sends no body to a HEAD, whatever it is given (RFC 9110, section 9.3.2).
        self._has_body = scope["method"] != "HEAD"
        self.received = time.time()
        self._started = perf_counter()

    async def receive(self) -> Message:
        """Receive a message."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message; one more coroutine would take longer than all else here."""
        kind = message["type"]
        if kind == "http.response.body":
            if self._has_body:
                self.bytes_out += len(message.get("body", b""))
        elif kind == "http.response.start":
            self.status = message["status"]
            self.headers = message["headers"]
            self.first_byte = perf_counter() - self._started
        return self._send(message)

    def end(self) -> None:
        """Note the end of the response."""
        self.seconds = perf_counter() - self._started
