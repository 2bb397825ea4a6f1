"""Serve: take the data directory and the port, start the workers, say so, and end in order."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import ssl
import threading
import time
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.common import AbstractServer

from portside.bootstrap.preparing import prepare
from portside.cli.announcement import announce
from portside.cli.certificates import check_certificate
from portside.cli.failures import ServerError
from portside.cli.stopping import STOPPING, quit_when_told
from portside.cli.workers import Lifeline, Supervisor, load_worker
from portside.config import Settings

LOCK = "portside.lock"

LOCK_PATIENCE = 1.0
"""Seconds to wait for the data directory: workers of a registry that was killed end within them."""

_LOG_HANDLERS = {
    name: {"class": "logging.StreamHandler", "formatter": style, "stream": "ext://sys.stderr"}
    for name, style in (("console", "generic"), ("access", "access"))
}
"""Of Granian, which would write to standard output otherwise."""

RECEIVE_BUFFER = 512 * 1024
"""Bytes that the HTTP server reads ahead on a connection: what a body arrives in pieces of."""


def serve(settings: Settings) -> None:
    """Serve until a signal says to stop; raises ServerError, CertificateInvalid, RegistryError."""
    quit_when_told()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    host, port = settings.address
    if settings.tls_certificate:
        check_certificate(settings.tls_certificate, settings.tls_key)
    lock = _take_data(settings.root) if not settings.database else None
    held = _take_port(host, port)
    is_closed = prepare(settings)
    if not is_closed:
        _allow_open(settings, host)
    address, port = held.getsockname()[:2]
    # The workers inherit the lock and the lifeline.
    multiprocessing.set_start_method("fork", force=True)
    lifeline = Lifeline()
    server = _make_server(settings, lifeline, address, port)
    started = multiprocessing.Semaphore(0)
    loader = partial(load_worker, settings, started, lifeline)
    announcer = threading.Thread(target=announce, args=(settings, started, host, port), daemon=True)
    server.on_startup(announcer.start)
    try:
        server.serve(target_loader=loader, wrap_loader=False)
    finally:
        # There is nothing left to stop, and Python's end gives the signals back what they did.
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        lifeline.end()
        held.close()
        if lock is not None:
            os.close(lock)


def _allow_open(settings: Settings, host: str) -> None:
    """Refuse to serve others without access control, unless that is what the person asked for."""
    if settings.open:
        click.echo("Open: whoever can reach this address may push, pull and delete", err=True)
    elif not _is_loopback(host):
        exposed = (
            f"{host} can be reached from other machines, and there is no access control; add a user"
            " (portside user add NAME), or set --htpasswd, --access or --anonymous, or say --open"
        )
        raise ServerError(exposed)


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
        return all(ip_address(entry[4][0]).is_loopback for entry in found)
    except (OSError, ValueError):
        return False


def _make_server(
    settings: Settings, lifeline: Lifeline, address: str, port: int
) -> AbstractServer[Any]:
    certificate, key = settings.tls_certificate, settings.tls_key
    try:
        return Supervisor(
            lifeline,
            settings.shutdown_timeout,
            address=address,
            port=port,
            interface=Interfaces.ASGI,
            workers=settings.workers,
            http=HTTPModes.auto,
            websockets=False,
            backlog=settings.backlog,
            http1_settings=HTTP1Settings(
                header_read_timeout=max(1, round(settings.header_timeout * 1000)),
                max_buffer_size=RECEIVE_BUFFER,
            ),
            log_level=LogLevels.warning,
            log_dictconfig={"handlers": _LOG_HANDLERS},
            ssl_protocol_min=SSLProtocols.tls12,
            ssl_cert=Path(certificate) if certificate else None,
            ssl_key=Path(key) if key else None,
            respawn_failed_workers=True,
        )
    except (OSError, ssl.SSLError) as error:
        unusable = f"cannot use the certificate {certificate} with the key {key}: {error}"
        raise ServerError(unusable) from error


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
                used = (
                    f"the data directory {root} is in use by another Portside; if that was killed,"
                    " its workers end within its --shutdown-timeout"
                )
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
    except UnicodeError as error:
        raise ServerError(f"cannot listen on {host}:{port}: {host} is no name") from error
    return held


def _explain_port(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port} is in use; choose another port with --listen"
    if error.errno == errno.EACCES:
        return f"this user may not listen on {host}:{port}; choose a port above 1023 with --listen"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
