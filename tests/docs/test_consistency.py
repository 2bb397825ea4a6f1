"""Each promise of the documentation has a test behind it, which is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "topics" / "consistency.md"
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def names_in(path: Path) -> set[str]:
    """List the tests of a file as pytest names them."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, FUNCTION):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            inner = [item.name for item in node.body if isinstance(item, FUNCTION)]
            names.update(f"{node.name}::{name}" for name in inner)
    return names


def test_promises_have_tests() -> None:
    """Every test that the page names exists."""
    named = re.findall(r"`(tests/\S+\.py)::(\S+)`", PAGE.read_text("utf-8"))
    assert named
    for file, name in named:
        assert name in names_in(ROOT / file), f"{file}::{name}"


def test_anchors() -> None:
    """Every link into a page leads to a heading of it."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text("utf-8")):
            text = (page.parent / target if target else page).read_text("utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            anchors = [heading.lower().replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{page.name}: {target}#{anchor}"
