"""A collector of traces: receives what a registry sends by OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


class ReceivedSpan(NamedTuple):
    """A span; ids are hexadecimal, and `parent` is empty for the root of a trace.

    A link is the id of a trace, and the state that was sent with it.
    """

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    state: str
    links: list[str]
    is_failed: bool
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


class Collector:
    """What was received, in the order of its arrival."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.spans: list[ReceivedSpan] = []

    def receive(self, body: bytes) -> None:
        """Decode the body of a request."""
        self.bodies.append(body)
        for found in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(found.resource.attributes)
            for scope in found.scope_spans:
                self.spans += [
                    ReceivedSpan(
                        name=span.name,
                        kind=span.kind,
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        state=span.trace_state,
                        links=[link.trace_id.hex() + link.trace_state for link in span.links],
                        is_failed=span.status.code == span.status.STATUS_CODE_ERROR,
                        attributes=_values(span.attributes),
                        resource=resource,
                    )
                    for span in scope.spans
                ]

    def of_request(self, request: str) -> ReceivedSpan | None:
        """Return the span of the request with an id, if it has arrived."""
        for span in tuple(self.spans):
            if span.attributes.get("portside.request.id") == request:
                return span
        return None

    def below(self, parent: ReceivedSpan) -> list[ReceivedSpan]:
        """Return the spans below one."""
        return [span for span in self.spans if span.parent == parent.id]


def _values(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Receive traces for the length of a block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Take spans."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.headers.append(dict(self.headers))
            status = 200 if self.path == "/v1/traces" else 404
            if status == 200:
                collector.receive(body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield collector
        finally:
            server.shutdown()
