"""Traces of a real registry, read as a collector receives them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, SpanKind, get_current_span

from portside.api.records import RECORD, RequestRecord
from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, StorageFull, Unavailable
from portside.spec.names import RepositoryName
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Metadata
from portside.telemetry.stores import ObservedDatabase
from portside.telemetry.traces.calls import TracedCalls, database_attributes, describe_statement
from portside.telemetry.traces.requests import SPAN, TracedRequests
from support.content import digest_of, image, index
from support.metrics import METRICS, scrape
from support.receiving import Receiver, receiving, webhook
from support.server import RunningRegistry, run_portside, running_registry, start_registry
from support.traces import Collector, ReceivedSpan, running_collector
from support.waiting import PATIENCE, until
from support.wire import ONCE, connect

AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
"""Milliseconds in which spans are sent."""

SERVER, CLIENT, INTERNAL = 2, 3, 1
"""Kinds of spans, as OTLP numbers them."""

PASSWORD = "right-password-of-admin"  # noqa: S105  # of a registry that is made here

HOME = "/v2/library/app"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Collect traces."""
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Receive events of tags in one repository."""
    with receiving() as running:
        running.url += "/secret-of-receiver"
        yield running


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, receiver: Receiver
) -> Iterator[RunningRegistry]:
    """Serve with traces, which 127.0.0.1 is trusted with, and other addresses are not.

    One worker sends its spans in their order.
    """
    data = tmp_path_factory.mktemp("traces") / "data"
    rules = data.with_name("rules.toml")
    limited = 'actions = ["tag.*"]\nrepositories = ["library/hooked"]\n'
    rules.write_text(webhook("hook", receiver) + limited)
    options = [
        *("--rules", str(rules)),
        *("--workers", "1", "--access-log", "--trusted-proxies", "127.0.0.1", *METRICS),
        *("--password-cost", "4", "--anonymous", "library/*:*"),
    ]
    env = {
        **AT_ONCE,
        "PORTSIDE_ADMIN_PASSWORD": PASSWORD,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=value%20of=key,other = a b",
    }
    with running_registry(
        data, *options, "--traces-endpoint", collector.endpoint, env=env
    ) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(registry: RunningRegistry) -> Iterator[httpx.Client]:
    """Connect from the address that is trusted."""
    with connect(registry.url) as client:
        yield client


def parent() -> tuple[str, str, dict[str, str]]:
    """Return the ids of a trace and of a span, and the headers in which they are sent."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, {"traceparent": f"00-{trace}-{span}-01"}


def span_of(collector: Collector, response: httpx.Response) -> ReceivedSpan:
    """Return the span of the request that has a response."""
    request = response.headers["X-Request-Id"]
    until(lambda: collector.of_request(request) is not None)
    found = collector.of_request(request)
    assert found is not None
    return found


def test_push_and_pull(
    registry: RunningRegistry, proxy: httpx.Client, collector: Collector
) -> None:
    """A request is a span in the trace of its sender, and what it asks of the stores is below."""
    trace, above, headers = parent()
    pushed = image("traces", layers=1)
    blob = pushed.blobs[0]
    octets = {"Content-Type": "application/octet-stream"}
    answers = [
        proxy.post(
            f"{HOME}/blobs/uploads/?digest={digest_of(content)}",
            content=content,
            headers={**headers, **octets},
        )
        for content in pushed.blobs
    ]
    sent = {**headers, "Content-Type": pushed.media_type}
    put = proxy.put(f"{HOME}/manifests/1", content=pushed.manifest, headers=sent)
    pulled = proxy.get(f"{HOME}/blobs/{digest_of(blob)}", headers=headers)
    assert [answer.status_code for answer in (*answers, put, pulled)] == [201, 201, 201, 200]

    first, manifest, last = (span_of(collector, answer) for answer in (answers[0], put, pulled))
    for span in (first, manifest, last):
        assert (span.kind, span.trace, span.parent, span.links) == (SERVER, trace, above, [])
        assert all(below.trace == trace for below in collector.below(span))
    names = {span.name for span in collector.below(first)}
    assert {"transaction BlobLinks.commit_blob", "storage place", "storage finish"} <= names
    assert "storage write" not in names
    assert "transaction Manifests.put_manifest" in {it.name for it in collector.below(manifest)}
    below = {span.name: span for span in collector.below(last)}
    assert set(below) == {
        "SELECT repositories repository_blobs blobs",
        "storage stat",
        "storage read",
    }
    query = below["SELECT repositories repository_blobs blobs"]
    assert query.kind == INTERNAL
    assert query.attributes["db.system.name"] == "sqlite"
    assert query.attributes["db.query.text"].startswith("SELECT b.size, ")
    assert below["storage read"].attributes == {
        "portside.storage": "directory",
        "portside.digest": digest_of(blob),
    }

    assert last.name == "GET /v2/{name}/blobs/{digest}"
    assert last.attributes == {
        "http.request.method": "GET",
        "http.route": "/v2/{name}/blobs/{digest}",
        "http.response.status_code": 200,
        "http.request.body.size": 0,
        "http.response.body.size": len(blob),
        "url.scheme": "http",
        "url.path": f"{HOME}/blobs/{digest_of(blob)}",
        "network.protocol.version": "1.1",
        "user_agent.original": proxy.headers["User-Agent"],
        "client.address": "127.0.0.1",
        "portside.request.id": pulled.headers["X-Request-Id"],
        "portside.operation": "get_blob",
        "portside.repository": "library/app",
        "portside.reference": digest_of(blob),
        "portside.digest": digest_of(blob),
    }
    assert last.resource["service.name"] == "portside"
    assert last.resource["deployment.environment.name"] == "test"
    assert collector.headers[-1]["x-key"] == "value of=key"

    lines = [json.loads(line) for line in registry.log.splitlines() if line.startswith("{")]
    (logged,) = [line for line in lines if line["request"] == pulled.headers["X-Request-Id"]]
    assert logged["trace"] == trace
    # Metrics observe the same calls.
    reads = "portside_storage_call_duration_seconds_count"
    until(lambda: scrape(registry).sum(reads, call="read") > 0)


def test_errors(proxy: httpx.Client, collector: Collector) -> None:
    """A span has the code of an error; what a client does wrong is not a failure."""
    missing = span_of(collector, proxy.get(f"{HOME}/manifests/missing"))
    assert missing.attributes["portside.error.code"] == "MANIFEST_UNKNOWN"
    assert not missing.is_failed
    unknown = span_of(collector, proxy.request("BREW", "/coffee", headers=parent()[2]))
    assert (unknown.name, unknown.attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert unknown.attributes["http.request.method_original"] == "BREW"
    assert "http.route" not in unknown.attributes


def test_strangers(registry: RunningRegistry, collector: Collector) -> None:
    """A client that is not trusted begins a trace of its own, which links to what it sent."""
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=registry.url, transport=transport) as stranger:
        trace, _, headers = parent()
        headers["tracestate"] = "a=b"
        span = span_of(collector, stranger.get(f"{HOME}/tags/list", headers=headers))
        assert (span.parent, span.links, span.state) == ("", [trace], "")
        assert span.trace != trace
        headers["traceparent"] = headers["traceparent"][:-2] + "00"
        assert span_of(collector, stranger.get(f"{HOME}/tags/list", headers=headers))


def test_sampling(proxy: httpx.Client, collector: Collector) -> None:
    """What a trusted caller does not trace is not traced, and neither are probes."""
    trace, _, headers = parent()
    unsampled = {"traceparent": headers["traceparent"][:-2] + "00"}
    responses = [proxy.get(f"{HOME}/manifests/1", headers=unsampled), proxy.get("/healthz")]
    assert span_of(collector, proxy.get(f"{HOME}/manifests/1", headers=parent()[2]))
    ids = [response.headers["X-Request-Id"] for response in responses]
    assert [collector.of_request(request) for request in ids] == [None, None]
    assert trace not in {span.trace for span in collector.spans}


def test_streams(proxy: httpx.Client, collector: Collector) -> None:
    """A stream of events is one span, however often it looks for events."""
    span = span_of(collector, proxy.get("/events?follow=false"))
    assert span.name == "GET /events"
    assert collector.below(span) == []


GOOD = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    "sent",
    [
        [b""],
        [b"00-0-0-01"],
        [f"00-{'0' * 32}-{'b' * 16}-01".encode()],
        [f"00-{'a' * 32}-{'0' * 16}-01".encode()],
        [GOOD.upper().encode()],
        [b"ff" + GOOD[2:].encode()],
        [GOOD.encode() + b"-more"],
        [b"01" + GOOD[2:].encode() + b"-" + b"x" * 500],
        [GOOD.replace("a", "\xff").encode("latin-1")],
        [GOOD.encode(), GOOD.encode()],
        [b"9" * 20_000],
    ],
    ids=repr,
)
def test_malformed(proxy: httpx.Client, collector: Collector, sent: list[bytes]) -> None:
    """A `traceparent` that is none begins a new trace."""
    headers = [(b"traceparent", value) for value in sent]
    span = span_of(collector, proxy.get(f"{HOME}/manifests/1", headers=headers))
    assert (span.parent, span.links) == ("", [])
    assert span.trace != "a" * 32


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([b"a=1,b=2"], "a=1,b=2"),
        ([b"a=1", b"b=2"], "a=1,b=2"),
        ([b"a=" + b"1" * 600], ""),
        ([b",".join(b"k%d=1" % n for n in range(40))], ""),
        ([b"a=\xff"], ""),
        ([b"=,;\t,"], ""),
        ([b"a=1"] * 50, ""),
    ],
    ids=["one", "two", "long", "many", "latin", "empty", "repeated"],
)
def test_tracestate(
    proxy: httpx.Client, collector: Collector, sent: list[bytes], kept: str
) -> None:
    """A `tracestate` is passed on, and one that is too long or malformed is left out."""
    trace, above, headers = parent()
    pairs = [(b"traceparent", headers["traceparent"].encode())]
    pairs += [(b"tracestate", value) for value in sent]
    span = span_of(collector, proxy.get(f"{HOME}/manifests/1", headers=pairs))
    assert (span.trace, span.parent, span.state) == (trace, above, kept)


def test_strange_texts(proxy: httpx.Client, collector: Collector) -> None:
    """What a client writes is cut off, and never loses the spans beside it."""
    for path in (f"/v2/{'x' * 5000}/tags/list", "/v2/%ED%A0%80%FF/tags/list", "/%00%C2%85"):
        headers = [(b"user-agent", b"\xff" * 2000)]
        span = span_of(collector, proxy.get(path, headers=headers))
        assert len(span.attributes["url.path"]) <= 1024
        assert len(span.attributes["user_agent.original"]) == 1024


def test_secrets(proxy: httpx.Client, collector: Collector) -> None:
    """Nothing that is sent to the collector is a credential."""
    token = proxy.get("/oauth2/token?service=portside", auth=("admin", PASSWORD)).json()
    opened = proxy.post(f"{HOME}/blobs/uploads/")
    location = opened.headers["Location"]
    upload = location.rpartition("/")[2]
    answers = [
        proxy.get("/v2/?access_token=secret-in-query"),
        proxy.get(f"{HOME}/tags/list", headers={"Authorization": "Bearer secret-bearer"}),
        proxy.patch(location, content=b"piece"),
        proxy.request("BREW", location),
        proxy.delete(location),
    ]
    spans = [span_of(collector, answer) for answer in answers]
    assert spans[2].attributes["url.path"] == f"{HOME}/blobs/uploads/***"
    sent = b"".join(collector.bodies)
    assert b"library/app" in sent
    for secret in (PASSWORD, token["access_token"], "secret-in-query", "secret-bearer", upload):
        assert secret.encode() not in sent
    assert b"admin" not in sent


def test_deliveries(proxy: httpx.Client, collector: Collector, receiver: Receiver) -> None:
    """Each attempt to deliver an event is a trace, of which the receiver is told."""
    receiver.answer = 500
    content = index()
    sent = {"Content-Type": content.media_type}
    put = proxy.put("/v2/library/hooked/manifests/1", content=content.manifest, headers=sent)
    assert put.status_code == 201
    until(lambda: len(receiver.requests) > 0)
    receiver.answer = 204
    until(lambda: len(receiver.accepted) == 1)
    made = len(receiver.requests)
    until(lambda: [span.name for span in collector.spans].count("deliver hook") == made)
    spans = [span for span in collector.spans if span.name == "deliver hook"]
    told = [str(it.traceparent).rpartition("-") for it in receiver.requests]
    assert [ids for ids, _, _ in told] == [f"00-{span.trace}-{span.id}" for span in spans]
    assert all(int(flags, 16) & 1 for _, _, flags in told)
    for number, span in enumerate(spans):
        assert (span.kind, span.parent, span.is_failed) == (CLIENT, "", number < made - 1)
    failed, accepted = spans[0], spans[-1]
    assert failed.attributes["http.response.status_code"] == 500
    assert failed.attributes["error.type"] == "500"
    assert accepted.attributes == {
        "http.request.method": "POST",
        "http.request.resend_count": made - 1,
        "http.response.status_code": 204,
        "server.address": "127.0.0.1",
        "server.port": receiver.server.server_port,
        "portside.webhook": "hook",
        "portside.event.id": receiver.accepted[0].event,
        "portside.event.action": "tag.set",
        "portside.repository": "library/hooked",
        "portside.reference": "1",
        "portside.digest": content.digest,
        "portside.request.id": put.headers["X-Request-Id"],
    }
    assert b"secret-of-receiver" not in b"".join(collector.bodies)


async def test_concurrency(registry: RunningRegistry, collector: Collector) -> None:
    """Requests at the same time keep their spans apart."""
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(base_url=registry.url, limits=limits, **ONCE) as client:

        async def ask(number: int) -> tuple[str, httpx.Response]:
            trace, _, headers = parent()
            content = f"blob {number}".encode()
            url = f"{HOME}/blobs/uploads/?digest={digest_of(content)}"
            headers["Content-Type"] = "application/octet-stream"
            return trace, await client.post(url, content=content, headers=headers)

        answers = await asyncio.gather(*map(ask, range(200)))
    for trace, response in answers:
        assert response.status_code == 201
        span = span_of(collector, response)
        assert span.trace == trace
        below = collector.below(span)
        assert [it.name for it in below].count("storage place") == 1
        assert {it.trace for it in below} == {trace}


def test_workers(tmp_path: Path, collector: Collector) -> None:
    """Each worker sends its own spans; a kill takes those that wait, and nothing else."""
    options = ("--traces-endpoint", f"{collector.endpoint}/v1/traces", "--log-format", "text")
    env = {**AT_ONCE, "OTEL_SERVICE_NAME": "two-workers"}
    with running_registry(tmp_path / "data", "--access-log", *options, env=env) as registry:

        def instances() -> set[str]:
            with connect(registry.url) as client:
                assert client.get("/v2/").status_code == 200
            return {
                span.resource["service.instance.id"]
                for span in tuple(collector.spans)
                if span.resource["service.name"] == "two-workers"
            }

        until(lambda: len(instances()) == 2)
        os.kill(int(registry.workers[0]), signal.SIGKILL)
        until(lambda: len(registry.workers) == 2)
        until(lambda: len(instances()) == 3)
    assert re.search(r" request \w+ trace \w{32}$", registry.log, re.MULTILINE)


def test_flush(tmp_path: Path, collector: Collector) -> None:
    """Spans that wait are sent when the registry stops; with a ratio of 0, those of callers."""
    options = ("--workers", "1", "--traces-endpoint", collector.endpoint, "--traces-ratio", "0")
    env = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
    trusted = (*options, "--traces-trust", "everyone")
    registry = start_registry(tmp_path / "data", *trusted, env=env)
    own = httpx.get(f"{registry.url}/v2/", **ONCE)
    theirs = httpx.get(f"{registry.url}/v2/", headers=parent()[2], **ONCE)
    assert registry.stop() == 0
    found = [
        collector.of_request(answer.headers["X-Request-Id"]) is not None for answer in (own, theirs)
    ]
    assert found == [False, True]


@pytest.mark.parametrize("stalls", [False, True], ids=["down", "stalls"])
def test_dead_collector(tmp_path: Path, *, stalls: bool) -> None:
    """A collector that is down or stalls costs lost spans, lines in the log, and a late end."""
    env = {
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "OTEL_BSP_MAX_QUEUE_SIZE": "20",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
    }
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if stalls:
            env["OTEL_EXPORTER_OTLP_TIMEOUT"] = "0.5"
        else:
            listener.close()
        options = ("--workers", "1", "--traces-endpoint", endpoint, "--shutdown-timeout", "2")
        registry = stack.enter_context(running_registry(tmp_path / "data", *options, env=env))
        with connect(registry.url) as client:
            for _ in range(100):
                assert client.get("/v2/").status_code == 200
            cause = "Failed to export spans batch" if stalls else "Connection refused"
            until(lambda: "Queue full" in registry.log and cause in registry.log)
            assert client.get("/v2/").status_code == 200
        began = time.monotonic()
        assert registry.stop() == 0
        assert time.monotonic() - began < PATIENCE / 2
    kinds = re.findall(r"WARNING traces: (\w+ \w+)", registry.log)
    assert len(kinds) == len(set(kinds))
    assert "cut off" not in registry.log


def test_off(tmp_path: Path) -> None:
    """Without the setting, nothing of OpenTelemetry is loaded, and nothing is wrapped."""
    script = """
import sys
import portside.cli.server
from portside.bootstrap import application
from portside.config import make_settings

opened = []
open_stores = application.open_stores
application.open_stores = lambda *given: opened.append(open_stores(*given)) or opened[-1]
served = application.make_app(make_settings({"data": sys.argv[1]}), on_start=lambda: None)
(stores,) = opened
pull = served._app._registry.pull
assert type(served._app).__name__ == "RegistryApp"
assert not served._readers
assert pull._blobs is stores.blobs
assert pull._metadata._database is stores.engine.database
assert [name for name in sys.modules if name.startswith(("opentelemetry", "google"))] == []
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_refused(tmp_path: Path) -> None:
    """A start that cannot trace is refused with what to do, and creates nothing."""
    hidden = tmp_path / "hidden" / "opentelemetry.py"
    hidden.parent.mkdir()
    hidden.write_text("raise ImportError(\"No module named 'opentelemetry'\")")
    data = tmp_path / "data"
    options = ("serve", "--data", str(data), "--listen", "127.0.0.1:0", "--traces-endpoint")
    local = "http://127.0.0.1:4318"
    code, _, errors = run_portside(*options, local, env={"PYTHONPATH": str(hidden.parent)})
    assert (code, "pip install 'portside[otel]'" in errors) == (2, True)
    code, _, errors = run_portside(*options, local, env={"OTEL_BSP_MAX_QUEUE_SIZE": "0"})
    assert (code, "max_queue_size" in errors) == (1, True)
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "a=b, authorization=Bearer%20secret%0A!"}
    code, _, errors = run_portside(*options, local, env=headers)
    assert (code, "header 2 is not" in errors, "secret" in errors) == (1, True, False)
    code, _, errors = run_portside(*options, "http://user:secret@127.0.0.1:4318")
    assert (code, "traces-endpoint must be a URL" in errors, "secret" in errors) == (2, True, False)
    assert not data.exists()


async def test_failing_stores(tmp_path: Path) -> None:
    """A call that the store fails is a span that failed; one that it refuses is not."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    calls = TracedCalls(tracer, describe_statement, common={}, is_remote=True)
    sqlite = SqliteDatabase(tmp_path, clock=lambda: 1)
    await sqlite.migrate()
    database = ObservedDatabase(sqlite, calls)
    metadata, name = Metadata(database), RepositoryName("a")

    async def full(_: object) -> None:
        raise StorageFull("no space")

    async def ask() -> None:
        with pytest.raises(Unavailable):
            await database.find("SELECT * FROM nothing")
        with pytest.raises(StorageFull):
            await database.write(full)
        with pytest.raises(BlobUnknown):
            await metadata.get_blob(name, Digest.of(b""))

    with tracer.start_as_current_span("request"):
        await ask()
    spans = [span for span in exporter.get_finished_spans() if span.name != "request"]
    assert [(span.name, (span.attributes or {}).get("error.type")) for span in spans] == [
        ("SELECT nothing", "unavailable"),
        ("transaction test_failing_stores", "full"),
        ("SELECT repositories repository_blobs blobs", None),
    ]
    assert [span.status.is_ok for span in spans] == [False, False, True]
    assert {span.kind for span in spans} == {SpanKind.CLIENT}
    # What no request asks for is not traced.
    await ask()
    assert len(exporter.get_finished_spans()) == 4
    sqlite.close()


async def test_current_span() -> None:
    """The span of a request is current for as long as the request, however that ends."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    requests = TracedRequests(tracer, trusts=lambda _: False, client_address=lambda _: "")
    seen: list[Any] = []

    async def app(*_: object) -> None:
        seen.append(get_current_span())
        raise ConnectionResetError

    record = RequestRecord(b"1")
    record.received = 1.0
    headers = [(b"traceparent", GOOD.encode()), (b"tracestate", b"a=b")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, RECORD: record}
    with pytest.raises(ConnectionResetError):
        await requests.around(app)(scope, None, None)
    assert seen == [scope[SPAN]]
    assert get_current_span() is INVALID_SPAN
    assert [dict(link.context.trace_state) for link in seen[0].links] == [{}]


def test_databases() -> None:
    """A span names the database, if there is one server."""
    assert database_attributes("postgresql://db.example:5433/portside") == {
        "db.system.name": "postgresql",
        "db.namespace": "portside",
        "server.address": "db.example",
        "server.port": 5433,
    }
    assert database_attributes("postgresql://a,b/portside") == {
        "db.system.name": "postgresql",
        "db.namespace": "portside",
    }
