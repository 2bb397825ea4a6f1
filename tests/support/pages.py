"""The pages of the documentation, as tests read them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
"""Every page that a person reads."""

Script = Callable[[str], str]
"""Runs a script in a shell, and returns what it prints."""


def path_of(page: Path) -> str:
    """Return the path of a page within the repository."""
    return page.relative_to(ROOT).as_posix()


def read_fences(page: Path) -> list[tuple[str, str]]:
    """Read the blocks of a page in their order: the language and the text of each."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
