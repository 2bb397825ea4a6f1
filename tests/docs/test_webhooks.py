"""The receiver, the rules and the commands of the page about webhooks do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.balancer import take_port
from support.content import image
from support.pages import ROOT, Script, read_fences
from support.server import running_registry
from support.waiting import until
from support.wire import connect, push

PAGE = ROOT / "docs" / "howto" / "webhooks.md"


@contextmanager
def running(program: Path, port: int) -> Iterator[Path]:
    """Run a receiver; yields the file into which it prints."""
    printed = program.with_suffix(".printed")
    with printed.open("w") as output, (program.with_suffix(".log")).open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(program)], cwd=program.parent, stdout=output, stderr=log
        )
        try:
            until(lambda: answers(port))
            yield printed
        finally:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    """Whether something refuses what is not signed."""
    try:
        return httpx.post(f"http://127.0.0.1:{port}/", content=b"{}").status_code == 401
    except httpx.TransportError:
        return False


@pytest.mark.long
def test_page(home: Path, run_script: Script) -> None:
    """The receiver accepts what is signed, and prints what happens in the repositories named."""
    blocks = dict(reversed(read_fences(PAGE)))
    port = take_port()
    for name, text in (("rules.toml", blocks["toml"]), ("receiver.py", blocks["python"])):
        assert text.startswith(f"# {name}\n")
        (home / name).write_text(text.replace("8080", str(port)))
    run_script(blocks["sh"])
    assert (home / "deploy.secret").stat().st_mode & 0o077 == 0
    with (
        running(home / "receiver.py", port) as printed,
        running_registry(
            home / "data", "--workers", "1", "--rules", str(home / "rules.toml")
        ) as registry,
        connect(registry.url) as client,
    ):
        ((command, expected),) = re.findall(r"^\$ (.+)\n(.*\n)", blocks["console"])
        assert expected in run_script(command)
        for repository in ("other/app", "team/app"):
            push(client, repository, image("told"), "1")
        until(lambda: len(printed.read_text().splitlines()) > 1)
        assert printed.read_text().splitlines() == [
            "portside.ping None",
            "portside.tag.set team/app:1",
        ]
