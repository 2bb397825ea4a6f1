"""A registry of an older version is upgraded as the page says, and goes back."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from support.backups import fill
from support.checks import find_problems
from support.content import digest_of, image
from support.homes import Home
from support.pages import ROOT, Script
from support.schemas import dump, make_older
from support.server import running_registry
from support.wire import connect, push

PAGE = ROOT / "docs" / "howto" / "upgrade.md"
FLAGS = re.MULTILINE | re.DOTALL

BEFORE_THE_LIFE_OF_CONTENT = 7
"""The newest schema that lacks what the garbage collector, the trash and the leases need."""

OLD, NEW = image("old", layer_size=3000), image("new")


def serve_old_content(data: Path, *, push_new: bool = False) -> None:
    """Serve, and pull the image of before the upgrade; then push another one."""
    with running_registry(data, "--workers", "1") as registry, connect(registry.url) as client:
        tag = f"v{OLD.digest[7:15]}"
        assert client.get(f"/v2/team/app/manifests/{tag}").content == OLD.manifest
        for blob in OLD.blobs:
            assert client.get(f"/v2/team/app/blobs/{digest_of(blob)}").content == blob
        if push_new:
            push(client, "team/app", NEW, "new")
        else:
            assert client.get("/v2/team/app/manifests/new").status_code == 404


def test_page(home: Path, run_script: Script) -> None:
    """The backup of before the upgrade is restored, and its file has the old schema."""
    data = home / "data"
    fill(Home(data), [OLD])
    make_older(data / "portside.db", BEFORE_THE_LIFE_OF_CONTENT)
    before = dump(data / "portside.db")
    back_up, migrate, restore, by_hand = (
        block.replace("$ ", "")
        for block in re.findall(r"^ *```console\n(.*?)^ *```$", PAGE.read_text("utf-8"), FLAGS)
    )
    assert "Snapshot " in run_script(back_up)
    assert dump(data / "portside.db") == before
    serve_old_content(data, push_new=True)
    assert "is up to date" in run_script(migrate)
    assert find_problems(Home(data)) == []
    assert "Everything was verified." in run_script(restore)
    serve_old_content(data)
    assert find_problems(Home(data)) == []
    shutil.rmtree(data)
    run_script(by_hand)
    assert dump(data / "portside.db") == before
