"""What commands load: a command that looks something up does not wait for a server."""

from __future__ import annotations

import subprocess
import sys

import pytest

from portside.cli.commands import GROUPS

HEAVY = {"asyncpg", "cryptography", "granian", "jwt", "starlette"}


def loaded(module: str) -> set[str]:
    """Import a module in a process of its own; returns the packages that are loaded then."""
    script = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("name", ["commands", *sorted(set(GROUPS.values()))])
def test_no_server(name: str) -> None:
    """Neither a server nor what only a server needs is imported; `portside --help` needs all."""
    assert loaded(f"portside.cli.{name}") & HEAVY == set()


def test_metrics_are_off() -> None:
    """Neither the server nor the application imports the library of metrics, until they are on."""
    assert "prometheus_client" not in loaded("portside.cli.server")
    assert "prometheus_client" in loaded("portside.bootstrap.measuring")


def test_server() -> None:
    """These are the names under which a server would be seen."""
    assert loaded("portside.cli.server") & HEAVY == HEAVY - {"asyncpg"}
