"""Requests as spans: the parent, the name and the attributes of each.

`traceparent` and `tracestate` are those of the W3C's Trace Context. A trusted caller decides to
which trace a request belongs and whether it is sampled. What others send becomes a link: spans cost
time, and a stranger must neither have every request sampled nor add to the trace of somebody else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from portside.api.records import RECORD, RequestRecord

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]
Attribute = tuple[str, str | int]

SPAN = "portside.span"
"""The key of the span in the scope of a request."""

PROBES = ("/healthz", "/readyz")
"""The starts of paths without spans: load balancers ask every few seconds."""

STREAM = "/events"
"""A path whose responses may last for days, and ask the stores every second."""

LONGEST = 1024
"""Characters of an attribute that a client chooses: thousands of spans wait in memory."""

LONGEST_HEADER = 512
"""Characters of a header that is read; `tracestate` is passed on up to this length (section 3.3.1.5
of Trace Context)."""

UPLOADS = "/blobs/uploads/"

MASK = "***"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_PROPAGATOR = TraceContextTextMapPropagator()


class TracedRequests:
    """Makes a span of each request, and reads its record at the end.

    `trusts` says whether the sender of a request is trusted with its trace, `client_address` what
    the address of its client is.
    """

    def __init__(
        self,
        tracer: Tracer,
        *,
        trusts: Callable[[Scope], bool],
        client_address: Callable[[Scope], str],
    ) -> None:
        self._tracer = tracer
        self._trusts = trusts
        self._client_address = client_address

    def around(self, app: App) -> App:
        """Return an application that answers each request within its span.

        So the spans of what a request asks of the stores have a parent; those of a stream would
        make its trace grow without end.
        """

        async def traced(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["path"].startswith(PROBES):
                await app(scope, receive, send)
                return
            span = scope[SPAN] = self._begin(scope)
            if scope["path"] == STREAM:
                await app(scope, receive, send)
                return
            token = attach(set_span_in_context(span))
            try:
                await app(scope, receive, send)
            finally:
                detach(token)

        return traced

    def _begin(self, scope: Scope) -> Span:
        record: RequestRecord = scope[RECORD]
        is_trusted = self._trusts(scope)
        sent = _read_headers(scope, with_state=is_trusted)
        span_sent = get_current_span(sent).get_span_context()
        span = self._tracer.start_span(
            scope["method"] if scope["method"] in _METHODS else "HTTP",
            context=sent if is_trusted else Context(),
            kind=SpanKind.SERVER,
            links=[Link(span_sent)] if span_sent.is_valid and not is_trusted else (),
            start_time=_nanoseconds(record.received),
        )
        if span.is_recording():
            record.trace = format_trace_id(span.get_span_context().trace_id)
        return span

    def __call__(self, record: RequestRecord, scope: Scope) -> None:
        """End the span of a request."""
        span: Span | None = scope.get(SPAN)
        if span is None or not span.is_recording():
            return
        if record.endpoint is not None:
            method = scope["method"] if scope["method"] in _METHODS else "HTTP"
            span.update_name(f"{method} {record.endpoint.path}")
        found = (*_of_request(scope), *_of_record(record))
        span.set_attributes({name: value for name, value in found if value != ""})
        address = self._client_address(scope)
        if address:
            span.set_attribute("client.address", _text(address))
        if not 0 < record.status < 500:  # noqa: PLR2004
            span.set_attribute("error.type", record.error or str(record.status or "no_response"))
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(record.received + record.seconds))


def _of_request(scope: Scope) -> Iterator[Attribute]:
    """Return what the head of a request tells; no query, as it may hold credentials."""
    method = scope["method"]
    if method in _METHODS:
        yield "http.request.method", method
    else:
        yield "http.request.method", "_OTHER"
        yield "http.request.method_original", _text(method)
    yield "url.scheme", scope["scheme"]
    yield "url.path", _text(_masked(scope["path"]))
    yield "network.protocol.version", scope["http_version"]
    agents = [value for name, value in scope["headers"] if name == b"user-agent"]
    if agents:
        yield "user_agent.original", _text(agents[0].decode("latin-1"))


def _of_record(record: RequestRecord) -> Iterator[Attribute]:
    """Return what became of a request.

    Who sent it is not among it: spans leave the machine, and the access log has it, by the ids of
    the request and of the trace.
    """
    yield "portside.request.id", record.id
    yield "http.response.status_code", record.status or ""
    yield "http.request.body.size", record.bytes_in
    yield "http.response.body.size", record.bytes_out
    yield "portside.error.code", record.error
    yield "portside.digest", _text(record.digest)
    endpoint = record.endpoint
    if endpoint is not None:
        yield "http.route", endpoint.path
        yield "portside.operation", endpoint.operation
        yield "portside.repository", _text(record.name)
        if UPLOADS not in endpoint.path:
            yield "portside.reference", _text(record.last)


def _read_headers(scope: Scope, *, with_state: bool) -> Context:
    """Return the context that the headers of a request carry; empty if they carry none.

    Two `traceparent` are as none (section 3.2 of Trace Context has one).
    """
    parents, states = [], []
    for name, value in scope["headers"]:
        if name == b"traceparent":
            parents.append(value.decode("latin-1"))
        elif name == b"tracestate":
            states.append(value.decode("latin-1"))
    if len(parents) != 1 or len(parents[0]) > LONGEST_HEADER:
        return Context()
    carrier: dict[str, list[str]] = {"traceparent": parents}
    if with_state and 0 < sum(map(len, states)) + len(states) <= LONGEST_HEADER:
        carrier["tracestate"] = states
    return _PROPAGATOR.extract(carrier, Context())


def _masked(path: str) -> str:
    """Return a path without the id of an upload, which lets others write to it."""
    before, uploads, upload = path.rpartition(UPLOADS)
    return f"{before}{uploads}{MASK}" if uploads and upload else path


def _text(text: str) -> str:
    """Return what a client has sent as an attribute; one that is not UTF-8 would lose its batch."""
    return text[:LONGEST].encode("utf-8", "backslashreplace").decode("utf-8")


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
