"""Looking at a store with the registry's own check."""

from __future__ import annotations

from pathlib import Path

from support.server import run_portside


def assert_sound(data: Path) -> None:
    """Check the store: nothing is wrong once what a crash may leave is collected."""
    _, found, _ = run_portside("check", "--data", str(data))
    wrong = [line for line in found.splitlines()[:-1] if not line.startswith("stray ")]
    assert wrong == []
    code, printed, errors = run_portside("collect", "--data", str(data))
    assert code == 0, errors
    code, found, _ = run_portside("check", "--data", str(data))
    left = [line for line in found.splitlines()[:-1] if not line.startswith("stray upload")]
    assert left == [], printed
