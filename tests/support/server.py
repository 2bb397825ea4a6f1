"""A real registry, in processes of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from support.waiting import PATIENCE

READY = re.compile(r"Portside listens on (?:(https?)://(\S+):(\d+)|unix:(.+))")
LIMIT_LINE = re.compile(r"^.* RLIMIT_NOFILE: .*\n", re.MULTILINE)
"""What every start writes to the log: the limit of open files."""


def without_limit(log: str) -> str:
    """Return a log without what every start writes to it."""
    return LIMIT_LINE.sub("", log)


class RunningRegistry:
    """A registry that serves; `url` is where, `data` is its directory.

    `socket` is the path of its socket if it has one, and the URL is then what its clients send.
    """

    def __init__(self, process: subprocess.Popen[str], data: Path, log: Path, banner: str) -> None:
        found = READY.search(banner)
        assert found is not None, banner
        self.process = process
        self.data = data
        self.banner = banner
        self._log = log
        scheme, host, port, self.socket = found.groups()
        self.scheme = scheme or "http"
        self.host = host or "localhost"
        self.port = int(port or 80)

    @property
    def address(self) -> str:
        """Host and port, as clients name a registry."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The root of every path."""
        return f"{self.scheme}://{self.address}"

    @property
    def workers(self) -> list[str]:
        """The ids of the processes that serve."""
        first = self.process.pid
        return Path(f"/proc/{first}/task/{first}/children").read_text().split()

    @property
    def log(self) -> str:
        """What the registry has written to standard error so far, but for the limit of files."""
        return without_limit(self._log.read_text())

    @property
    def limit_lines(self) -> list[str]:
        """What each start has logged about the limit of open files."""
        return LIMIT_LINE.findall(self._log.read_text())

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self._sweep()

    def kill(self) -> None:
        """End all of its processes at once, as a power cut would."""
        self._sweep()
        self.process.wait(PATIENCE)

    def _sweep(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stdout is not None:
            self.process.stdout.close()


PROGRAM = (sys.executable, "-m", "portside")


def serve_command(data: Path, *options: str, program: Sequence[str] = PROGRAM) -> list[str]:
    """Return the command that serves a directory on a free port of the loopback."""
    command = [*program, "serve", "--data", str(data)]
    if "--listen" not in options:
        command += ["--listen", "127.0.0.1:0"]
    return [*command, *options]


def start_registry(
    data: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    log: Path | None = None,
    program: Sequence[str] = PROGRAM,
) -> RunningRegistry:
    """Start a registry and wait until it says that it listens."""
    log = log or data.with_name(f"{data.name}.log")
    with log.open("a") as errors:
        process = subprocess.Popen(
            [*prefix, *serve_command(data, *options, program=program)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
    banner = _read_banner(process)
    if READY.search(banner) is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise AssertionError(f"the registry did not start: {banner}{log.read_text()}")
    return RunningRegistry(process, data, log, banner)


def _read_banner(process: subprocess.Popen[str]) -> str:
    """Read three lines, or what there is by the deadline."""
    assert process.stdout is not None
    deadline = time.monotonic() + PATIENCE
    banner = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while banner.count(b"\n") < 3 and selector.select(deadline - time.monotonic()):
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                break
            banner += piece
    return banner.decode()


@contextmanager
def running_registry(
    data: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    program: Sequence[str] = PROGRAM,
) -> Iterator[RunningRegistry]:
    """Serve a directory for the length of a block."""
    registry = start_registry(data, *options, env=env, prefix=prefix, program=program)
    try:
        yield registry
    finally:
        registry.stop()


def run_portside(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command to its end; returns its exit code, standard output and standard error."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return done.returncode, done.stdout, done.stderr
