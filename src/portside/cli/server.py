"""Serve: lock the data directory, bind the port, start the workers, and shut down in order."""

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
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

import click
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server.common import AbstractServer

from portside.api.log_lines import LineFormatter, escape_controls
from portside.auth.access_files import LastGoodFiles
from portside.bootstrap.preparing import prepare
from portside.cli.certificates import check_certificate, is_self_signed
from portside.cli.descriptors import Descriptors
from portside.cli.errors import ServerError
from portside.cli.output import drop_output
from portside.cli.signals import SHUTDOWN_SIGNALS, exit_on_signal
from portside.cli.workers import ShutdownPipe, Supervisor, load_worker, start_logging
from portside.config import Settings
from portside.stores.directories import create_directory

LOCK = "portside.lock"

LOCK_TIMEOUT = 1.0
"""Seconds to wait for the lock: the workers of a registry that was killed may still hold it."""

START_TIMEOUT = 30.0
"""Seconds to wait for the workers; the log says why they did not start."""

_LOG_STYLES = (("console", "generic"), ("access", "access"))

_LOGGING = {
    "handlers": {
        name: {"class": "logging.StreamHandler", "formatter": style, "stream": "ext://sys.stderr"}
        for name, style in _LOG_STYLES
    },
    "formatters": {
        style: {"()": LineFormatter, "fmt": "[%(levelname)s] %(message)s"}
        for _, style in _LOG_STYLES
    },
}
"""Granian would log to standard output, and as it likes, otherwise."""

FIELD_OVERHEAD = 4096
"""Bytes that HTTP/2 counts beside those of the headers, 32 for each field (RFC 9113, 6.5.2)."""

SEND_BUFFER = 64 * 1024
"""Bytes of a response that wait for an HTTP/2 client, for each request."""

RECEIVE_BUFFER = 512 * 1024
"""Bytes that the HTTP server reads ahead on a connection; a body arrives in pieces of this size."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; raises ServerError and RegistryError."""
    exit_on_signal()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    host, port = settings.address
    if settings.tls_certificate:
        check_certificate(settings.tls_certificate, settings.tls_key)
    held = None
    if not (settings.database or settings.root.exists()):
        # A start that is refused creates nothing.
        held = _bind_port(host, port)
        if not (settings.open or settings.requires_credentials):
            _require_access_control(settings, host)
    lock = _lock_data(settings.root) if not settings.database else None
    # The workers of a registry that was killed have the port for as long as the lock.
    held = held or _bind_port(host, port)
    is_closed = prepare(settings)
    if not is_closed:
        _require_access_control(settings, host)
    address, port = held.getsockname()[:2]
    # The workers inherit the lock and the pipe.
    multiprocessing.set_start_method("fork", force=True)
    shutdown_pipe = ShutdownPipe()
    descriptors = Descriptors(settings.backlog)
    server = _make_server(settings, shutdown_pipe, descriptors, address, port)
    descriptors.raise_limit()
    start_logging()
    descriptors.report(settings.max_connections)
    started = multiprocessing.Semaphore(0)
    loader = partial(
        load_worker,
        settings,
        started,
        shutdown_pipe,
        descriptors,
        port=port,
        on_loopback=_is_loopback(host),
        last_good=LastGoodFiles.make(),
    )
    announcer = threading.Thread(
        target=_announce,
        args=(settings, started, host, port),
        kwargs={"is_closed": is_closed},
        daemon=True,
    )
    server.on_startup(announcer.start)
    try:
        server.serve(target_loader=loader, wrap_loader=False)
    finally:
        # Python restores the default handlers when it exits; a late signal must not kill it.
        for number in SHUTDOWN_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        shutdown_pipe.close()
        held.close()
        if lock is not None:
            os.close(lock)


def _require_access_control(settings: Settings, host: str) -> None:
    """Refuse to serve other machines without access control, unless `--open` asks for it."""
    if settings.open:
        click.echo(
            "Access control is off: everyone who can reach this address can push, pull and delete",
            err=True,
        )
    elif not _is_loopback(host):
        exposed = (
            f"{host} can be reached from other machines, and access control is off; add a user"
            " (portside user add NAME), set --htpasswd, --access or --anonymous, or pass --open"
        )
        raise ServerError(exposed)


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
        return all(ip_address(entry[4][0]).is_loopback for entry in found)
    except (OSError, ValueError):
        return False


def _make_server(
    settings: Settings,
    shutdown_pipe: ShutdownPipe,
    descriptors: Descriptors,
    address: str,
    port: int,
) -> AbstractServer[Any]:
    certificate, key = settings.tls_certificate, settings.tls_key
    try:
        return Supervisor(
            shutdown_pipe,
            settings.shutdown_timeout,
            address=address,
            port=port,
            interface=Interfaces.ASGI,
            workers=settings.workers,
            http=HTTPModes.auto,
            websockets=False,
            backlog=descriptors.backlog,
            backpressure=descriptors.connections(settings.max_connections),
            http1_settings=HTTP1Settings(
                # Counted from the end of the last response on; `Watcher` keeps the shorter limit.
                header_read_timeout=max(
                    1, round(max(settings.header_timeout, settings.idle_timeout) * 1000)
                ),
                max_buffer_size=RECEIVE_BUFFER,
            ),
            http2_settings=HTTP2Settings(
                max_concurrent_streams=settings.max_streams,
                max_headers_size=settings.max_header_bytes + FIELD_OVERHEAD,
                max_send_buffer_size=SEND_BUFFER,
            ),
            log_level=LogLevels.warning,
            log_dictconfig=_LOGGING,
            ssl_protocol_min=SSLProtocols.tls12,
            ssl_cert=Path(certificate) if certificate else None,
            ssl_key=Path(key) if key else None,
            respawn_failed_workers=True,
        )
    except (OSError, ssl.SSLError) as error:
        unusable = f"cannot use the certificate {certificate} with the key {key}: {error}"
        raise ServerError(unusable) from error


def _lock_data(root: Path) -> int:
    """Create the data directory, and lock it for as long as this process and its workers live."""
    try:
        create_directory(root)
        descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        unusable = f"cannot use the data directory {root}: {error.strerror}"
        raise ServerError(unusable) from error
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                used = (
                    f"the data directory {root} is in use by another Portside; if it was killed,"
                    " its workers exit within its --shutdown-timeout"
                )
                raise ServerError(used) from error
            time.sleep(0.05)
        else:
            return descriptor


def _bind_port(host: str, port: int) -> socket.socket:
    """Reserve the port until the workers listen on it; raises ServerError if it is in use.

    The workers share the port by SO_REUSEPORT, and would silently share it with any other server of
    the same user. The first socket does not share, so that it finds out.
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
        raise ServerError(f"cannot listen on {host}:{port}: {host} is not a host name") from error
    return held


def _explain_port(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port} is in use; choose another port with --listen"
    if error.errno == errno.EACCES:
        return f"no permission to listen on {host}:{port}; choose a port above 1023 with --listen"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"


def _announce(
    settings: Settings,
    started: Semaphore,
    host: str,
    port: int,
    *,
    is_closed: bool,
) -> None:
    """Print the banner as soon as every worker has started and a connection is accepted."""
    for _ in range(settings.workers):
        started.acquire()
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            socket.create_connection((reachable, port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
            continue
        try:
            click.echo(_banner(settings, host, port, reachable, is_closed=is_closed))
        except (OSError, ValueError):
            # The reader is gone, as in `portside serve | head -1`; the registry serves anyway.
            drop_output()
        return


def _banner(settings: Settings, host: str, port: int, reachable: str, *, is_closed: bool) -> str:
    certificate = settings.tls_certificate
    scheme = "https" if certificate else "http"
    is_trusted = certificate and not is_self_signed(certificate)
    verify = "" if is_trusted else "--tls-verify=false "
    shown = f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"
    login = f"podman login {verify}{shown} && " if is_closed else ""
    bound = f"[{host}]" if ":" in host else host
    lines = (
        f"Portside listens on {scheme}://{bound}:{port}",
        f"Data is in {settings.place}",
        f"Try: {login}podman push {verify}IMAGE {shown}/library/app:1",
    )
    return "\n".join(map(escape_controls, lines))
