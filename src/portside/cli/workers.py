"""Workers: the processes that serve, from their start to their end.

A signal does not end a worker, as one that comes while it starts would be lost: whoever takes it
then is not yet the one who acts on it. What ends a worker is the end of its *lifeline*, a pipe
whose other side the first process holds open, until it closes it or dies.
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
from multiprocessing import connection
from multiprocessing.synchronize import Semaphore
from typing import Any

from granian.server.mp import MPServer
from starlette.types import ASGIApp

from portside.api.access_log import log_to
from portside.bootstrap.application import make_app
from portside.cli.stopping import STOPPING
from portside.config import Settings

log = logging.getLogger(__name__)

KILL_PAUSE = 1.0
"""Seconds after the time in which a worker has to end by itself, before it is ended."""


LOOK = 0.05
"""Seconds between two looks of the first process whether it was told anything."""


class Lifeline:
    """A pipe that nothing is ever written to: whoever reads it waits for its end."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def end(self) -> None:
        """Let go of the side that the first process holds; harmless if it is done twice."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def wait(self) -> None:
        """Wait until nobody holds the other side."""
        os.read(self._reader, 1)


class Interruption:
    """What the first process waits for, in the place of a `threading.Event`.

    Of two signals that come at once, the system may hand one to another thread, which wakes nobody;
    and who sets an Event in a handler may wait for a lock that the interrupted thread has. So the
    first process looks again and again, and there is no lock.
    """

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        """Tell whether something has happened."""
        return self._is_set

    def set(self) -> None:
        """Note that something has happened."""
        self._is_set = True

    def clear(self) -> None:
        """Begin anew."""
        self._is_set = False

    def wait(self) -> None:
        """Wait until something has happened."""
        while not self._is_set:
            time.sleep(LOOK)


class Supervisor(MPServer):
    """The server of the first process, which starts the workers, and others for those that fail."""

    def __init__(self, lifeline: Lifeline, patience: float, **options: Any) -> None:
        super().__init__("portside", **options)
        self._lifeline = lifeline
        self._patience = patience
        self.main_loop_interrupt = Interruption()  # type: ignore[assignment]

    def signal_handler_reload(self, *_: Any, **__: Any) -> None:
        """Do nothing at SIGHUP: there is nothing that a worker has to be started anew for."""

    def shutdown(self, exit_code: int = 0) -> None:
        """End the workers, in order for as long as there is time, and go.

        Granian does the same by signals, and with `is_alive` beside another thread that waits for
        the same process: under load it takes one that has ended for one that refuses to.
        """
        for worker in self.wrks:
            worker.interrupt_by_parent = True
        self._lifeline.end()
        deadline = time.monotonic() + self._patience + KILL_PAUSE
        running: dict[Any, Any] = {worker.inner.sentinel: worker for worker in self.wrks}
        while running and (left := deadline - time.monotonic()) > 0:
            for ended in connection.wait(list(running), left):
                del running[ended]
        for worker in running.values():
            log.warning("worker %d did not end, and is killed", worker.idx + 1)
            worker.kill()
        self.wrks.clear()
        if self.interrupt_signal:
            # Who was told to stop has not failed, whatever the workers did meanwhile.
            self.interrupt_children.clear()
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]


def load_worker(settings: Settings, started: Semaphore, lifeline: Lifeline) -> ASGIApp:
    """Make the application in a worker's process."""
    lifeline.end()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    log_to(sys.stderr)
    worker = _Worker(lifeline, started, settings.shutdown_timeout)
    threading.Thread(target=worker.end_with_lifeline, daemon=True).start()
    return make_app(settings, on_start=worker.serving)


class _Worker:
    """This process, which is one of the workers."""

    def __init__(self, lifeline: Lifeline, started: Semaphore, patience: float) -> None:
        self._lifeline = lifeline
        self._started = started
        self._patience = patience
        self._is_serving = threading.Event()
        self._loop: asyncio.AbstractEventLoop

    def serving(self) -> None:
        """Note, in the loop, that it runs and that a signal does what it should."""
        self._loop = asyncio.get_running_loop()
        self._is_serving.set()
        self._started.release()

    def end_with_lifeline(self) -> None:
        """Stop when the lifeline ends; whatever holds on to this process, not for ever.

        Otherwise one client that does not read would keep the data directory locked when the first
        process is gone.
        """
        self._lifeline.wait()
        deadline = time.monotonic() + self._patience
        if self._is_serving.wait(self._patience):
            with suppress(RuntimeError):  # The loop has ended by itself.
                self._loop.call_soon_threadsafe(_stop)
        time.sleep(max(0.0, deadline - time.monotonic()))
        log.warning("requests that did not end within the shutdown-timeout are cut off")
        os._exit(1)


def _stop() -> None:
    """Do, in the main thread, what a SIGTERM tells Granian to."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.raise_signal(signal.SIGTERM)
