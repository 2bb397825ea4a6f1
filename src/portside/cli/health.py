"""`portside health`: whether the registry on this machine answers."""

from __future__ import annotations

import os
import socket
import ssl
from http.client import BadStatusLine, HTTPConnection, HTTPException, RemoteDisconnected
from pathlib import Path
from typing import Any

import click

from portside.cli.errors import ServerError
from portside.cli.options import Command, settings_options
from portside.cli.registry import read_settings
from portside.config import Settings

TIMEOUT = 6.0
"""Seconds; a node gives up asking its stores whether they are ready after five."""


@click.command("health", cls=Command)
@click.option(
    "--ready",
    "is_ready",
    is_flag=True,
    help="Ask whether the database and the blob store can be read, too.",
)
@settings_options("listen", "tls_certificate", "tls_key")
def health(*, is_ready: bool, **given: Any) -> None:
    """Ask the registry that these settings start on this machine whether it is alive.

    The certificate is not verified, because it is issued for the name that clients use.
    """
    ask(read_settings(given), "/readyz" if is_ready else "/healthz")
    click.echo("ready" if is_ready else "alive")


def ask(settings: Settings, path: str) -> None:
    """Ask the registry that the settings start on this machine.

    Raises ServerError unless it answers 200.
    """
    try:
        with _connect(settings) as connected:
            connection = HTTPConnection("localhost")
            connection.sock = connected
            connection.request("GET", path)
            answer = connection.getresponse()
            said = answer.read().decode("utf-8", "replace").strip()
    except (OSError, HTTPException) as error:
        said = _explain(error)
        raise ServerError(f"no answer at {settings.listen}: {said}") from error
    if answer.status != 200:  # noqa: PLR2004  # OK
        raise ServerError(f"{path} at {settings.listen} answered {answer.status}: {said}")


def _explain(error: Exception) -> str:
    """Return why there is no answer, and what to set if only one side speaks TLS."""
    if isinstance(error, ssl.SSLError):
        return f"it does not speak TLS, as --tls-certificate says ({error.reason})"
    if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
        return "it does not speak HTTP; if it speaks TLS, set --tls-certificate and --tls-key"
    return str(error)


def _connect(settings: Settings) -> socket.socket:
    """Connect to where the settings listen; raises OSError."""
    address = settings.address
    if isinstance(address, Path):
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(TIMEOUT)
        connected.connect(os.fsencode(address))
    else:
        connected = socket.create_connection((address.reachable, address.port), timeout=TIMEOUT)
    if not settings.tls_certificate:
        return connected
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connected)
