"""Serve: take the data directory and the port, start the workers, say so, and end in order."""

from __future__ import annotations

import errno
import fcntl
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import threading
import time
from functools import partial
from multiprocessing import connection, parent_process
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

import click
from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.common import AbstractServer
from starlette.types import ASGIApp

from portside.bootstrap import make_app, prepare
from portside.config import Settings

LOCK = "portside.lock"

LOCK_PATIENCE = 1.0
"""Seconds to wait for the data directory: workers of a registry that was killed end within them."""

START_PATIENCE = 30.0
"""Seconds for the workers to come up before it is left to the log to say why they did not."""

RECEIVE_BUFFER = 512 * 1024
"""Bytes that the HTTP server reads ahead on a connection: what a body arrives in pieces of."""


class ServerError(Exception):
    """The registry cannot be started; the message is for the person who tried."""


def serve(settings: Settings) -> None:
    """Serve until a signal says to stop; raises ServerError and RegistryError."""
    host, port = settings.address
    lock = _take_data(settings.root)
    held = _take_port(host, port)
    prepare(settings)
    address, port = held.getsockname()[:2]
    server = _make_server(settings, address, port)
    started = multiprocessing.Semaphore(0)
    loader = partial(load_worker, settings, started)
    announcer = threading.Thread(
        target=_announce, args=(settings, started, host, port), daemon=True
    )
    server.on_startup(announcer.start)
    try:
        server.serve(target_loader=loader, wrap_loader=False)
    finally:
        held.close()
        os.close(lock)


def _make_server(settings: Settings, address: str, port: int) -> AbstractServer[Any]:
    certificate, key = settings.tls_certificate, settings.tls_key
    try:
        return Granian(
            "portside",
            address=address,
            port=port,
            interface=Interfaces.ASGI,
            workers=settings.workers,
            http=HTTPModes.auto,
            websockets=False,
            backlog=settings.backlog,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(settings.header_timeout * 1000),
                max_buffer_size=RECEIVE_BUFFER,
            ),
            log_level=LogLevels.warning,
            ssl_protocol_min=SSLProtocols.tls12,
            ssl_cert=Path(certificate) if certificate else None,
            ssl_key=Path(key) if key else None,
            respawn_failed_workers=True,
            workers_kill_timeout=settings.shutdown_timeout,
        )
    except (OSError, ssl.SSLError) as error:
        unusable = f"cannot use the certificate {certificate} with the key {key}: {error}"
        raise ServerError(unusable) from error


def load_worker(settings: Settings, started: Semaphore) -> ASGIApp:
    """Make the application in a worker's process, which ends with its parent.

    Until the server has set its own, the signal handlers here are those of the parent, which would
    take a SIGTERM for the parent's and lose it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return make_app(settings, on_start=started.release)


def _end_with_parent() -> None:
    """Stop this worker when the process that started it is gone, however it went."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _take_data(root: Path) -> int:
    """Make the data directory and lock it; the lock goes with the processes that hold it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        unusable = f"cannot use the data directory {root}: {error.strerror}"
        raise ServerError(unusable) from error
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                used = f"the data directory {root} is in use by another Portside"
                raise ServerError(used) from error
            time.sleep(0.05)
        else:
            return descriptor


def _take_port(host: str, port: int) -> socket.socket:
    """Find out whether the port is free, and keep it until the workers listen there.

    The workers share the port with SO_REUSEPORT, and so they would share it with any other server
    of the same user, without a word: hence the first attempt, which does not share.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
            address = probe.getsockname()
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError as error:
        raise ServerError(_explain_port(error, host, port)) from error
    return held


def _explain_port(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port} is in use; choose another port with --listen"
    if error.errno == errno.EACCES:
        return f"this user may not listen on {host}:{port}; choose a port above 1023 with --listen"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"


def _announce(settings: Settings, started: Semaphore, host: str, port: int) -> None:
    """Say where everything is as soon as every worker is up and a connection is accepted."""
    for _ in range(settings.workers):
        started.acquire()
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    deadline = time.monotonic() + START_PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection((reachable, port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
            continue
        shown = f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"
        scheme, verify = (
            ("https", "") if settings.tls_certificate else ("http", "--tls-verify=false ")
        )
        bound = f"[{host}]" if ":" in host else host
        click.echo(f"Portside listens on {scheme}://{bound}:{port}")
        click.echo(f"Data is in {settings.root}")
        click.echo(f"Try: podman push {verify}IMAGE {shown}/library/app:1")
        sys.stdout.flush()
        return
