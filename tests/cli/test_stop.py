"""The end of `portside serve`, whenever and however it comes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from support.processes import workers_of
from support.server import (
    run_portside,
    running_registry,
    serve_command,
    start_registry,
    without_limit,
)
from support.waiting import PATIENCE, until

SHUTDOWN_TIMEOUT = int(2 * PATIENCE)
"""Seconds that requests under way have to end; a stop without any takes far less."""

STEPS = 12
"""Moments of a start at which it is stopped: from before the first import to after the banner."""


@pytest.fixture(scope="module")
def start_time(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Measure how many seconds a start takes on this machine."""
    began = time.monotonic()
    registry = start_registry(tmp_path_factory.mktemp("measured") / "data")
    measured = time.monotonic() - began
    assert registry.stop() == 0
    return measured


def is_running(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        # The process may end between the opening of its file and the reading of it.
        return False


def has_handler(pid: int) -> bool:
    """Whether a process does something of its own at SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


class TestWhileItStarts:
    """A stop before it listens waits for nothing, and reports no failure."""

    @pytest.mark.parametrize("step", range(STEPS))
    @pytest.mark.parametrize("to_all", [False, True], ids=["first process", "all of them"])
    def test_any_moment(self, data: Path, start_time: float, step: int, to_all: bool) -> None:
        """SIGTERM ends it with 0 and without a word, and no shutdown timeout is waited for."""
        process = subprocess.Popen(
            serve_command(data, "--shutdown-timeout", str(SHUTDOWN_TIMEOUT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        until(lambda: has_handler(process.pid))
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.5 * start_time * step / STEPS)
        stopped = time.monotonic()
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGTERM)
        printed, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert without_limit(errors) == ""
        assert printed == "" or printed.startswith("Portside listens")
        assert time.monotonic() - stopped < SHUTDOWN_TIMEOUT / 2

    def test_before_there_are_workers(self, data: Path) -> None:
        """It ends with 0 while it still waits for the data directory, which another one has."""
        with running_registry(data):
            process = subprocess.Popen(
                serve_command(data), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            until(lambda: has_handler(process.pid))
            process.terminate()
            assert process.communicate(timeout=PATIENCE) == ("", "")
            assert process.returncode == 0

    def test_while_the_object_store_is_silent(self, data: Path) -> None:
        """A stop does not wait for it."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent.settimeout(PATIENCE)
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            patient = ("--shutdown-timeout", str(SHUTDOWN_TIMEOUT))
            process = subprocess.Popen(
                serve_command(data, "--storage", "s3://registry", *patient),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "AWS_ENDPOINT_URL": endpoint,
                    "AWS_ACCESS_KEY_ID": "portside",
                    "AWS_SECRET_ACCESS_KEY": "secret",
                },
            )
            connection, _ = silent.accept()
            children = workers_of(process.pid)
            assert children
            process.terminate()
            # The pipes are open for as long as any of its processes lives. Without a signal, they
            # would wait for the store for minutes, and for requests for the shutdown timeout.
            printed, errors = process.communicate(timeout=PATIENCE)
            assert (printed, without_limit(errors)) == ("", "")
            assert process.returncode == 0
            # A process closes its pipes a moment before it ends.
            until(lambda: not any(map(is_running, children)))
            connection.close()

    def test_a_worker_that_has_just_started(self, data: Path) -> None:
        """A stop that comes as soon as there are workers reaches all of them."""
        process = subprocess.Popen(
            serve_command(data, "--shutdown-timeout", str(SHUTDOWN_TIMEOUT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        until(lambda: len(workers_of(process.pid)) == 2)
        stopped = time.monotonic()
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, without_limit(errors)) == (0, "")
        assert time.monotonic() - stopped < SHUTDOWN_TIMEOUT / 2


class TestSignals:
    """What else arrives."""

    def test_to_all_processes(self, data: Path) -> None:
        """What a terminal or systemd sends to the workers as well makes no failure of the stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            registry = start_registry(data)
            os.killpg(registry.process.pid, number)
            assert registry.wait() == 0
            assert registry.log == ""

    def test_hangup(self, data: Path) -> None:
        """SIGHUP changes nothing."""
        with running_registry(data) as registry:
            workers = workers_of(registry.process.pid)
            os.killpg(registry.process.pid, signal.SIGHUP)
            socket.create_connection((registry.host, registry.port)).close()
            assert workers_of(registry.process.pid) == workers
        assert registry.process.returncode == 0
        assert registry.log == ""

    def test_two_at_once(self, tmp_path: Path) -> None:
        """A SIGTERM right behind another signal is not lost between the threads."""
        for number in range(8):
            registry = start_registry(tmp_path / f"data{number}")
            os.killpg(registry.process.pid, signal.SIGHUP)
            assert registry.stop() == 0

    def test_stop_of_a_worker(self, data: Path) -> None:
        """A worker that is killed is replaced, and that is stopped like the others."""
        with running_registry(data, "--workers", "1") as registry:
            (worker,) = workers_of(registry.process.pid)
            os.kill(worker, signal.SIGKILL)
            until(lambda: workers_of(registry.process.pid) not in ([], [worker]))
        assert registry.process.returncode == 0
        assert "killed" not in registry.log


class TestStalledClient:
    """A client that sends half of a body, and then nothing."""

    @staticmethod
    def stall(host: str, port: int, data: Path) -> socket.socket:
        """Begin an upload."""
        connection = socket.create_connection((host, port))
        head = "POST /v2/a/blobs/uploads/?digest=sha256:" + "0" * 64 + " HTTP/1.1\r\n"
        connection.sendall(f"{head}Host: localhost\r\nContent-Length: 9\r\n\r\nabc".encode())
        until(lambda: bool(list((data / "uploads").iterdir())))
        return connection

    def test_is_cut_off(self, data: Path) -> None:
        """The log says that the stop did so."""
        registry = start_registry(data, "--shutdown-timeout", "1")
        with self.stall(registry.host, registry.port, data):
            assert registry.stop() == 0
        assert "exceed the shutdown-timeout are cut off" in registry.log
        assert len(registry.log.splitlines()) == 1

    def test_does_not_keep_the_data_directory(self, data: Path) -> None:
        """When the first process is killed, the others go when they had their time."""
        registry = start_registry(data, "--shutdown-timeout", "12")
        workers = workers_of(registry.process.pid)
        with self.stall(registry.host, registry.port, data):
            registry.process.kill()
            registry.process.wait()
            code, _, errors = run_portside("serve", "--data", str(data), "--listen", "127.0.0.1:0")
            assert code == 1
            assert "in use by another Portside; if it was killed" in errors
            assert "--shutdown-timeout" in errors
            until(lambda: not any(map(is_running, workers)))
        registry.kill()
        assert start_registry(data).stop() == 0
