"""What is printed when the registry serves, for whoever started it."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from multiprocessing.synchronize import Semaphore

import click

from portside.config import Settings

START_PATIENCE = 30.0
"""Seconds for the workers to come up before it is left to the log to say why they did not."""


def announce(settings: Settings, started: Semaphore, host: str, port: int) -> None:
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
        try:
            click.echo(_banner(settings, host, port, reachable))
        except (OSError, ValueError):
            # Nobody reads it, as in `portside serve | head -1`; the registry serves all the same.
            drop_output()
        return


def _banner(settings: Settings, host: str, port: int, reachable: str) -> str:
    has_tls = bool(settings.tls_certificate)
    scheme, verify = ("https", "") if has_tls else ("http", "--tls-verify=false ")
    shown = f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"
    bound = f"[{host}]" if ":" in host else host
    return (
        f"Portside listens on {scheme}://{bound}:{port}\n"
        f"Data is in {settings.place}\n"
        f"Try: podman push {verify}IMAGE {shown}/library/app:1"
    )


def drop_output() -> None:
    """Print to nowhere from now on: Python would complain at its end about what is left."""
    if sys.stdout is None:
        return
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
