"""The commands of the page about backups print what it says."""

from __future__ import annotations

import re
from pathlib import Path

from support.backups import fill
from support.checks import find_problems
from support.content import image
from support.homes import Home
from support.pages import ROOT, Script, read_fences

PAGE = ROOT / "docs" / "howto" / "back-up.md"


def shown(text: str, home: Path) -> str:
    """Return what is printed, without what is different each time, or with each new table."""
    text = text.replace(str(home), "/srv")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"\d+ rows", "N rows", text)
    return re.sub("sha256:[0-9a-f]{64}", "sha256:…", text)


def test_page(home: Path, run_script: Script) -> None:
    """What is backed up is restored, beside its blobs too."""
    fill(Home(home / "data"), [image("app", layer_size=3000), image("other")])
    ran = 0
    for language, block in read_fences(PAGE):
        if language != "console":
            continue
        for command, expected in re.findall(r"^\$ (.+)\n((?:[^$].*\n)*)", block, re.MULTILINE):
            if "--keep-blobs" in command:
                for path in (home / "data").glob("portside.db*"):
                    path.unlink()
            printed = run_script(command)
            assert shown(expected, home) in shown(printed, home), command
            ran += 1
    assert ran == 8
    for name in ("data", "restored"):
        assert find_problems(Home(home / name)) == []
