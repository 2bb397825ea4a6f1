"""The listener of the first process, on which Prometheus reads the metrics of all workers.

It has no access control and no TLS: it is for an address that only the monitoring reaches.
"""

from __future__ import annotations

import os
import platform
import socket
import socketserver
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from portside import __version__
from portside.telemetry import catalogue
from portside.telemetry.catalogue import Kind, Metric
from portside.telemetry.ended import merge_ended, processes

PATH = "/metrics"

PATIENCE = 10
"""Seconds that a client may take for its request and the response."""

MOST = 8
"""Clients that are served at the same time, far more than read metrics; others are refused."""

CARE_INTERVAL = 1.0
"""Seconds between two looks for clients that take too long, and for workers that have ended."""


class MetricsListener:
    """A TCP port of its own, held from the start on; it answers once it is started.

    Raises OSError if the port cannot be held.
    """

    def __init__(self, host: str, port: int) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        server = type("_FamilyServer", (_Server,), {"address_family": family})
        self._server: _Server = server(address[:2], _Handler)
        self._thread: threading.Thread | None = None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}{PATH}"

    def start(self, files: Path, *, database: str, storage: str) -> None:
        """Answer in a thread; `database` and `storage` are the kinds of the stores."""
        registry = CollectorRegistry()
        workers = _Workers(files)
        self._server.workers = workers
        registry.register(_WorkerMetrics(workers))
        registry.register(_ProcessMetrics(workers))
        registry.register(_Build(database, storage))
        self._server.set_app(_only_at(PATH, make_wsgi_app(registry)))
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="portside-metrics", daemon=True
        )
        self._thread.start()

    def leave(self) -> None:
        """Close what a worker has inherited of it."""
        self._server.socket.close()

    def close(self) -> None:
        """Stop to answer, and release the port."""
        if self._thread is not None:
            self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A server with a thread for each of a few clients.

    None of them keeps the process from ending.
    """

    daemon_threads = True
    workers: _Workers | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._began: dict[Any, float] = {}
        self._due = 0.0

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread, or close its connection if there are too many."""
        if len(self._began) >= MOST:
            self.shutdown_request(request)
            return
        self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, in whose place another one can be served."""
        super().shutdown_request(request)
        self._began.pop(request, None)

    def service_actions(self) -> None:
        """End connections that take too long, and add up what workers that have ended counted."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + CARE_INTERVAL
        for request, began in list(self._began.items()):
            if now - began > PATIENCE:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)
        if self.workers is not None:
            self.workers.merge_ended()

    def server_bind(self) -> None:
        """Bind, without asking for the name of this machine, which can take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    """A handler that drops slow clients, and logs nothing."""

    timeout = PATIENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Log nothing."""


def _only_at(path: str, app: Any) -> Any:
    """Return an application that has one path."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == path:
            found: Iterable[bytes] = app(environ, start_response)
            return found
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [f"metrics are at {path}\n".encode()]

    return answer


class _Workers:
    """The workers that have written files, also those that are being replaced.

    The files are read and changed under a lock.
    """

    def __init__(self, files: Path) -> None:
        self.files = files
        self.lock = threading.Lock()

    def running(self) -> list[int]:
        """Return the processes that run."""
        return [process for process in processes(self.files) if _is_running(process)]

    def merge_ended(self) -> None:
        """Add up the files of processes that have ended."""
        with self.lock:
            for process in processes(self.files):
                if not _is_running(process):
                    merge_ended(self.files, process)


def _is_running(process: int) -> bool:
    """Whether a process is a child of this one, and has not ended."""
    try:
        told = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    state, parent = told.rpartition(")")[2].split()[:2]
    return state not in {"Z", "X"} and int(parent) == os.getpid()


class _WorkerMetrics(Collector):
    """What the workers have written; of those that have ended, what they had counted."""

    def __init__(self, workers: _Workers) -> None:
        self._workers = workers
        self._collector = MultiProcessCollector(None, str(workers.files))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Family]:
        """Add up the files."""
        self._workers.merge_ended()
        with self._workers.lock:
            yield from self._collector.collect()  # type: ignore[no-untyped-call]


class _ProcessMetrics(Collector):
    """What all processes of this registry take together."""

    def __init__(self, workers: _Workers) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Family]:
        """Ask the system about each process."""
        running = self._workers.running()
        first = _read_process(os.getpid())
        all_of_them = [first, *map(_read_process, running)]
        ended = os.times()
        cpu = sum(each.get(catalogue.CPU.name, 0) for each in all_of_them)
        yield _family(catalogue.CPU, cpu + ended.children_user + ended.children_system)
        for metric in (catalogue.MEMORY, catalogue.DESCRIPTORS):
            yield _family(metric, sum(each.get(metric.name, 0) for each in all_of_them))
        for metric in (catalogue.DESCRIPTORS_MOST, catalogue.STARTED_AT):
            yield _family(metric, first.get(metric.name, 0))
        yield _family(catalogue.WORKERS, len(running))


def _read_process(process: int) -> dict[str, float]:
    """Return the metrics of one process by their names; none if it has ended."""
    families = ProcessCollector("portside", pid=lambda: process, registry=None).collect()
    return {sample.name: sample.value for family in families for sample in family.samples}


class _Build(Collector):
    """What the registry is made of."""

    def __init__(self, database: str, storage: str) -> None:
        self._values = (__version__, platform.python_version(), database, storage)

    def collect(self) -> Iterator[Family]:
        """Return one line, which does not change."""
        yield _family(catalogue.BUILD, 1, self._values)


def _family(metric: Metric, value: float, labels: tuple[str, ...] = ()) -> Family:
    make = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = make(metric.name, metric.meaning, labels=metric.labels)
    family.add_metric(labels, value)
    return family
