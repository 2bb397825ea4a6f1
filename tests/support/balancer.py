"""nginx in front of nodes, with the configuration of the documentation."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from servers import ServerMissing
from support.certificates import write_certificate
from support.missing import server_needed
from support.waiting import PATIENCE

CONFIGURATION = Path(__file__).parents[2] / "docs" / "howto" / "scale-out" / "nginx.conf"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
PORTS = range(20_000, 32_000)
"""Ports outside the ephemeral range: a server on one can stop and start again."""


def take_port() -> int:
    """Return a port of the loopback that is free now."""
    while True:
        port = random.choice(PORTS)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


def listens(port: int) -> bool:
    """Whether something accepts connections on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def find_proxy(name: str) -> str:
    """Return the program; skips the test if there is none, but in CI."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    with server_needed():
        if found is None:
            raise ServerMissing(f"there is no {name}; `make test` installs it")
    assert found is not None
    return found


def temporary_paths(folder: Path) -> str:
    """Return the lines with which nginx keeps what it writes in a folder."""
    return "".join(f"    {name}_temp_path {folder}/temporary;\n" for name in TEMPORARY)


@contextmanager
def running_proxy(command: Sequence[str], port: int, errors: Path) -> Iterator[None]:
    """Run a proxy for the length of a block, from when it listens; its log is a file."""
    with errors.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < deadline, errors.read_text()
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


class Answer(NamedTuple):
    """A request that was passed on: its method, and the port of the node that answered."""

    method: str
    port: int


_LINE = re.compile(r'"([A-Z]+) (\S+) [^"]*" .*127\.0\.0\.1:(\d+) \d+$')


class Balancer:
    """An nginx that listens on `port`, and on `tls_port` with a certificate that tests trust."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.port, self.tls_port = take_port(), take_port()
        self._folder = folder
        self._program = find_proxy("nginx")
        self.certificate, key = write_certificate(folder)
        (folder / "nginx.conf").write_text(self._configure(ports, key))

    def _configure(self, ports: Sequence[int], key: Path) -> str:
        """Replace the ports and paths by those of the test, and nothing else."""
        folder = self._folder
        text = CONFIGURATION.read_text("utf-8")
        servers = iter(ports)
        lines = []
        for line in text.splitlines():
            if line.lstrip().startswith("server 10."):
                port = next(servers, None)
                if port is not None:
                    lines.append(re.sub(r"10\.[0-9.]+:5000", f"127.0.0.1:{port}", line))
                continue
            lines.append(line)
        paths = temporary_paths(folder)
        changes = {
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.tls_port} ssl http2;",
            "/etc/ssl/certs/registry.example.pem": str(self.certificate),
            "/etc/ssl/private/registry.example.key": str(key),
            "/var/log/nginx": str(folder),
            "/run/nginx.pid": f"{folder}/nginx.pid",
            "http {\n": f"http {{\n{paths}",
        }
        text = "\n".join(lines) + "\n"
        for written, wanted in changes.items():
            assert written in text
            text = text.replace(written, wanted)
        return text

    @property
    def address(self) -> str:
        """Host and port, as clients name a registry."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The root of every path."""
        return f"http://{self.address}"

    @property
    def tls_url(self) -> str:
        """The root of every path, over TLS."""
        return f"https://127.0.0.1:{self.tls_port}"

    def answers(self, prefix: str) -> list[Answer]:
        """List the requests for paths that begin so, in the order in which they were answered."""
        lines = (self._folder / "access.log").read_text().splitlines()
        found = [match for line in lines if (match := _LINE.search(line)) is not None]
        return [Answer(match[1], int(match[3])) for match in found if match[2].startswith(prefix)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it for the length of a block."""
        command = [self._program, "-c", f"{self._folder}/nginx.conf", "-g", "daemon off;"]
        with running_proxy(command, self.port, self._folder / "error.log"):
            yield
