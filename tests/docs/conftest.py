"""Running the commands that a page prints."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.memory import scratch
from support.pages import Script
from support.waiting import PATIENCE


@pytest.fixture
def home() -> Iterator[Path]:
    """Make a home directory in which clients find nothing of this machine.

    podman refuses a folder whose path is longer than 50 characters, as those of pytest are.
    """
    with tempfile.TemporaryDirectory(prefix="ps-", dir=scratch()) as folder:
        home = Path(folder)
        (home / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{home}/root"\nrunroot = "{home}/run"\n'
        )
        (home / ".config" / "containers").mkdir(parents=True)
        (home / ".config" / "containers" / "policy.json").write_text(
            '{"default": [{"type": "insecureAcceptAnything"}]}'
        )
        yield home


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """Return the variables of a shell in the home, with `portside` on its path."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "STORAGE_DRIVER": "vfs",
        "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def run_script(home: Path, environment: dict[str, str]) -> Script:
    """Return a function that runs a script in a shell and returns what it prints.

    Each script begins in the directory in which the one before ended.
    """
    (home / "cwd").write_text(str(home))

    def run(script: str) -> str:
        done = subprocess.run(
            ["sh", "-eux", "-c", f'{script}\npwd > "$HOME/cwd"'],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
            cwd=(home / "cwd").read_text("utf-8").strip(),
            env=environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run
