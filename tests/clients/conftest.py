"""Running real clients."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.memory import scratch
from support.waiting import PATIENCE

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a client to its end and returns what it printed.

    Each test has a home of its own, so that no client finds what another left.
    """
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    policy = home / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    environment = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
        "LANG": "C.UTF-8",
    }

    def run_client(*command: str, fails: bool = False) -> str:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
            env=environment,
            cwd=tmp_path,
        )
        assert (done.returncode != 0) == fails, f"{command}: {done.stdout}{done.stderr}"
        return done.stderr if fails else done.stdout

    return run_client


@pytest.fixture
def storage() -> Iterator[list[str]]:
    """Return the options that keep the images of podman and buildah in a folder of the test.

    podman refuses a folder whose path is longer than 50 characters, as those of pytest are.
    """
    with tempfile.TemporaryDirectory(prefix="ps-", dir=scratch()) as folder:
        options = ["--root", f"{folder}/root", "--runroot", f"{folder}/run"]
        yield [*options, "--storage-driver", "vfs"]
