"""`portside events`, and what becomes of old events."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from portside.bootstrap.events import Reloads
from portside.bootstrap.stores import open_stores
from portside.cli.identity import command_actor
from portside.config import make_settings
from portside.config.rules import watch_rules_file
from portside.operations.events import PAGE, trim_events
from portside.stores.actors import NOBODY, Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Metadata
from support.commands import Commands
from support.content import image
from support.copying import opened_side
from support.copying import push as put
from support.server import PROGRAM

APP = "team/app"
CONTENT = image("events")
ME = command_actor().name


@pytest.fixture
def portside(data: Path) -> Commands:
    """Run commands on a registry with an image."""

    async def fill() -> None:
        async with opened_side(data) as side:
            await put(side, APP, CONTENT, "v1")

    asyncio.run(fill())
    return Commands(data)


class TestList:
    """`portside events list`."""

    def test_json(self, portside: Commands) -> None:
        """What commands change is recorded with who ran them, newest first."""
        portside.do("tag", "lock", f"{APP}:v1")
        portside.do("tag", "unlock", f"{APP}:v1")
        portside.do("tag", "delete", f"{APP}:v1")
        portside.add_user("alice", "a password")
        portside.do("user", "disable", "alice")
        portside.do("read-only", "on")
        portside.do("read-only", "off")
        with closing(sqlite3.connect(portside.data / "portside.db")) as database, database:
            database.execute("UPDATE repositories SET tag_count = 7")
        portside.do("check", "--repair")
        found = portside.json("events", "list")
        mine = [event for event in found if event["identity"] == ME]
        assert [(event["action"], event["reference"]) for event in mine] == [
            ("content.repaired", None),
            ("read-only.lifted", None),
            ("read-only.set", None),
            ("user.changed", "alice"),
            ("user.added", "alice"),
            ("tag.deleted", "v1"),
            ("properties.changed", "v1"),
            ("properties.changed", "v1"),
        ]
        ids = [event["id"] for event in found]
        assert ids == sorted(ids, reverse=True)
        assert mine[5] == {
            "action": "tag.deleted",
            "address": None,
            "agent": None,
            "details": {},
            "digest": CONTENT.digest,
            "host": None,
            "id": mine[5]["id"],
            "identity": ME,
            "media_type": None,
            "method": None,
            "reference": "v1",
            "repository": APP,
            "request": None,
            "size": None,
            "time": mine[5]["time"],
        }

    def test_filters(self, portside: Commands) -> None:
        """By time, identity, repository and action; a table names what was changed."""
        portside.do("tag", "delete", f"{APP}:v1")
        for option, value in (
            ("--identity", ME),
            ("--action", "tag.deleted"),
            ("--since", "1h"),
            ("--repository", "team/*"),
        ):
            first = portside.do("events", "list", option, value).splitlines()[1]
            assert first.split()[1:3] == ["tag.deleted", f"{APP}:v1@{CONTENT.digest}"], option
        for option, value in (
            ("--identity", "ann"),
            ("--action", "user.*"),
            ("--until", "2001-01-01T00:00:00Z"),
            ("--repository", "other"),
        ):
            assert portside.do("events", "list", option, value) == "No events.\n"
        assert portside.json("events", "list", "--action", "key.*") == []

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("--since", "yesterday", "invalid time 'yesterday'"),
            ("--action", "tag.moved", "unknown action 'tag.moved'"),
            ("--action", "tag", "unknown action 'tag'"),
            ("--repository", "A*", "invalid"),
        ],
    )
    def test_mistakes(self, portside: Commands, option: str, value: str, message: str) -> None:
        """Each is explained."""
        assert message in portside.refused("events", "list", option, value)

    def test_pages(self, portside: Commands) -> None:
        """A list has all events, however many."""

        async def fill() -> None:
            async with opened_side(portside.data) as side:
                event = NewEvent(EventAction.RULES_RELOADED, reference="many")
                for _ in range(250):
                    await side.metadata.record_event(event, Actor("ann"))

        asyncio.run(fill())
        found = portside.json("events", "list", "--identity", "ann")
        assert len({event["id"] for event in found}) == 250


class TestTail:
    """`portside events tail`."""

    def test_follows(self, portside: Commands) -> None:
        """It prints the last events, and then what happens, one JSON object a line."""
        arguments = ["events", "tail", "--json", "--lines", "1", "--action", "tag.*"]
        with subprocess.Popen(
            [*PROGRAM, *arguments, *portside.place], stdout=subprocess.PIPE, text=True
        ) as tail:
            try:
                assert tail.stdout is not None
                assert json.loads(tail.stdout.readline())["action"] == "tag.set"
                portside.do("manifest", "delete", f"{APP}@{CONTENT.digest}")
                found = json.loads(tail.stdout.readline())
                assert (found["action"], found["reference"]) == ("tag.deleted", "v1")
            finally:
                tail.terminate()


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[Metadata]:
    """Open an empty store whose clock stands at 10."""
    with closing(SqliteDatabase(root, clock=lambda: 10)) as database:
        await database.migrate()
        yield Metadata(database)


async def test_keep_events(tmp_path: Path) -> None:
    """Events that are older than --keep-events are forgotten, all but the last one."""
    async with opened(tmp_path) as metadata:
        event = NewEvent(EventAction.RULES_RELOADED)
        for _ in range(PAGE + 2):
            await metadata.record_event(event, NOBODY)
        assert await trim_events(metadata, 9) == 0
        assert await trim_events(metadata, 10) == PAGE + 1
        assert len((await metadata.list_events(limit=9)).items) == 1


async def test_reloads(tmp_path: Path) -> None:
    """A file of rules is recorded when its text changes, once for all processes and starts."""
    settings = make_settings({"data": str(tmp_path)})
    path = tmp_path / "rules.toml"
    text = '[[repositories]]\nmatch = "*"\nimmutable-tags = ["{}*"]\n'
    path.write_text(text.format("v"))
    stores = open_stores(settings)
    await stores.create()
    for _ in range(2):
        reloads = Reloads()
        rules = watch_rules_file(str(path), note=reloads.note)
        await reloads.record(stores)
    path.write_text(text.format("release-"))
    rules()
    await reloads.record(stores)
    path.write_text("broken")
    rules()
    await reloads.record(stores)
    found = (await stores.metadata.list_events(limit=9)).items
    assert [(event.action, event.reference) for event in found] == [
        ("rules.reloaded", str(path))
    ] * 2
    assert found[0].digest != found[1].digest
    stores.close()
