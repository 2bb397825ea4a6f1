"""The calls of stores as spans: children of the request that makes them.

What background tasks ask of the stores has no spans: it belongs to no request, and each poll would
be a trace of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, get_current_span

from portside.spec.digests import Digest
from portside.spec.errors import StorageFull, Unavailable
from portside.telemetry.observers import Find

Attributes = Mapping[str, str | int]

# The operations and the tables of a statement, in their order ("Generating a summary").
_OPERATION = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE)\b")
_TABLE = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+([a-z_]+)")

_PIECES = frozenset({"write"})
"""Calls for each piece of an upload: a large one would be thousands of spans."""


class Described(NamedTuple):
    """The name of a span, and what it says of one call."""

    name: str
    attributes: Attributes


class TracedCalls:
    """The calls of one store, from any thread; `common` are attributes of all of its spans.

    A store in another process `is_remote`. A call for which `describe` has no description has no
    span.
    """

    def __init__(
        self,
        tracer: Tracer,
        describe: Callable[[str, object], Described | None],
        *,
        common: Attributes,
        is_remote: bool,
    ) -> None:
        self._tracer = tracer
        self._describe = describe
        self._common = common
        self._kind = SpanKind.CLIENT if is_remote else SpanKind.INTERNAL

    def finding(self, find: Find) -> Find:
        """Return a function that finds a row, in a span."""

        async def traced(sql: str, *parameters: Any) -> Any | None:
            if not get_current_span().is_recording():
                return await find(sql, *parameters)
            with self.during("read", sql):
                return await find(sql, *parameters)

        return traced

    @contextmanager
    def during(self, call: str, about: object = None) -> Iterator[None]:
        """Make a span of the call in the block, if a request that is traced makes it."""
        is_traced = get_current_span().is_recording()
        described = self._describe(call, about) if is_traced else None
        if described is None:
            yield
            return
        span = self._tracer.start_span(
            described.name,
            kind=self._kind,
            attributes={**self._common, **described.attributes},
        )
        try:
            yield
        except Unavailable as error:
            _fail(span, error)
            raise
        finally:
            span.end()

    def failed(self, call: str, error: Unavailable) -> None:
        """Note on the request that a call failed whose span has ended."""
        get_current_span().add_event(f"{call} failed", {"error.type": _kind_of(error)})


def describe_statement(call: str, about: object) -> Described | None:
    """Describe a call of the database, by its statement or its transaction.

    Statements are written down in Portside, and their values are parameters: there are as many
    statements as that, and none holds what a client has sent.
    """
    if isinstance(about, str):
        return _described_statement(about)
    noun, _, _ = getattr(about, "__qualname__", call).partition(".<locals>")
    module = getattr(about, "__module__", "")
    return Described(f"transaction {noun}", {"code.function.name": f"{module}.{noun}"})


@cache
def _described_statement(sql: str) -> Described:
    operation = _OPERATION.search(sql)
    words = [operation[0] if operation else "query", *dict.fromkeys(_TABLE.findall(sql))]
    summary = " ".join(words)
    text = " ".join(sql.split())
    return Described(summary, {"db.query.summary": summary, "db.query.text": text})


def describe_blob_call(call: str, about: object) -> Described | None:
    """Describe a call of the blob store; the ids of uploads let others write to them."""
    if call in _PIECES:
        return None
    attributes = {"portside.digest": str(about)} if isinstance(about, Digest) else {}
    return Described(f"storage {call}", attributes)


def database_attributes(url: str) -> Attributes:
    """Return what the spans of a database say of it; `url` has no secrets, and SQLite none."""
    if not url:
        return {"db.system.name": "sqlite"}
    found: dict[str, str | int] = {"db.system.name": "postgresql"}
    parts = urlsplit(url)
    if parts.path.strip("/"):
        found["db.namespace"] = parts.path.strip("/")
    if parts.netloc and "," not in parts.netloc and parts.hostname:
        found["server.address"] = parts.hostname
        found["server.port"] = parts.port or 5432
    return found


def _fail(span: Span, error: Unavailable) -> None:
    # The message, which may name hosts and files, is in the log under the id of the request.
    span.set_attribute("error.type", _kind_of(error))
    span.set_status(Status(StatusCode.ERROR))


def _kind_of(error: Unavailable) -> str:
    return "full" if isinstance(error, StorageFull) else "unavailable"
