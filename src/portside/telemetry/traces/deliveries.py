"""Attempts to deliver events to webhooks as spans: each is a trace of its own.

The receiver gets its `traceparent`, and can continue the trace.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from portside.operations.webhooks.dispatch import Send
from portside.operations.webhooks.sending import Answer
from portside.spec.webhooks import Webhook
from portside.stores.webhooks import Delivery

Attributes = dict[str, str | int]

PORTS = {"http": 80, "https": 443}

_PROPAGATOR = TraceContextTextMapPropagator()


class TracedDeliveries:
    """Makes the spans of attempts, and the headers that tell receivers of them."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def sending(self, send: Send) -> Send:
        """Return a function that makes an attempt within its span."""

        async def traced(webhook: Webhook, delivery: Delivery) -> Answer:
            span = self._tracer.start_span(
                f"deliver {webhook.name}",
                context=Context(),
                kind=SpanKind.CLIENT,
                attributes=_attributes(webhook, delivery),
            )
            token = attach(set_span_in_context(span))
            error = "exception"
            try:
                answer = await send(webhook, delivery)
                if answer.status:
                    span.set_attribute("http.response.status_code", answer.status)
                error = str(answer.status or "no_response") if answer.error else ""
                return answer
            finally:
                detach(token)
                if error:
                    span.set_attribute("error.type", error)
                    span.set_status(Status(StatusCode.ERROR))
                span.end()

        return traced

    def headers(self) -> dict[str, str]:
        """Return the headers of the attempt that is being made; none if it is not traced."""
        headers: dict[str, str] = {}
        if get_current_span().is_recording():
            _PROPAGATOR.inject(headers)
        return headers


def _attributes(webhook: Webhook, delivery: Delivery) -> Attributes:
    """Return what is known before an attempt.

    The path of a URL can be a secret of the receiver. Events of access are about people.
    """
    parts, event = urlsplit(webhook.url), delivery.event
    found: Attributes = {
        "http.request.method": "POST",
        "http.request.resend_count": delivery.attempts,
        "server.address": parts.hostname or "",
        "server.port": parts.port or PORTS[parts.scheme],
        "portside.webhook": webhook.name,
        "portside.event.id": event.id,
        "portside.event.action": event.action,
        "portside.repository": event.repository,
        "portside.reference": event.reference if event.repository else "",
        "portside.digest": event.digest,
        "portside.request.id": event.by.request,
    }
    return {name: value for name, value in found.items() if value not in ("", None)}
