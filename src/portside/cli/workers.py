"""Worker processes, from their start to their shutdown.

Workers are not shut down by signals: a signal that arrives while a worker starts would be lost,
because Granian has not installed its handler yet. Instead, each worker waits for the end of a pipe
whose other side the first process holds open until it closes the pipe or dies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from ipaddress import ip_network
from multiprocessing import connection
from multiprocessing.synchronize import Semaphore
from typing import Any

from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.mp import MPServer
from starlette.types import ASGIApp

from portside.api.access_log import log_to
from portside.api.connections import Connections
from portside.api.log_lines import log_formatter
from portside.bootstrap.application import LastGoodTexts, make_app
from portside.cli.connections import Limits as ConnectionLimits
from portside.cli.connections import Watcher
from portside.cli.descriptors import Descriptors
from portside.cli.listeners import Listener
from portside.cli.signals import SHUTDOWN_SIGNALS
from portside.config import LogFormat, Settings

log = logging.getLogger(__name__)

KILL_DELAY = 1.0
"""Seconds between the end of the shutdown timeout and SIGKILL."""

POLL_INTERVAL = 0.05
"""Seconds between two checks of the first process for a signal."""


class ShutdownPipe:
    """A pipe that nothing is written to; readers wait for its end."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def close(self) -> None:
        """Close the side that the first process holds; further calls do nothing."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def wait(self) -> None:
        """Wait until no process holds the other side open."""
        os.read(self._reader, 1)


class PolledEvent:
    """The event that the first process waits for, instead of a `threading.Event`.

    Of two signals that arrive at once, the system may deliver one to another thread, which does not
    wake the main thread; and a handler that sets a `threading.Event` may wait for a lock that the
    interrupted thread holds. So the first process polls, without a lock.
    """

    def __init__(self) -> None:
        self._is_set = False

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


class Supervisor(MPServer):
    """The server of the first process: starts the workers, and replaces those that fail."""

    def __init__(
        self, shutdown_pipe: ShutdownPipe, timeout: float, listener: Listener, **options: Any
    ) -> None:
        self._listener = listener
        super().__init__("portside", **listener.options, **options)
        self._shutdown_pipe = shutdown_pipe
        self._timeout = timeout
        self.main_loop_interrupt = PolledEvent()  # type: ignore[assignment]

    def _init_shared_socket(self) -> None:
        """Use the socket that the first process listens on, if there is one.

        Granian would create it without a lock of its directory, and remove whatever has taken its
        place by the end.
        """
        inherited = self._listener.inherited
        if inherited is None:
            super()._init_shared_socket()  # type: ignore[no-untyped-call]
            return
        self._sso = None
        self._shd = SocketHolder(  # type: ignore[assignment]
            fd=inherited.fileno(),  # type: ignore[call-arg]
            uds=True,
            backlog=self.backlog,
        )

    def signal_handler_reload(self, *_: Any, **__: Any) -> None:
        """Ignore SIGHUP: nothing requires a restart of the workers."""

    def shutdown(self, exit_code: int = 0) -> None:
        """Shut the workers down, and kill those that exceed the timeout.

        Granian sends signals instead, and calls `is_alive` while another thread waits for the same
        process: under load, it mistakes a worker that has exited for one that does not stop.
        """
        for worker in self.wrks:
            worker.interrupt_by_parent = True
        self._listener.withdraw()
        self._shutdown_pipe.close()
        deadline = time.monotonic() + self._timeout + KILL_DELAY
        running: dict[Any, Any] = {worker.inner.sentinel: worker for worker in self.wrks}
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


def start_logging(settings: Settings) -> None:
    """Write the log of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(log_formatter(as_json=settings.log_format is LogFormat.JSON))
    level = settings.log_level.upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)


def load_worker(
    settings: Settings,
    started: Semaphore,
    shutdown_pipe: ShutdownPipe,
    descriptors: Descriptors,
    listener: Listener,
    *,
    last_good: LastGoodTexts,
) -> ASGIApp:
    """Make the application in the process of a worker."""
    shutdown_pipe.close()
    signal.pthread_sigmask(signal.SIG_BLOCK, SHUTDOWN_SIGNALS)
    start_logging(settings)
    log_to(sys.stderr)
    worker = _Worker(shutdown_pipe, started, settings.shutdown_timeout)
    threading.Thread(target=worker.shut_down_with_parent, daemon=True).start()
    app = make_app(
        settings,
        on_start=worker.serving,
        on_loopback=listener.on_loopback,
        last_good=last_good,
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

    def __init__(self, shutdown_pipe: ShutdownPipe, started: Semaphore, timeout: float) -> None:
        self._shutdown_pipe = shutdown_pipe
        self._started = started
        self._timeout = timeout
        self._is_serving = threading.Event()
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
        self._shutdown_pipe.wait()
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
