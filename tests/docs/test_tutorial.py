"""The tutorial's commands work as they are printed, in their order."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.balancer import take_port
from support.pages import Script, read_fences

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
PRINTED_PORT = "5443"


@contextmanager
def serving(command: str, home: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run the command that serves, as the first terminal does; yields what it announces."""
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=(home / "cwd").read_text("utf-8").strip(),
        env=environment,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline()
    finally:
        process.terminate()
        process.communicate()
        assert process.returncode == 0


@pytest.mark.long
def test_tutorial(home: Path, environment: dict[str, str], run_script: Script) -> None:
    """Every block of commands succeeds, and prints what the page says; only the port differs."""
    port = str(take_port())
    printed = ""
    commands = 0
    with ExitStack() as stack:
        for language, text in read_fences(TUTORIAL):
            block = text.replace(PRINTED_PORT, port)
            if language == "text":
                assert all(line in printed for line in block.splitlines()), (block, printed)
            elif language == "sh":
                commands += 1
                if block.startswith("portside serve "):
                    printed = stack.enter_context(serving(block, home, environment))
                else:
                    printed = run_script(block)
    assert commands >= 10
