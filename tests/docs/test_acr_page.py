"""The page about testing against ACR works as it is printed, with nothing but what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.pages import ROOT, Script, read_fences

PAGE = ROOT / "docs" / "howto" / "test-against-acr.md"
PROGRAMS = ROOT / "tests" / "clients" / "sdks"


@pytest.mark.long
def test_python(home: Path, run_script: Script) -> None:
    """The certificate is made, the files of Python are written, and their test passes."""
    for language, block in read_fences(PAGE):
        if language == "sh":
            run_script(block)
        if language == "python":
            name = block.partition("\n")[0].removeprefix("# ")
            (home / name).write_text(block)
    assert "1 passed" in run_script(
        "python -m pytest -p no:cacheprovider -p no:xdist test_release.py"
    )


@pytest.mark.parametrize("language", ["javascript", "go", "java"])
def test_other_languages(language: str) -> None:
    """What the page prints of the other languages calls what the programs that are run call."""
    (block,) = (text for name, text in read_fences(PAGE) if name == language)
    (program,) = (
        path for path in (PROGRAMS / language).iterdir() if path.suffix in {".mjs", ".go", ".java"}
    )
    written = set(re.findall(r"\w+", program.read_text("utf-8")))
    called = set(re.findall(r"\b(\w+)\(", block))
    assert called
    assert called <= written
