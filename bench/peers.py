"""The two registries: started on free ports of the loopback, stopped at the end."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

START_PATIENCE = 20.0
"""Seconds until a registry that does not answer counts as broken."""

DOCKER_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http:
  addr: 127.0.0.1:{port}
{tls}"""


class Peer(NamedTuple):
    """One registry that serves; `root` is where its data is."""

    name: str
    port: int
    root: Path
    process: subprocess.Popen[bytes]
    is_secure: bool

    @property
    def url(self) -> str:
        """The root of every path."""
        return f"{'https' if self.is_secure else 'http'}://127.0.0.1:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection that trusts whatever certificate comes."""
        if not self.is_secure:
            return http.client.HTTPConnection("127.0.0.1", self.port)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context)

    def stop(self) -> None:
        """End it with all its processes; once is enough."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()


class Pair(NamedTuple):
    """The two that are compared."""

    docker: Peer
    portside: Peer


class Peers:
    """Both registries, plain and over TLS; each of the four has its own data."""

    def __init__(self, folder: Path) -> None:
        self._certificate, self._key = write_certificate(folder)
        self._running: list[Peer] = []
        self.plain = self._start_pair(folder, is_secure=False)
        self.secure = self._start_pair(folder, is_secure=True)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop all that was started."""
        for peer in self._running:
            peer.stop()

    def _start_pair(self, folder: Path, *, is_secure: bool) -> Pair:
        kind = "tls" if is_secure else "plain"
        docker = self._start_docker(folder / f"docker-{kind}", is_secure=is_secure)
        self._running.append(docker)
        options: list[str] = []
        if is_secure:
            options = ["--tls-certificate", str(self._certificate), "--tls-key", str(self._key)]
        portside = start_portside(folder / f"portside-{kind}", *options)
        self._running.append(portside)
        return Pair(docker, portside)

    def _start_docker(self, root: Path, *, is_secure: bool) -> Peer:
        port = free_port()
        tls = f"  tls: {{certificate: {self._certificate}, key: {self._key}}}\n"
        text = DOCKER_CONFIG.format(root=root, port=port, tls=tls if is_secure else "")
        path = root.with_suffix(".yml")
        path.write_text(text)
        process = subprocess.Popen(
            ["docker-registry", "serve", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        peer = Peer("docker-registry", port, root, process, is_secure)
        wait_for(peer)
        return peer


def start_portside(root: Path, *options: str, workers: int = 2) -> Peer:
    """Start Portside and wait until it answers."""
    port = free_port()
    listen = ["--listen", f"127.0.0.1:{port}", "--workers", str(workers)]
    command = [sys.executable, "-m", "portside", "serve", "--data", str(root), *listen, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    peer = Peer("portside", port, root, process, "--tls-key" in options)
    wait_for(peer)
    return peer


def wait_for(peer: Peer) -> None:
    """Ask until a registry answers."""
    deadline = time.monotonic() + START_PATIENCE
    while time.monotonic() < deadline:
        connection = peer.connect()
        try:
            connection.request("GET", "/v2/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.01)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError(f"{peer.name} does not answer")


def free_port() -> int:
    """Find a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this run, an elliptic one, as both servers prefer."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subject = ["-subj", "/CN=localhost", "-days", "2", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", *curve, *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
