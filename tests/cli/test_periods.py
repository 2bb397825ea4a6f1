"""Commands keep what the server keeps, without its options."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from portside.bootstrap.preparing import prepare
from portside.config import make_settings
from support.commands import Commands
from support.content import image
from support.copying import opened_side
from support.copying import push as put

DAY = 86400
APP = "team/app"
IMAGE = image(1)
NOTHING = "Nothing that was deleted can be restored.\n"


async def fill(data: Path) -> None:
    """Push an image."""
    async with opened_side(data) as side:
        await put(side, APP, IMAGE, "v1")


@pytest.fixture
def portside(data: Path) -> Commands:
    """Run commands on a registry with one image."""
    asyncio.run(fill(data))
    return Commands(data)


def start(portside: Commands, **given: int) -> None:
    """Do what a server does when it starts."""
    prepare(make_settings({"data": str(portside.data), "open": True, **given}))


def delete(portside: Commands, *, days: int = 0) -> None:
    """Delete the image, as if that had been days ago."""
    portside.do("manifest", "delete", f"{APP}:v1")
    moved = days * DAY * 1_000_000
    with closing(sqlite3.connect(portside.data / "portside.db")) as database, database:
        database.execute("UPDATE manifests SET deleted = deleted - ?", (moved,))
        database.execute("UPDATE tag_history SET at = at - ?", (moved,))


def kept(portside: Commands, *options: str) -> timedelta:
    """Return how long the trash says that the image is kept."""
    (listed,) = portside.json("trash", "list", *options)
    until, deleted = (datetime.fromisoformat(listed[key]) for key in ("kept_until", "deleted"))
    return until - deleted


def test_the_default_before_the_first_start(portside: Commands) -> None:
    """Nothing else is known of a registry that was never served."""
    delete(portside)
    assert kept(portside) == timedelta(days=1)


def test_as_long_as_the_server(portside: Commands) -> None:
    """What was deleted longer ago than the default stays, is listed, and comes back."""
    start(portside, keep_deleted=7 * DAY)
    delete(portside, days=2)
    assert kept(portside) == timedelta(days=7)
    assert "Would purge 0 deleted manifests," in portside.do("collect", "--grace", "0", "--dry-run")
    assert portside.do("collect", "--grace", "0").startswith("0 deleted manifests purged, 0 ")
    (change, *_) = portside.json("tag", "history", f"{APP}:v1")
    assert change["manifest"] == "deleted"
    assert "restored" in portside.do("trash", "restore", f"{APP}:v1")


def test_no_longer_than_the_server(portside: Commands) -> None:
    """A server that keeps nothing has nothing to restore."""
    start(portside, keep_deleted=0)
    delete(portside)
    assert portside.do("trash", "list") == NOTHING
    assert "no deleted" in portside.refused("trash", "restore", f"{APP}@{IMAGE.digest}")
    assert "1 deleted manifest purged" in portside.do("collect")


def test_the_last_start_counts(portside: Commands) -> None:
    """A server that was started again with other options says so."""
    start(portside, keep_deleted=0)
    start(portside, keep_deleted=3 * DAY)
    delete(portside, days=2)
    assert kept(portside) == timedelta(days=3)


def test_an_option_counts_more(
    portside: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gives a command the setting, in any of its spellings, means it."""
    start(portside, keep_deleted=7 * DAY)
    delete(portside, days=2)
    file = tmp_path / "portside.toml"
    file.write_text("keep-deleted = 432000\n")
    assert kept(portside, "--config", str(file)) == timedelta(days=5)
    monkeypatch.setenv("PORTSIDE_KEEP_DELETED", str(4 * DAY))
    assert kept(portside) == timedelta(days=4)
    assert kept(portside, "--keep-deleted", str(3 * DAY)) == timedelta(days=3)
    monkeypatch.delenv("PORTSIDE_KEEP_DELETED")
    purged = portside.do("collect", "--grace", "0", "--keep-deleted", "0")
    assert "1 deleted manifest purged" in purged
    assert portside.do("trash", "list") == NOTHING


def test_the_grace_period_and_the_history(portside: Commands) -> None:
    """The collector forgets changes of tags, and blobs, no sooner than the server does."""
    start(portside, gc_grace=7 * DAY, tag_history=200 * DAY)
    delete(portside, days=150)
    collected = portside.do("collect")
    assert collected.startswith("1 deleted manifest purged, 0 unreferenced blobs unlinked")
    with closing(sqlite3.connect(portside.data / "portside.db")) as database, database:
        database.execute(
            "UPDATE repository_blobs SET unreferenced = unreferenced - ?", (2 * DAY * 10**6,)
        )
    assert "0 unreferenced blobs unlinked" in portside.do("collect")
    assert [one["action"] for one in portside.json("tag", "history", f"{APP}:v1")] == [
        *("deleted", "set")
    ]
    assert "0 unreferenced blobs" not in portside.do("collect", "--gc-grace", "60")
