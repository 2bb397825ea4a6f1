"""The commands of the page about undoing a delete print what it says."""

from __future__ import annotations

import re
from pathlib import Path

from support.content import image
from support.pages import ROOT, Script, read_fences
from support.server import running_registry
from support.wire import connect, push

PAGE = ROOT / "docs" / "howto" / "undo.md"
APP = "team/app"
IMAGE = image("undone")


def test_page(home: Path, run_script: Script) -> None:
    """After each command that restores something, the image can be pulled by its tag again."""
    restored = 0
    with (
        running_registry(home / "data", "--workers", "1") as registry,
        connect(registry.url) as client,
    ):
        for tag in ("1.0", "latest"):
            push(client, APP, IMAGE, tag)
        path = f"/v2/{APP}/manifests/1.0"
        for language, block in read_fences(PAGE):
            if language != "console":
                continue
            for command, expected in re.findall(r"^\$ (.+)\n((?:[^$].*\n)*)", block, re.MULTILINE):
                printed = run_script(command)
                shown = re.sub("sha256:[0-9a-f]{64}", "sha256:…", printed)
                assert expected.rstrip(".\n") in shown, (command, printed)
                verb = command.split()[2]
                if verb == "delete" or command.startswith("portside purge"):
                    assert client.get(path).status_code == 404
                if verb == "restore":
                    assert client.get(path).content == IMAGE.manifest
                    restored += 1
    assert restored == 4
