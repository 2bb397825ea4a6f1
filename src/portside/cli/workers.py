"""Worker processes, from their start to their shutdown.

Workers are not shut down by signals: a signal that arrives while a worker starts would be lost,
because Granian has not installed its handler yet. Instead, each worker waits for the end of a pipe
whose other side the first process holds open until it closes the pipe or dies.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network
from multiprocessing import connection
from typing import Any, NamedTuple

from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.mp import MPServer
from starlette.types import ASGIApp

from portside.api.access_log import log_to
from portside.api.connections import Connections
from portside.api.log_lines import log_formatter
from portside.bootstrap.application import LastGoodTexts, make_app
from portside.cli.certificate_pair import CertificatePair
from portside.cli.connections import Limits as ConnectionLimits
from portside.cli.connections import Watcher
from portside.cli.descriptors import Descriptors
from portside.cli.errors import CertificateInvalid
from portside.cli.listeners import Listener
from portside.cli.metrics import MetricsServer
from portside.cli.signals import SHUTDOWN_SIGNALS
from portside.config import LogFormat, Settings

log = logging.getLogger(__name__)

KILL_DELAY = 1.0
"""Seconds between the end of the shutdown timeout and SIGKILL."""

POLL_INTERVAL = 0.05
"""Seconds between two checks of the first process for a signal."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the files of the certificate. A new pair is taken when it was left
alone from one look to the next: its two files are not replaced at once."""

HANDOVER = 1.0
"""Seconds in which a worker that was replaced answers the connections that it has just accepted.
Granian cuts off those that are within the TLS handshake, or before their first request, when it is
asked to stop."""

START_TIMEOUT = 30.0
"""Seconds to wait for a worker to serve; the log says why it did not start."""


class ShutdownPipes:
    """A pipe for each worker, which waits for the end of its own, or for a byte in it.

    The end asks it to shut down, a byte to leave what arrives to its successor before. A worker
    inherits the pipe that was opened last.
    """

    def __init__(self) -> None:
        self._reader = -1
        self._writers: set[int] = set()

    def open(self) -> int:
        """Open the pipe of the worker that is started next; return the side of this process."""
        if self._reader >= 0:
            os.close(self._reader)
        self._reader, writer = os.pipe()
        self._writers.add(writer)
        return writer

    def close(self, writer: int) -> None:
        """Close this process's side of one pipe; further calls do nothing."""
        if writer in self._writers:
            self._writers.remove(writer)
            os.close(writer)

    def hand_over(self, writer: int) -> None:
        """Ask the worker of a pipe to leave the rest to its successor."""
        with suppress(BrokenPipeError):
            os.write(writer, b"\n")
        self.close(writer)

    def close_all(self) -> None:
        """Close this process's sides of all pipes."""
        for writer in tuple(self._writers):
            self.close(writer)

    def wait(self) -> bool:
        """Wait for the end of the last pipe, or a byte; return whether there is a successor."""
        return bool(os.read(self._reader, 1))


class Started:
    """What a worker says once it serves, to the first process."""

    def __init__(self) -> None:
        self._first = self._semaphore = multiprocessing.Semaphore(0)

    def renew(self) -> None:
        """Forget what other workers said; workers that are started from now on count."""
        self._semaphore = multiprocessing.Semaphore(0)

    def release(self) -> None:
        """Say that this worker serves."""
        self._semaphore.release()

    def wait(self, timeout: float) -> bool:
        """Wait for one worker; return whether it has said so in time."""
        return self._semaphore.acquire(timeout=timeout)

    def wait_for_first(self, workers: int) -> None:
        """Wait for the workers with which the server starts."""
        for _ in range(workers):
            self._first.acquire()


class PolledEvent:
    """The event that the first process waits for, instead of a `threading.Event`.

    Of two signals that arrive at once, the system may deliver one to another thread, which does not
    wake the main thread; and a handler that sets a `threading.Event` may wait for a lock that the
    interrupted thread holds. So the first process polls, without a lock. Every `LOOK_INTERVAL` it
    calls `look`.
    """

    def __init__(self, look: Callable[[], object] = lambda: None) -> None:
        self._is_set = False
        self._look = look
        self._next = time.monotonic() + LOOK_INTERVAL

    def is_set(self) -> bool:
        """Return whether the event has been set."""
        return self._is_set

    def set(self) -> None:
        """Set the event."""
        self._is_set = True

    def clear(self) -> None:
        """Reset the event."""
        self._is_set = False

    def wait(self) -> None:
        """Wait until the event is set."""
        while not self._is_set:
            time.sleep(POLL_INTERVAL)
            if time.monotonic() >= self._next:
                self._look()
                self._next = time.monotonic() + LOOK_INTERVAL


class Supervisor(MPServer):
    """The server of the first process: starts the workers, and replaces them.

    Those that fail are replaced, and all of them if there is a new certificate: one by one, and
    each former one ends its requests beside the new ones. Nobody is refused in between, because the
    socket on which a worker accepts connections is this process's, and stays.
    """

    def __init__(
        self,
        shutdown_pipes: ShutdownPipes,
        timeout: float,
        listener: Listener,
        *,
        pair: CertificatePair | None = None,
        started: Started | None = None,
        **options: Any,
    ) -> None:
        self._listener = listener
        self._pair = pair
        self._started = started or Started()
        super().__init__("portside", **listener.options, **options)
        self._shutdown_pipes = shutdown_pipes
        self._timeout = timeout
        self._former: list[_Former] = []
        self._pipes: dict[int, int] = {}
        self.main_loop_interrupt = PolledEvent(self._look)  # type: ignore[assignment]
        self._use_pair()

    def _use_pair(self) -> None:
        """Have workers that are started from now on read the current certificate."""
        if self._pair is not None:
            certificate, key = self._pair.paths
            # As Granian's own, but for paths that are resolved: those of memory have none.
            _, _, _, *rest = self.ssl_ctx
            self.ssl_ctx = (True, certificate, key, *rest)  # type: ignore[assignment]

    def _init_shared_socket(self) -> None:
        """Listen on a socket for each worker.

        Granian would open one in each worker, and what waits to be accepted there is lost when the
        worker ends; and a socket in the file system without a lock of its directory.
        """
        self._sso = None
        self._listener.listen(self.workers, self.backlog)

    def _spawn_worker(  # type: ignore[override]  # as MPServer's own
        self, idx: int, target: Any, callback_loader: Any
    ) -> Any:
        """Prepare what the next process inherits: its socket, and its end of a pipe."""
        self._shd = SocketHolder(  # type: ignore[assignment]
            fd=self._listener.choose(idx),  # type: ignore[call-arg]
            uds=self._listener.port is None,
            backlog=self.backlog,
        )
        self._shutdown_pipes.close(self._pipes.get(idx, -1))
        self._pipes[idx] = self._shutdown_pipes.open()
        return super()._spawn_worker(idx, target, callback_loader)

    def signal_handler_reload(self, *_: Any, **__: Any) -> None:
        """Ignore SIGHUP: files are read again when they change."""

    def _look(self) -> None:
        """Begin to replace the workers if there is a new certificate; end former ones in time."""
        self._former = [former for former in self._former if not former.has_ended()]
        try:
            if self._pair is not None and self._pair.renew():
                self._use_pair()
                self.signal_replacement()
        except CertificateInvalid as error:
            log.error("%s; the previous certificate stays in use", error)  # noqa: TRY400

    def signal_replacement(self) -> None:
        """Have the loop of this process replace all workers."""
        self.reload_signal = True
        self.main_loop_interrupt.set()

    def _reload(self, spawn_target: Any, target_loader: Any) -> None:
        """Replace all workers, one by one."""
        self.reload_signal = False
        self.main_loop_interrupt.clear()
        replaced = (
            self._replace(index, spawn_target, target_loader) for index in range(self.workers)
        )
        if all(replaced):
            log.info("the certificate is renewed")
        if self.interrupt_signal or self.interrupt_children:
            # What came before `clear` must not be forgotten.
            self.main_loop_interrupt.set()

    def _replace(self, index: int, spawn_target: Any, target_loader: Any) -> bool:
        """Start a worker, and end the former one when that serves; return whether it does."""
        former, pipe = self.wrks[index], self._pipes.pop(index)
        self._started.renew()
        worker = self._spawn_worker(index, spawn_target, target_loader)
        worker.interrupt_by_parent = True
        worker.start()
        deadline = time.monotonic() + START_TIMEOUT
        while not self._started.wait(POLL_INTERVAL):
            has_failed = bool(connection.wait([worker.inner.sentinel], 0))
            if has_failed or self.interrupt_signal or time.monotonic() > deadline:
                if not self.interrupt_signal:
                    log.error("a worker with the new certificate does not start")
                worker.kill()
                self._shutdown_pipes.close(self._pipes[index])
                self._pipes[index] = pipe
                return False
        worker.interrupt_by_parent = False
        self.wrks[index] = worker
        former.interrupt_by_parent = True
        self._shutdown_pipes.hand_over(pipe)
        longest = HANDOVER + self._timeout + KILL_DELAY
        self._former.append(_Former(former, time.monotonic() + longest))
        return True

    def shutdown(self, exit_code: int = 0) -> None:
        """Shut the workers down, and kill those that exceed the timeout.

        Granian sends signals instead, and calls `is_alive` while another thread waits for the same
        process: under load, it mistakes a worker that has exited for one that does not stop.
        """
        for worker in self.wrks:
            worker.interrupt_by_parent = True
        self._listener.withdraw()
        self._shutdown_pipes.close_all()
        deadline = time.monotonic() + self._timeout + KILL_DELAY
        workers = (*self.wrks, *(former.worker for former in self._former))
        running: dict[Any, Any] = {worker.inner.sentinel: worker for worker in workers}
        while running and (left := deadline - time.monotonic()) > 0:
            for ended in connection.wait(list(running), left):
                del running[ended]
        for worker in running.values():
            log.warning("worker %d did not exit in time and is killed", worker.idx + 1)
            worker.kill()
        self.wrks.clear()
        if self.interrupt_signal:
            # A shutdown that was asked for is not a failure, however the workers exited.
            self.interrupt_children.clear()
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]


class _Former(NamedTuple):
    """A worker that was replaced, and ends its requests."""

    worker: Any
    deadline: float

    def has_ended(self) -> bool:
        """Return whether it has ended; kill it when its time is over."""
        if time.monotonic() > self.deadline:
            self.worker.kill()
        return bool(connection.wait([self.worker.inner.sentinel], 0))


def start_logging(settings: Settings) -> None:
    """Write the log of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(log_formatter(as_json=settings.log_format is LogFormat.JSON))
    level = settings.log_level.upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)


def load_worker(
    settings: Settings,
    started: Started,
    shutdown_pipes: ShutdownPipes,
    descriptors: Descriptors,
    listener: Listener,
    *,
    last_good: LastGoodTexts,
    metrics: MetricsServer | None,
) -> ASGIApp:
    """Make the application in the process of a worker."""
    shutdown_pipes.close_all()
    listener.keep_chosen()
    if metrics is not None:
        metrics.leave()
    signal.pthread_sigmask(signal.SIG_BLOCK, SHUTDOWN_SIGNALS)
    start_logging(settings)
    log_to(sys.stderr)
    worker = _Worker(shutdown_pipes, started, listener, settings.shutdown_timeout)
    threading.Thread(target=worker.shut_down_with_parent, daemon=True).start()
    app = make_app(
        settings,
        on_start=worker.serving,
        on_loopback=listener.on_loopback,
        last_good=last_good,
        metric_files=metrics.files if metrics is not None else None,
        is_stopping=worker.is_stopping,
    )
    if listener.port is None:
        # The system tells too little about connections that are not TCP.
        return app
    connections = Connections(app)
    limits = connection_limits(settings, descriptors)
    proxies = tuple(map(ip_network, settings.trusted_proxies))
    Watcher(connections, listener.port, limits, proxies, descriptors).start()
    return connections


def connection_limits(settings: Settings, descriptors: Descriptors) -> ConnectionLimits:
    """Return the limits of connections that the settings ask for, as far as descriptors last."""
    return ConnectionLimits(
        header_timeout=settings.header_timeout,
        idle_timeout=settings.idle_timeout,
        write_timeout=settings.write_timeout,
        connections=descriptors.connections(settings.max_connections),
        client_connections=settings.max_client_connections,
    )


class _Worker:
    """This process, one of the workers."""

    def __init__(
        self, shutdown_pipes: ShutdownPipes, started: Started, listener: Listener, timeout: float
    ) -> None:
        self._shutdown_pipes = shutdown_pipes
        self._listener = listener
        self._started = started
        self._timeout = timeout
        self._is_serving = threading.Event()
        self._stopping = threading.Event()
        self.is_stopping = self._stopping.is_set
        self._loop: asyncio.AbstractEventLoop

    def serving(self) -> None:
        """Note that the event loop runs and that Granian handles signals; called in the loop."""
        self._loop = asyncio.get_running_loop()
        self._is_serving.set()
        self._started.release()

    def shut_down_with_parent(self) -> None:
        """Shut down when the pipe ends, and exit when the timeout is over.

        Without the exit, one client that does not read its response would keep the data directory
        locked after the first process is gone.
        """
        if self._shutdown_pipes.wait():
            self._listener.leave()
            time.sleep(HANDOVER)
        self._stopping.set()
        deadline = time.monotonic() + self._timeout
        if self._is_serving.wait(self._timeout):
            with suppress(RuntimeError):  # The loop has ended already.
                self._loop.call_soon_threadsafe(_terminate)
        time.sleep(max(0.0, deadline - time.monotonic()))
        log.warning("requests that exceed the shutdown-timeout are cut off")
        os._exit(1)


def _terminate() -> None:
    """Raise SIGTERM in the main thread, which Granian handles."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.raise_signal(signal.SIGTERM)
