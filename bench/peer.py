"""A registry that is measured: started on a free port, stopped by its process id."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple

from bench.processes import Memory, memory_of
from bench.programs import BenchError, clean_environment, run
from bench.wire import Connection

CURVE = "ec_paramgen_curve:prime256v1"

HOST = "127.0.0.1"

START_PATIENCE = 60.0
"""Seconds until a registry that does not answer counts as broken."""

STOP_PATIENCE = 15.0
"""Seconds until a registry that does not end is killed."""

POLL_INTERVAL = 0.005


class Certificate(NamedTuple):
    """Two PEM files."""

    chain: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Make a certificate with an elliptic key, as both servers serve it with least work."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    subject = ("-subj", "/CN=localhost", "-days", "2", "-nodes")
    files = ("-keyout", str(made.key), "-out", str(made.chain))
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", CURVE, *subject, *files)
    return made


class Started(NamedTuple):
    """Seconds from the start of the process to the line that says so, and to the first answer."""

    announced: float | None
    ready: float


class Peer(ABC):
    """One registry over one data directory."""

    name: ClassVar[str]
    ready_path: ClassVar[str]

    def __init__(self, folder: Path, certificate: Certificate | None = None) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.data = folder / "data"
        self.certificate = certificate
        self.port = 0
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that it needs."""
        return {}

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that serves the data directory; it may choose the port."""

    @abstractmethod
    def wait_for_port(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Learn the port, where the command left it open; true if the server announced it."""

    @abstractmethod
    def forget(self, repository: str, digest: str) -> None:
        """Delete a blob, and its bytes with it, so that disks do not fill."""

    @abstractmethod
    def add_tags(self, repository: str, tags: Sequence[str]) -> None:
        """Make a repository of many tags, all of the smallest manifest."""

    @abstractmethod
    def add_repositories(self, repositories: Sequence[str]) -> None:
        """Make many repositories with one tag each, of the smallest manifest."""

    @property
    def url(self) -> str:
        """The root of every path."""
        return f"{'https' if self.certificate else 'http'}://{HOST}:{self.port}"

    @property
    def memory(self) -> Memory:
        """What all its processes together have in memory now."""
        return memory_of(self.group)

    @property
    def group(self) -> int:
        """The process group of all its processes."""
        if self._process is None:
            raise BenchError(f"{self.name} does not run")
        return self._process.pid

    def connect(self) -> Connection:
        """Open a connection."""
        return Connection(HOST, self.port, secure=self.certificate is not None)

    def start(self) -> Started:
        """Start it and wait until it says that it can serve."""
        begun = time.monotonic()
        deadline = begun + START_PATIENCE
        command = self.command()
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the benchmark alone, which then stops it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**clean_environment(), **self.environment},
            )
        announced = None
        if self.wait_for_port(self._process, deadline):
            announced = time.monotonic() - begun
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{self.name} does not serve: {self.last_words()}")
            time.sleep(POLL_INTERVAL)
        return Started(announced, time.monotonic() - begun)

    def stop(self) -> None:
        """Ask it to end, and make sure of it; does nothing if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if process.stdout is not None:
                process.stdout.close()

    def last_words(self) -> str:
        """Return the last line that it wrote to standard error."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _is_ready(self) -> bool:
        try:
            with self.connect() as connection:
                return connection.ask("GET", self.ready_path).status == 200  # noqa: PLR2004
        except (OSError, BenchError):
            return False


class Pair(NamedTuple):
    """The two that are compared, in the order in which they are measured."""

    docker: Peer
    portside: Peer
