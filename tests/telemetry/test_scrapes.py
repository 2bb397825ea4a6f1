"""Metrics of a real registry with two workers, read as Prometheus reads them."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from portside.telemetry import listener
from portside.telemetry.catalogue import METRICS, Kind
from support.content import Content, digest_of, image, make_blob
from support.metrics import METRICS as OPTIONS
from support.metrics import metric_files, metrics_url, scrape
from support.postgres import Server
from support.server import RunningRegistry, run_portside, running_registry, start_registry
from support.waiting import PATIENCE, until
from support.wire import ONCE, connect

CLIENTS = 8
"""Connections, so that each of the two workers has some."""

NAMED = {metric.name.removesuffix("_total"): metric for metric in METRICS}


PUSHED = image("metrics")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve, with metrics, what was pushed before: content is counted once a minute."""
    data = tmp_path_factory.mktemp("metrics") / "data"
    with running_registry(data, "--workers", "1") as before:
        assert "Metrics" not in before.banner
        with connect(before.url) as client:
            push(client, PUSHED)
    with running_registry(data, *OPTIONS) as running:
        yield running


def push(client: httpx.Client, content: Content) -> None:
    """Push an image: a POST for each blob, and a PUT."""
    for blob in content.blobs:
        url = f"/v2/library/app/blobs/uploads/?digest={digest_of(blob)}"
        headers = {"Content-Type": "application/octet-stream"}
        assert client.post(url, content=blob, headers=headers).status_code == 201
    headers = {"Content-Type": content.media_type}
    put = client.put("/v2/library/app/manifests/1", content=content.manifest, headers=headers)
    assert put.status_code == 201


class Load:
    """What a load generator has sent and received."""

    def __init__(self) -> None:
        self.rounds = 0
        self.received = 0

    def run(self, registry: RunningRegistry, rounds: int) -> None:
        """Send requests on several connections at the same time; each is answered."""

        def send(_: int) -> int:
            received = 0
            with connect(registry.url) as client:
                for _ in range(rounds):
                    found = client.get("/v2/library/app/manifests/1")
                    assert found.content == PUSHED.manifest
                    assert client.head("/v2/library/app/manifests/1").status_code == 200
                    missing = client.get("/v2/library/app/manifests/2")
                    assert missing.status_code == 404
                    received += len(missing.content)
            return received

        with ThreadPoolExecutor(CLIENTS) as threads:
            self.received += sum(threads.map(send, range(CLIENTS)))
        self.rounds += rounds * CLIENTS

    def is_counted(self, registry: RunningRegistry) -> bool:
        """Whether the metrics have come to be what was sent; they never say more."""
        found = scrape(registry)
        get = {"operation": "get_manifest"}
        numbers = (
            found.sum("portside_http_requests_total", **get, status="200"),
            found.sum("portside_http_requests_total", **get, status="404"),
            found.sum("portside_http_requests_total", operation="head_manifest"),
            found.sum("portside_http_request_duration_seconds_count", **get, status_class="2xx"),
            found.sum(
                "portside_http_first_byte_seconds_bucket", **get, status_class="4xx", le="+Inf"
            ),
            found.sum("portside_http_errors_total", code="MANIFEST_UNKNOWN"),
        )
        sent = found.sum("portside_http_sent_bytes_total", **get, status_class="2xx")
        refused = found.sum("portside_http_sent_bytes_total", **get, status_class="4xx")
        assert max(numbers) <= self.rounds
        assert refused <= self.received
        return (
            set(numbers) == {self.rounds}
            and sent == self.rounds * len(PUSHED.manifest)
            and refused == self.received
        )


def test_adds_up(registry: RunningRegistry) -> None:
    """The metrics of all workers are what the load generator did, exactly, after kills too.

    Workers that have ended leave no files, whether anybody reads the metrics or not.
    """
    load = Load()
    load.run(registry, 40)
    until(lambda: load.is_counted(registry))
    before, workers = scrape(registry), registry.workers
    assert all(metric_files(worker) for worker in workers), "a worker has counted nothing"
    (files,) = {path.parent for path in metric_files(workers[1])}
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
        until(lambda: worker not in registry.workers and len(registry.workers) == 2)  # noqa: B023
        until(lambda: not list(files.glob(f"*_{worker}.db")))  # noqa: B023
        after = scrape(registry)
        assert after.sum("portside_http_requests_in_flight") == 0
        found = after.counters()
        assert [key for key, value in before.counters().items() if found.get(key, 0) < value] == []
    load.run(registry, 40)
    until(lambda: load.is_counted(registry))


def test_declared(registry: RunningRegistry) -> None:
    """What is scraped is what is declared, with its type and labels, and nothing is missing."""
    until(lambda: scrape(registry).sum("portside_manifests") == 1)
    found = scrape(registry)
    assert {family.name for family in found.families} == set(NAMED) - {
        # These begin with the first failure.
        "portside_database_errors",
        "portside_storage_errors",
        # And these with the first webhook.
        "portside_webhook_deliveries",
        "portside_webhook_waiting",
        "portside_webhook_dead",
        "portside_webhook_oldest_seconds",
        "portside_webhook_events_waiting",
    }
    for family in found.families:
        metric = NAMED[family.name]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_values(registry: RunningRegistry) -> None:
    """Gauges say what there is."""
    until(lambda: scrape(registry).sum("portside_manifests") == 1)
    found = scrape(registry)
    assert found.sum("portside_repositories") == 1
    assert found.sum("portside_tags") == 1
    assert found.sum("portside_manifest_bytes") == len(PUSHED.manifest)
    assert found.sum("portside_blobs") == len(PUSHED.blobs)
    assert found.sum("portside_blob_bytes") == sum(map(len, PUSHED.blobs))
    assert found.sum("portside_workers") == 2
    assert found.sum("portside_ready") == 4
    assert found.sum("portside_disk_free_bytes", store="blobs") > 0
    assert found.sum("portside_build_info", database="sqlite", storage="directory") == 1
    assert found.sum("portside_process_resident_memory_bytes") > 2 * 10_000_000


def test_calls(registry: RunningRegistry) -> None:
    """What a push and a pull ask of the stores is counted."""
    names = [("database", call) for call in ("write", "place")]
    names += [("storage", call) for call in ("hold", "write", "finish", "prepare", "place", "read")]

    def calls() -> list[float]:
        found = scrape(registry)
        return [
            found.sum(f"portside_{store}_call_duration_seconds_count", call=call)
            for store, call in names
        ]

    before = calls()
    blob = make_blob(1000, "calls")
    with connect(registry.url) as client:
        push(client, Content(PUSHED.manifest, PUSHED.media_type, [blob]))
        assert client.get(f"/v2/library/app/blobs/{digest_of(blob)}").content == blob
    until(lambda: calls() == [count + 1 for count in before])


def test_in_flight(registry: RunningRegistry) -> None:
    """A request that has not ended is in flight, and an upload session is not."""
    with connect(registry.url) as client:
        location = client.post("/v2/library/app/blobs/uploads/").headers["Location"]

        def body() -> Iterator[bytes]:
            yield b"slow"
            until(lambda: scrape(registry).sum("portside_http_requests_in_flight") == 1)
            yield b"ly"

        assert client.patch(location, content=body()).status_code == 202
        assert client.delete(location).status_code == 204
    until(lambda: scrape(registry).sum("portside_http_requests_in_flight") == 0)
    received = {"operation": "append_upload", "status_class": "2xx"}
    assert scrape(registry).sum("portside_http_received_bytes_total", **received) == 6


def test_addresses(registry: RunningRegistry) -> None:
    """The registry's own address has no metrics, and that of the metrics nothing else."""
    assert httpx.get(f"{registry.url}/metrics", **ONCE).status_code == 404
    with connect(metrics_url(registry)) as client:
        for path in ("/", "/v2/", "/metrics/", "/healthz"):
            assert client.get(path).status_code == 404


def is_served(url: str) -> bool:
    """Whether there is room for one more client."""
    with suppress(httpx.TransportError):
        return httpx.get(url, **ONCE).status_code == 200
    return False


def test_a_crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few clients are served at the same time, and none for long, however slow it is."""
    monkeypatch.setattr(listener, "MOST", 2)
    monkeypatch.setattr(listener, "PATIENCE", 3600)
    monkeypatch.setattr(listener, "CARE_INTERVAL", 0)
    listening = listener.MetricsListener("127.0.0.1", 0)
    listening.start(tmp_path, database="sqlite", storage="directory")
    address = ("127.0.0.1", int(listening.url.rpartition(":")[2].partition("/")[0]))
    with closing(listening), ExitStack() as opened:
        silent, slow, late = (
            opened.enter_context(socket.create_connection(address, timeout=PATIENCE))
            for _ in range(3)
        )
        late.settimeout(5)
        assert late.recv(1) == b"", "it waits for its turn"
        monkeypatch.setattr(listener, "PATIENCE", 0.5)
        slow.settimeout(0.1)
        with suppress(ConnectionError):
            for _ in range(500):
                slow.sendall(b"G")
                with suppress(TimeoutError):
                    assert slow.recv(1) == b""
                    break
            else:
                pytest.fail("a client took seconds for its request")
        assert silent.recv(1) == b""
        # The thread of a client that was cut off takes a moment to end.
        until(partial(is_served, listening.url))


def test_a_port_in_use(registry: RunningRegistry, tmp_path: Path) -> None:
    """A second registry is told which setting to change, and leaves no files."""
    address = metrics_url(registry).removeprefix("http://")
    code, _, errors = run_portside(
        "serve",
        *("--data", str(tmp_path / "other"), "--listen", "127.0.0.1:0"),
        *("--metrics-listen", address),
    )
    assert code == 1
    assert f"{address} is in use; choose another port with --metrics-listen" in errors


def test_files(tmp_path: Path) -> None:
    """The files are private, go with the registry, and those of a killed one with the next."""
    killed = start_registry(tmp_path / "killed", "--workers", "1", *OPTIONS)
    until(lambda: bool(metric_files(killed.workers[0])))
    (left,) = {path.parent for path in metric_files(killed.workers[0])}
    assert stat.S_IMODE(left.stat().st_mode) == 0o700
    killed.kill()
    assert left.exists()
    with running_registry(tmp_path / "next", "--workers", "1", *OPTIONS) as following:
        assert not left.exists()
        until(lambda: bool(metric_files(following.workers[0])))
        (own,) = {path.parent for path in metric_files(following.workers[0])}
    assert not own.exists()


def test_postgresql(tmp_path: Path, postgresql: Server) -> None:
    """The pool of PostgreSQL is measured, and no queue of SQLite."""
    options = ("--database", postgresql.make_database(), "--workers", "1", *OPTIONS)
    with running_registry(tmp_path / "data", *options) as registry:
        with connect(registry.url) as client:
            push(client, PUSHED)
        until(lambda: scrape(registry).sum("portside_http_requests_total", status="201") == 4)
        found = scrape(registry)
        assert found.sum("portside_database_connections_max") == 10
        assert found.sum("portside_database_connections_in_use") == 0
        assert found.sum("portside_build_info", database="postgresql") == 1
        assert found.sum("portside_database_call_duration_seconds_count", call="place") == 3
        assert found.sum("portside_disk_free_bytes", store="database") == 0


def test_logins(tmp_path: Path) -> None:
    """Passwords are counted by what came of them."""
    data = tmp_path / "data"
    options = ("--workers", "1", "--login-failures", "2", "--password-cost", "4", *OPTIONS)
    env = {"PORTSIDE_ADMIN_PASSWORD": "right-password-of-admin"}
    with running_registry(data, *options, env=env) as registry:

        def outcomes() -> list[float]:
            found = scrape(registry)
            return [
                found.sum("portside_logins_total", outcome=outcome)
                for outcome in ("accepted", "refused", "limited")
            ]

        with connect(registry.url) as client:
            realm = "/oauth2/token?service=x"
            for password in ("right-password-of-admin", "wrong", "wronger", "wrongest"):
                client.get(realm, auth=("admin", password))
        until(lambda: outcomes() == [1, 2, 1])


def test_types() -> None:
    """Counters end in _total and only they do, and the unit is at the end of a name."""
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert bool(metric.bounds) == (metric.kind is Kind.HISTOGRAM)
        assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds")
