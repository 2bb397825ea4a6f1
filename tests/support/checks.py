"""Looking at a store with the registry's own check."""

from __future__ import annotations

from pathlib import Path

from support.homes import Home


def assert_sound(data: Path) -> None:
    """Check the store in a directory; see assert_home_sound."""
    assert_home_sound(Home(data))


def assert_home_sound(home: Home) -> None:
    """Check the store: nothing is wrong once what a crash may leave is collected."""
    _, found, _ = home.run("check")
    wrong = [line for line in found.splitlines()[:-1] if not line.startswith("stray ")]
    assert wrong == []
    code, printed, errors = home.run("collect")
    assert code == 0, errors
    code, found, _ = home.run("check")
    left = [line for line in found.splitlines()[:-1] if not line.startswith("stray upload")]
    assert left == [], printed
