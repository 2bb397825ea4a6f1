"""Output that cannot be written."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.balancer import listens, take_port
from support.processes import Stillness
from support.server import RunningRegistry, serve_command, without_limit
from support.waiting import PATIENCE, until
from support.wire import ONCE

CHECK = f"{shlex.quote(sys.executable)} -m portside check --data "


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell."""
    return subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
def test_serve(data: Path, redirection: str) -> None:
    """A registry whose banner cannot be written serves and stops like any other."""
    port = take_port()
    command = shlex.join(serve_command(data, "--listen", f"127.0.0.1:{port}"))
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command} {redirection}"], stderr=subprocess.PIPE, text=True
    )
    until(lambda: listens(port))
    assert httpx.get(f"http://127.0.0.1:{port}/readyz", **ONCE).status_code == 200
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, without_limit(errors)) == (0, "")


def test_serve_and_head(data: Path) -> None:
    """`portside serve | head -1` goes on serving."""
    port = take_port()
    command = serve_command(data, "--listen", f"127.0.0.1:{port}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        until(lambda: listens(port))
        until(Stillness(process.pid).has_come)
        assert process.poll() is None
        process.terminate()
        assert without_limit(process.stderr.read().decode()) == ""
        assert process.wait(PATIENCE) == 0


def test_check_to_a_full_disk(registry: RunningRegistry) -> None:
    """A command whose answer cannot be written says so in one line."""
    done = shell(f"{CHECK} {registry.data} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("portside: ")
    assert done.stderr.rstrip().endswith("No space left on device")
    assert len(done.stderr.splitlines()) == 1


def test_check_to_a_reader_that_has_gone(registry: RunningRegistry) -> None:
    """A command whose reader has enough ends without a word."""
    done = shell(f"{{ {CHECK} {registry.data}; }} | true")
    assert done.stderr == ""
