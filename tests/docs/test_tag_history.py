"""The commands of the page about the history of tags print what it says."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

from support.content import image
from support.pages import ROOT, Script, read_fences
from support.server import running_registry
from support.wire import connect, push

PAGE = ROOT / "docs" / "howto" / "tag-history.md"
APP = "team/app"
GOOD, BROKEN = image("good"), image("broken")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d\.\d{6})?Z"


def plain(text: str) -> str:
    """Return a text without what differs from run to run, and without columns."""
    return re.sub(" +", " ", re.sub(TIME, "TIME", re.sub("sha256:[0-9a-f]{64}", "sha256:…", text)))


def test_page(home: Path, run_script: Script) -> None:
    """A tag that was moved points back, by a command and over HTTP."""
    with (
        running_registry(home / "data", "--workers", "1") as registry,
        connect(registry.url) as client,
    ):
        push(client, APP, GOOD, "1")
        before = datetime.fromtimestamp(time.time(), UTC).isoformat()
        push(client, APP, BROKEN, "1")
        text = "".join(block for language, block in read_fences(PAGE) if language == "console")
        seen = []
        for command, expected in re.findall(r"^\$ (.+)\n((?:[^$].*\n)*)", text, re.MULTILINE):
            if command.startswith("curl -X POST"):
                push(client, APP, BROKEN, "1")
            typed = command.replace("http://127.0.0.1:5000", registry.url)
            printed = run_script(
                re.sub(r"([ =])2027-01-31T12:00Z", rf"\g<1>{before.replace('+', '%2B')}", typed)
                if "curl" in typed
                else typed.replace("2027-01-31T12:00Z", before)
            )
            assert plain(expected) in plain(printed), (command, printed)
            if "restore" in command:
                assert client.get(f"/v2/{APP}/manifests/1").content == GOOD.manifest
            seen.append(command.split()[0])
        assert seen == ["portside", "portside", "curl", "curl"]
