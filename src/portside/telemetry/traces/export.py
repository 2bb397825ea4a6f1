"""Spans are sent to a collector in the background, by OTLP over HTTP.

Each worker has a queue of spans and a thread that sends them. A span for which the queue has no
room is lost, so a collector that is down or slow costs memory for one queue, and no request waits.
How spans are queued and sent is set by OpenTelemetry's own variables (`OTEL_BSP_…`,
`OTEL_EXPORTER_OTLP_HEADERS`, …), which the library reads.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import unquote
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from portside import __version__

LOGGER = "opentelemetry"
"""The name above all loggers of the library."""

PAUSE = 60.0
"""Seconds in which a trouble is logged once: a collector that is down would fill the log."""

KINDS = 100
"""Kinds of troubles that are known at once; the library has fewer."""

HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
"""The variables that may hold credentials for the collector."""

# What the library reads ("Specifying headers via environment variables" of OTLP's exporter): a
# value is ASCII without quotes, commas, semicolons and backslashes.
_HEADER = re.compile(r"[\w!#$%&'*+.^|~-]+[ \t]*=[ !#-+\--:<-\[\]-~]*", re.ASCII)

_UNNAMED = "unknown_service"

log = logging.getLogger(__name__)


class SpanExport:
    """Sends the spans that its tracer makes to the OTLP endpoint at a URL.

    `ratio` is the part of the traces beginning here that is sampled; spans with a parent are
    sampled as that is. Raises ValueError and RuntimeError if OpenTelemetry's variables in the
    `environment` make no sense.
    """

    def __init__(self, url: str, *, ratio: float, environment: Mapping[str, str]) -> None:
        _check_headers(environment)
        _report_through(_Troubles())
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=_resource(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self.tracer = self._provider.get_tracer("portside", __version__)

    def stop(self) -> None:
        """Send what is queued, for up to half a minute, and stop."""
        self._provider.shutdown()

    async def close(self, patience: float) -> None:
        """Send what is queued, for so many seconds; the rest is lost."""
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()

        def stop() -> None:
            self.stop()
            with suppress(RuntimeError):  # The loop has ended already.
                loop.call_soon_threadsafe(stopped.set)

        # The end of the process waits for the threads of asyncio, and not for this one.
        threading.Thread(target=stop, daemon=True).start()
        try:
            async with asyncio.timeout(patience):
                await stopped.wait()
        except TimeoutError:
            log.warning("the collector of traces does not answer; the last spans are lost")


def _check_headers(environment: Mapping[str, str]) -> None:
    """Refuse headers that cannot be sent; the library would log them, with their values."""
    for variable in HEADERS:
        pairs = (pair.strip() for pair in environment.get(variable, "").split(","))
        for number, pair in enumerate(filter(None, pairs), 1):
            sent = unquote(pair)
            if not (_HEADER.fullmatch(pair) and sent.isascii() and sent.isprintable()):
                shape = "NAME=VALUE,NAME=VALUE with percent-encoded values"
                raise ValueError(f"{variable} must be {shape}, and its header {number} is not")


def _resource() -> Resource:
    """Return what the spans are of; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES may say it."""
    said = dict(Resource.create().attributes)
    if str(said.get("service.name", _UNNAMED)).startswith(_UNNAMED):
        said["service.name"] = "portside"
    known = {
        "service.version": __version__,
        "service.instance.id": str(uuid4()),
        "host.name": platform.node(),
    }
    return Resource({**known, **said})


class _Troubles(logging.Handler):
    """Logs what OpenTelemetry warns of, now and then."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log a warning, unless there was one of its kind within PAUSE."""
        now = time.monotonic()
        # The text before it is filled in tells the kind.
        if now < self._next.get(record.msg, now):
            return
        if len(self._next) >= KINDS:
            self._next.clear()
        self._next[record.msg] = now + PAUSE
        log.warning("traces: %s", record.getMessage(), exc_info=record.exc_info)


def _report_through(handler: logging.Handler) -> None:
    logger = logging.getLogger(LOGGER)
    logger.handlers = [handler]
    logger.propagate = False
