"""The listener of the first process, on which Prometheus reads the metrics of all workers.

It has no access control and no TLS: it is for an address that only the monitoring reaches.
"""

from __future__ import annotations

import os
import platform
import socket
import socketserver
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from portside import __version__
from portside.telemetry import catalogue
from portside.telemetry.catalogue import Kind, Merge, Metric

PATH = "/metrics"

PATIENCE = 10
"""Seconds that a client may take for its request."""


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
    """A server with a thread for each client, none of which keeps the process from ending."""

    daemon_threads = True

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
    """The workers that have written files, also those that are being replaced."""

    def __init__(self, files: Path) -> None:
        self.files = files

    def running(self) -> list[int]:
        """Return the processes that run."""
        return [process for process in self._known() if _is_running(process)]

    def forget_ended(self) -> None:
        """Remove the gauges of processes that have ended."""
        for process in self._known():
            if not _is_running(process):
                mark_process_dead(process, str(self.files))  # type: ignore[no-untyped-call]

    def _known(self) -> set[int]:
        found = self.files.glob(f"gauge_{Merge.SUM}_*.db")
        return {int(path.stem.rpartition("_")[2]) for path in found}


def _is_running(process: int) -> bool:
    """Whether a process is a child of this one, and has not ended."""
    try:
        told = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    state, parent = told.rpartition(")")[2].split()[:2]
    return state not in {"Z", "X"} and int(parent) == os.getpid()


class _WorkerMetrics(Collector):
    """What the workers have written, of those that have ended too.

    Gauges of workers that have ended are forgotten.
    """

    def __init__(self, workers: _Workers) -> None:
        self._workers = workers
        self._collector = MultiProcessCollector(None, str(workers.files))  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Family]:
        """Add up the files."""
        with self._lock:
            self._workers.forget_ended()
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
