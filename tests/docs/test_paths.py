"""What pages name exists: links, headings, files, modules and tests of the repository."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from support.pages import PAGES, ROOT, path_of

PACKAGE = ROOT / "src" / "portside"

TOPS = {path.name for root in (ROOT, PACKAGE) for path in root.iterdir() if path.is_dir()}
"""With what a path begins: a directory of the repository, or one of the package."""

FILE = re.compile(r"[\w./*-]+\.(?:py|sql)")


PROMISES = [ROOT / "SECURITY.md", ROOT / "docs" / "topics" / "consistency.md"]


def names_in(path: Path) -> set[str]:
    """List the tests of a file as pytest names them."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, kinds):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            inner = [item.name for item in node.body if isinstance(item, kinds)]
            names.update(f"{node.name}::{name}" for name in (*inner, ""))
    return {name.removesuffix("::") for name in names}


def code_in(page: Path) -> list[str]:
    """List the inline code of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\s]+)`", text)


def exists(name: str) -> bool:
    """Whether the repository has a path, which may be a pattern, or the package a module."""
    if "/" in name or FILE.fullmatch(name):
        return any(next(root.glob(name.rstrip("/")), None) for root in (ROOT, PACKAGE))
    module = PACKAGE.joinpath(*name.split("."))
    return module.is_dir() or module.with_suffix(".py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_links(page: Path) -> None:
    """Each relative link of a page leads to a file, and to a heading of it."""
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text("utf-8")):
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()) for heading in headings]
            assert anchor in [name.replace(" ", "-") for name in anchors], f"{page.name}: #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_paths(page: Path) -> None:
    """Each path and each module that a page names exists."""
    for code in code_in(page):
        name = code.partition("::")[0]
        top = re.split(r"[/.]", name)[0]
        if (top in TOPS and top != name) or FILE.fullmatch(name):
            assert exists(name), f"{page.name}: {code}"


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_tests(page: Path) -> None:
    """Each test that a page names exists."""
    for code in code_in(page):
        file, _, name = code.partition("::")
        if file.endswith(".py") and name:
            assert name in names_in(ROOT / file), f"{page.name}: {code}"


@pytest.mark.parametrize("page", PROMISES, ids=path_of)
def test_promises(page: Path) -> None:
    """A page of promises ends with the tests that show them."""
    (table,) = re.findall(r"^## Tests$(.*)\Z", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert all("::test_" in row or row == "| promise | test |" for row in rows)
    assert len(rows) > 5
