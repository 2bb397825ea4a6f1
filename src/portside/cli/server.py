"""Serve: lock the data directory, hold the address, start the workers, and shut down in order."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import ssl
import threading
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import click
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server.common import AbstractServer

from portside.api.log_lines import log_formatter
from portside.bootstrap.application import LastGoodTexts
from portside.bootstrap.clock import now
from portside.bootstrap.observing import try_tracing
from portside.bootstrap.permissions import require_permission
from portside.bootstrap.preparing import prepare
from portside.cli.banner import banner
from portside.cli.certificate_pair import CertificatePair
from portside.cli.certificates import check_certificate, validity
from portside.cli.descriptors import Descriptors
from portside.cli.errors import ServerError
from portside.cli.listeners import Listener, listen
from portside.cli.locks import lock_data
from portside.cli.metrics import MetricsServer
from portside.cli.output import drop_output
from portside.cli.signals import SHUTDOWN_SIGNALS, exit_on_signal
from portside.cli.workers import (
    START_TIMEOUT,
    ShutdownPipes,
    Started,
    Supervisor,
    load_worker,
    start_logging,
)
from portside.config import LogFormat, Settings
from portside.operations.diagnose import look_at_life

log = logging.getLogger(__name__)

_LOG_STYLES = (("console", "generic"), ("access", "access"))

FIELD_OVERHEAD = 4096
"""Bytes that HTTP/2 counts beside those of the headers, 32 for each field (RFC 9113, 6.5.2)."""

SEND_BUFFER = 64 * 1024
"""Bytes of a response that wait for an HTTP/2 client, for each request."""

RECEIVE_BUFFER = 512 * 1024
"""Bytes that the HTTP server reads ahead on a connection; a body arrives in pieces of this size."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; raises ServerError, SettingsInvalid and RegistryError."""
    exit_on_signal()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if settings.tls_certificate:
        check_certificate(settings.tls_certificate, settings.tls_key)
    try_tracing(settings)
    with ExitStack() as held:
        listener = None
        if not (settings.database or settings.root.exists()):
            # A start that is refused creates nothing.
            listener = held.enter_context(closing(listen(settings)))
            if not (settings.open or settings.requires_credentials or settings.admin_password):
                _require_access_control(settings, listener)
        require_permission(settings)
        if not settings.database:
            held.callback(os.close, lock_data(settings.root))
        # The workers of a registry that was killed have the port for as long as the lock.
        listener = listener or held.enter_context(closing(listen(settings)))
        is_closed = prepare(settings)
        if not is_closed:
            _require_access_control(settings, listener)
        metrics = None
        if settings.metrics_address is not None:
            metrics = MetricsServer(settings.metrics_address, settings)
            held.enter_context(closing(metrics))
        _serve(settings, listener, metrics, is_closed=is_closed)


def _serve(
    settings: Settings, listener: Listener, metrics: MetricsServer | None, *, is_closed: bool
) -> None:
    """Serve at an address that this process holds, until SIGTERM or Ctrl-C."""
    # The workers inherit the lock and the pipes.
    multiprocessing.set_start_method("fork", force=True)
    shutdown_pipes, started = ShutdownPipes(), Started()
    descriptors = Descriptors(settings.backlog)
    server = _make_server(settings, shutdown_pipes, descriptors, listener, started)
    descriptors.raise_limit()
    start_logging(settings)
    _warn_of_end(settings.tls_certificate)
    descriptors.report(settings.max_connections)
    loader = partial(
        load_worker,
        settings,
        started,
        shutdown_pipes,
        descriptors,
        listener,
        last_good=LastGoodTexts.make(),
        metrics=metrics,
    )
    announcer = threading.Thread(
        target=_announce,
        args=(settings, started, listener),
        kwargs={"is_closed": is_closed, "metrics": metrics.url if metrics is not None else ""},
        daemon=True,
    )
    server.on_startup(announcer.start)
    if metrics is not None:
        server.on_startup(metrics.start)
    try:
        server.serve(target_loader=loader, wrap_loader=False)
    finally:
        # Python restores the default handlers when it exits; a late signal must not kill it.
        for number in SHUTDOWN_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        shutdown_pipes.close_all()


def _warn_of_end(certificate: str) -> None:
    """Warn of a certificate that clients refuse or soon will; raises ServerError."""
    if certificate:
        life = look_at_life(certificate, *validity(certificate), now() / 1_000_000)
        if not life.is_ok:
            log.warning("the certificate %s; %s", life.text, life.remedy)


def _require_access_control(settings: Settings, listener: Listener) -> None:
    """Refuse to serve other machines without access control, unless `--open` asks for it."""
    if settings.open:
        click.echo(
            "Access control is off: everyone who can reach this address can push, pull and delete",
            err=True,
        )
    elif not listener.is_local:
        exposed = (
            f"{listener} can be reached from other machines, and access control is off; add a user"
            " (portside user add NAME --create, or PORTSIDE_ADMIN_PASSWORD_FILE), set --htpasswd,"
            " --access or --anonymous, or pass --open"
        )
        raise ServerError(exposed)


def _make_server(
    settings: Settings,
    shutdown_pipes: ShutdownPipes,
    descriptors: Descriptors,
    listener: Listener,
    started: Started | None = None,
) -> AbstractServer[Any]:
    certificate, key = settings.tls_certificate, settings.tls_key
    try:
        return Supervisor(
            shutdown_pipes,
            settings.shutdown_timeout,
            listener,
            pair=CertificatePair(certificate, key) if certificate else None,
            started=started,
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
            log_dictconfig=_logging(settings),
            ssl_protocol_min=SSLProtocols.tls12,
            ssl_cert=Path(certificate) if certificate else None,
            ssl_key=Path(key) if key else None,
            respawn_failed_workers=True,
        )
    except (OSError, ssl.SSLError) as error:
        unusable = f"cannot use the certificate {certificate} with the key {key}: {error}"
        raise ServerError(unusable) from error


def _logging(settings: Settings) -> dict[str, Any]:
    """Return how Granian logs: to standard error, in lines like those of the registry."""
    formatter = partial(log_formatter, as_json=settings.log_format is LogFormat.JSON)
    return {
        "handlers": {
            name: {
                "class": "logging.StreamHandler",
                "formatter": style,
                "stream": "ext://sys.stderr",
            }
            for name, style in _LOG_STYLES
        },
        "formatters": {style: {"()": formatter} for _, style in _LOG_STYLES},
    }


def _announce(
    settings: Settings, started: Started, listener: Listener, *, is_closed: bool, metrics: str
) -> None:
    """Print the banner as soon as every worker has started and a connection is accepted."""
    started.wait_for_first(settings.workers)
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            listener.connect()
        except OSError:
            time.sleep(0.01)
            continue
        try:
            click.echo(banner(settings, listener, is_closed=is_closed, metrics=metrics))
        except (OSError, ValueError):
            # The reader is gone, as in `portside serve | head -1`; the registry serves anyway.
            drop_output()
        return
