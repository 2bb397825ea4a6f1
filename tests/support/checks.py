"""Checks of a store by `portside check`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from support.commands import run_inside
from support.homes import Home

SUMMARY = re.compile(
    r"(?P<count>No|\d+) problems? in \d+ manifests?, .* upload sessions?\."
    r"(?: (?P<orphaned>\d+) orphaned items?: harmless\.)?"
)
"""The last line that `portside check` prints: it comes only if everything was looked at."""


class Found(NamedTuple):
    """The lines of a check: what is damaged, and what is orphaned."""

    problems: list[str]
    orphaned: list[str]


def read_check(home: Home, *options: str) -> Found:
    """Return the lines that `portside check` prints.

    The exit status, the numbers in the summary and the lines have to say the same, so a check that
    ended early or printed nothing is not taken for a sound store.
    """
    code, printed, errors = run_inside("check", *home.place, *options, env=home.env)
    assert errors == "", printed
    assert printed, f"`portside check` printed nothing, and exited with {code}"
    *lines, last = printed.splitlines()
    orphaned = [line for line in lines if line.startswith("orphaned ")]
    problems = [line for line in lines if line not in orphaned]
    summary = SUMMARY.fullmatch(last)
    assert summary is not None, printed
    assert summary["count"] == (str(len(problems)) if problems else "No"), printed
    assert summary["orphaned"] == (str(len(orphaned)) if orphaned else None), printed
    assert code == (1 if problems else 0), printed
    return Found(problems, orphaned)


def find_problems(home: Home) -> list[str]:
    """Return every line of a check: damage, and what is orphaned."""
    found = read_check(home)
    return [*found.problems, *found.orphaned]


def assert_sound(data: Path, *, crashed: bool = False) -> None:
    """Check the store in a directory; see assert_home_sound."""
    assert_home_sound(Home(data), crashed=crashed)


def assert_home_sound(home: Home, *, crashed: bool = False) -> None:
    """Check the store: nothing is wrong, and after a crash once what it left is collected."""
    found = find_problems(home)
    assert [line for line in found if not (crashed and line.startswith("orphaned "))] == []
    code, printed, errors = run_inside("collect", *home.place, env=home.env)
    assert code == 0, errors
    left = [
        line for line in find_problems(home) if not (crashed and line.startswith("orphaned upload"))
    ]
    assert left == [], printed
