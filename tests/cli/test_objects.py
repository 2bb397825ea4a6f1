"""`portside repository`, `portside tag` and `portside manifest`."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest

from portside.cli.objects import PAGE
from portside.cli.output import show_pages, shown_size
from portside.operations.copy.plan import RegistryStores
from portside.spec.digests import Digest
from portside.spec.manifests import parse_manifest
from portside.spec.names import RepositoryName, Tag
from portside.spec.platforms import Platform
from portside.stores.actors import Actor
from portside.stores.interfaces import LastPull, Recorded
from support.commands import Commands
from support.content import OCI_INDEX, Content, artifact, digest_of, image, index
from support.copying import opened_side
from support.copying import push as put
from support.homes import KINDS
from support.postgres import Server
from support.server import running_registry
from support.waiting import PATIENCE
from support.wire import assert_error, connect, push, put_manifest

APP = RepositoryName("team/app")
FIRST, SECOND = image(1), image(2)
BOTH = index(FIRST, SECOND)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UNKNOWN = digest_of(b"unknown")

HOSTILE = "\x1b]0;x\x07\u202e\n\x9b2J[red]"
"""What takes over a terminal, breaks lines and is markup."""


class CommandsOnServer(Commands):
    """Runs commands on a database of PostgreSQL."""

    def __init__(self, data: Path, url: str) -> None:
        super().__init__(data)
        self.url = url

    @property
    def place(self) -> tuple[str, ...]:
        """The options that name the registry."""
        return ("--data", str(self.data), "--database", self.url)


async def describe(
    side: RegistryStores, content: Content, *tags: str, by: str, **platform: str
) -> None:
    """Push a manifest again, or one whose blobs are there, with what is known of it."""
    await side.metadata.put_manifest(
        APP,
        parse_manifest(content.manifest, content_type=content.media_type),
        tags=[Tag(tag) for tag in tags],
        condition=None,
        check_children=True,
        recorded=Recorded(Platform(**platform), Actor(by)),
    )


async def fill(data: Path, url: str = "") -> None:
    """Make a registry with two repositories, an index and its images."""
    async with opened_side(data, url) as side:
        seed = artifact("seed")
        for blob in (*FIRST.blobs, *SECOND.blobs):
            holder = _holder(blob)
            await put(side, APP, holder)
            await side.metadata.delete_manifest(APP, Digest(holder.digest))
        await describe(side, FIRST, "v1", by="alice", architecture="amd64", os="linux")
        await describe(side, SECOND, by="", architecture="arm64", os="linux")
        await describe(side, BOTH, "v2", "latest", by="ci:team/app")
        await put(side, "other", seed, "x")


def _holder(blob: bytes) -> Content:
    """Make an artifact that links a blob to the repository."""
    descriptor = {"mediaType": "a/b", "digest": digest_of(blob), "size": len(blob)}
    document = {
        "schemaVersion": 2,
        "mediaType": FIRST.media_type,
        "config": descriptor,
        "layers": [],
    }
    return Content(json.dumps(document).encode(), FIRST.media_type, [blob])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a registry for all tests, which copy it before they change it."""
    data = tmp_path_factory.mktemp("objects") / "data"
    asyncio.run(fill(data))
    return data


@pytest.fixture
def unchanged(filled: Path) -> Commands:
    """Run commands that change nothing."""
    return Commands(filled)


@pytest.fixture
def portside(filled: Path, data: Path) -> Commands:
    """Run commands on a registry of one test."""
    shutil.copytree(filled, data)
    return Commands(data)


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, data: Path) -> Commands:
    """Run commands on a registry of one test, in either database."""
    if request.param == "sqlite":
        filled: Path = request.getfixturevalue("filled")
        shutil.copytree(filled, data)
        return Commands(data)
    server: Server = request.getfixturevalue("postgresql")
    url = server.make_database()
    asyncio.run(fill(data, url))
    return CommandsOnServer(data, url)


def names(printed: str) -> list[str]:
    """Return the first column of a table."""
    return [line.split()[0] for line in printed.splitlines()[1:]]


class TestLists:
    """`list` and `show`."""

    def test_repositories(self, either: Commands) -> None:
        """Counts, times and locks, by name."""
        listed = either.json("repository", "list")
        assert [one["name"] for one in listed] == ["other", "team/app"]
        shown = either.json("repository", "show", "team/app")
        assert shown == listed[1]
        assert all(TIME.fullmatch(shown.pop(time)) for time in ("created", "updated"))
        blobs = (*FIRST.blobs, *SECOND.blobs)
        manifests = [*(one.manifest for one in (FIRST, SECOND, BOTH))]
        manifests += [_holder(blob).manifest for blob in blobs]
        size = sum(map(len, (*blobs, *manifests)))
        assert shown == {"name": "team/app", "manifests": 3, "tags": 3, "bytes": size, "locks": []}
        header, _, line = either.do("repository", "list").splitlines()
        assert re.split(r" {2,}", header) == re.split(
            r" {2,}", "name  manifests  tags  size  created  updated  locks"
        )
        assert line.split()[:5] == ["team/app", "3", "3", *shown_size(size).split()]
        assert "locks      none\n" in either.do("repository", "show", "team/app")

    def test_tags(self, either: Commands) -> None:
        """A tag is shown with what its manifest is, and who pushed that."""
        listed = either.json("tag", "list", "team/app")
        assert [one["name"] for one in listed] == ["latest", "v1", "v2"]
        shown = either.json("tag", "show", "team/app:v1")
        assert shown == listed[1]
        assert all(TIME.fullmatch(shown.pop(time)) for time in ("created", "updated"))
        assert shown == {
            "repository": "team/app",
            "name": "v1",
            "digest": FIRST.digest,
            "locks": [],
            "media_type": FIRST.media_type,
            "platforms": [{"architecture": "amd64", "os": "linux"}],
            "image_size": sum(map(len, FIRST.blobs)),
            "pushed_by": "alice",
        }
        latest, first, _ = either.do("tag", "list", "team/app").splitlines()[1:]
        assert latest.startswith("latest  linux/arch0, linux/arch1  ")
        assert f"  ci:team/app         {BOTH.digest}" in latest
        assert "  linux/amd64  " in first
        of_index = either.do("tag", "list", "team/app", "--manifest", BOTH.digest)
        assert names(of_index) == ["latest", "v2"]

    def test_manifests(self, either: Commands) -> None:
        """A manifest is shown by digest, and by each of its tags."""
        listed = either.json("manifest", "list", "team/app")
        digests = sorted(content.digest for content in (FIRST, SECOND, BOTH))
        assert [one["digest"] for one in listed] == digests
        shown = either.json("manifest", "show", f"team/app@{BOTH.digest}")
        assert shown == either.json("manifest", "show", "team/app:latest")
        assert shown == either.json("manifest", "show", f"team/app:v2@{BOTH.digest}")
        only_it = {"alone": 0, "together": sum(map(len, SECOND.blobs)), "dependents": 1}
        assert shown.pop("frees") == only_it
        assert shown == listed[digests.index(BOTH.digest)]
        assert all(TIME.fullmatch(shown.pop(time)) for time in ("created", "updated"))
        assert shown == {
            "repository": "team/app",
            "digest": BOTH.digest,
            "tags": ["latest", "v2"],
            "media_type": OCI_INDEX,
            "artifact_type": None,
            "config_media_type": None,
            "platforms": [
                {"architecture": "arch0", "os": "linux"},
                {"architecture": "arch1", "os": "linux"},
            ],
            "image_size": sum(map(len, (*FIRST.blobs, *SECOND.blobs))),
            "size": len(BOTH.manifest),
            "pushed_by": "ci:team/app",
            "locks": [],
            "pulled": None,
        }
        assert listed[digests.index(SECOND.digest)]["pushed_by"] is None
        printed = either.do("manifest", "show", f"team/app@{BOTH.digest}")
        together = only_it["together"]
        assert f"\ndeleting frees     0 B, or {together} B with 1 manifest\n" in printed
        printed = either.do("manifest", "show", f"team/app@{SECOND.digest}")
        assert f"\ndeleting frees     {together} B\n" in printed
        assert "\nplatforms          linux/arm64\n" in printed
        assert "\npushed by          -\n" in printed
        assert "\nlast pull          unknown\n" in printed

    def test_last_pull(self, portside: Commands) -> None:
        """A manifest says about when it was last pulled."""

        async def pull() -> None:
            async with opened_side(portside.data) as side:
                time = 1_700_000_000_000_000
                await side.metadata.note_pulls([LastPull(APP, Digest(FIRST.digest), time)])

        asyncio.run(pull())
        shown = portside.json("manifest", "show", f"{APP}@{FIRST.digest}")
        assert shown["pulled"] == "2023-11-14T22:13:20Z"
        printed = portside.do("manifest", "show", f"{APP}@{FIRST.digest}")
        assert "\nlast pull          2023-11-14T22:13:20Z" in printed

    @pytest.mark.parametrize("noun", ["tag", "manifest"])
    def test_order(self, portside: Commands, noun: str) -> None:
        """By name, or by when each was last pushed, across pages."""
        count = 2 * PAGE + 1

        async def add_many() -> None:
            async with opened_side(portside.data) as side:
                await put(side, "many", FIRST)
                for number in range(count):
                    content = image(1, annotations={"n": str(number)})
                    await side.metadata.put_manifest(
                        RepositoryName("many"),
                        parse_manifest(content.manifest, content_type=content.media_type),
                        tags=[Tag(f"v{number * 7 % count}")],
                        condition=None,
                        check_children=True,
                    )
                if noun == "manifest":
                    await side.metadata.delete_manifest(
                        RepositoryName("many"), Digest(FIRST.digest)
                    )

        asyncio.run(add_many())
        by_time = [f"v{number * 7 % count}" for number in range(count)]
        newest = portside.json(noun, "list", "many", "--order", "newest")
        oldest = portside.json(noun, "list", "many", "--order", "oldest")
        assert oldest == newest[::-1]
        by_name = portside.json(noun, "list", "many")
        if noun == "tag":
            assert [one["name"] for one in oldest] == by_time
            assert [one["name"] for one in by_name] == sorted(by_time)
        else:
            assert [tag for one in oldest for tag in one["tags"]] == by_time
            assert by_name == sorted(oldest, key=lambda one: str(one["digest"]))
        table = portside.do(noun, "list", "many", "--order", "oldest")
        assert names(table) == [one["name" if noun == "tag" else "digest"] for one in oldest]

    def test_nothing(self, data: Path) -> None:
        """An empty list says so, and is a list in JSON."""
        commands = Commands(data)

        async def empty() -> None:
            async with opened_side(data) as side:
                await put(side, "a", FIRST, "v1")
                await side.metadata.delete_manifest(RepositoryName("a"), Digest(FIRST.digest))

        asyncio.run(empty())
        assert commands.do("tag", "list", "a") == "No tags.\n"
        assert commands.do("manifest", "list", "a") == "No manifests.\n"
        assert commands.json("tag", "list", "a") == []
        assert commands.json("repository", "list")[0]["manifests"] == 0
        assert commands.do("repository", "delete", "a", "--yes").endswith("0 manifests, 0 tags.\n")
        assert commands.do("repository", "list") == "No repositories.\n"
        assert commands.json("repository", "list") == []

    def test_hidden(self, portside: Commands) -> None:
        """What is locked against lists is shown with --all alone, and marked there."""
        portside.do("tag", "lock", "--list", "team/app:v1")
        portside.do("manifest", "lock", "--list", "team/app:v1")
        assert names(portside.do("tag", "list", "team/app")) == ["latest", "v2"]
        assert FIRST.digest not in portside.do("manifest", "list", "team/app")
        tags = portside.json("tag", "list", "team/app", "--all")
        assert [one["locks"] for one in tags] == [[], ["list"], []]
        assert FIRST.digest in portside.do("manifest", "list", "team/app", "--all")
        portside.do("repository", "lock", "--list", "team/app")
        assert names(portside.do("repository", "list")) == ["other"]
        assert portside.do("repository", "list", "--all").endswith("  list\n")
        assert "locks       list\n" in portside.do("tag", "show", "team/app:v1")


class TestLocks:
    """`lock` and `unlock`."""

    def test_usual(self, either: Commands) -> None:
        """Without options, nobody overwrites or deletes; several are locked at once."""
        printed = either.do("tag", "lock", "team/app:v1", "team/app:v2")
        assert printed == (
            "Tag team/app:v1 is locked: write, delete.\nTag team/app:v2 is locked: write, delete.\n"
        )
        shown = either.json("tag", "show", "team/app:v1")
        assert shown["locks"] == ["write", "delete"]
        assert either.json("tag", "lock", "team/app:v1") == [shown]
        assert either.do("tag", "unlock", "team/app:v1") == "Tag team/app:v1 is unlocked.\n"
        assert either.json("tag", "show", "team/app:v1")["locks"] == []

    @pytest.mark.parametrize("noun", ["repository", "tag", "manifest"])
    def test_each(self, portside: Commands, noun: str) -> None:
        """Each lock is set and removed by its option; the others stay, and are said."""
        name = {"repository": "team/app", "tag": "team/app:v1", "manifest": "team/app:v1"}[noun]
        what = f"{noun.capitalize()} {name} is"
        words = ["write", "delete", "list", "read"]
        for number, word in enumerate(words, 1):
            printed = portside.do(noun, "lock", f"--{word}", name)
            assert printed == f"{what} locked: {', '.join(words[:number])}.\n"
        assert portside.do(noun, "unlock", name) == f"{what} still locked: list, read.\n"
        assert portside.do(noun, "unlock", "--list", "--read", name) == f"{what} unlocked.\n"
        assert portside.json(noun, "show", name)["locks"] == []

    def test_stops(self, portside: Commands) -> None:
        """What was done before an error is said."""
        code, printed, errors = portside.run("tag", "lock", "team/app:v1", "team/app:no", "--json")
        assert code == 1
        assert [one["name"] for one in json.loads(printed)] == ["v1"]
        assert errors == "portside: repository team/app has no tag no\n"

    def test_config_file(self, portside: Commands, tmp_path: Path) -> None:
        """A setting of the same name is not the option of a lock."""
        config = tmp_path / "portside.toml"
        config.write_text("delete = true\n")
        printed = portside.do("tag", "lock", "--list", "team/app:v1", "--config", str(config))
        assert printed == "Tag team/app:v1 is locked: list.\n"


class TestDeletes:
    """`delete`."""

    def test_tag(self, either: Commands) -> None:
        """The manifest stays; a lock is honoured, and named."""
        assert either.do("tag", "delete", "team/app:v1") == "Tag team/app:v1 deleted.\n"
        assert either.json("manifest", "show", f"team/app@{FIRST.digest}")["tags"] == []
        either.do("tag", "lock", "--delete", "team/app:v2")
        code, printed, errors = either.run("tag", "delete", "team/app:latest", "team/app:v2")
        assert (code, printed) == (1, "Tag team/app:latest deleted.\n")
        assert errors == (
            "portside: tag v2 of repository team/app is locked: deleteEnabled is false\n"
        )

    def test_manifest(self, either: Commands) -> None:
        """Its tags go with it, those that are hidden as well, and all is said."""
        assert "is listed by the index" in either.refused("manifest", "delete", "team/app:v1")
        either.do("tag", "lock", "--list", "team/app:latest")
        either.do("tag", "lock", "team/app:v2")
        message = either.refused("manifest", "delete", f"team/app@{BOTH.digest}")
        assert f"tag v2 of {BOTH.digest} in repository team/app is locked" in message
        assert "deleteEnabled and writeEnabled are false" in message
        either.do("tag", "unlock", "team/app:v2")
        assert either.do("manifest", "delete", "team/app:v2", "team/app:v1") == (
            f"Manifest team/app@{BOTH.digest} deleted.\n"
            "Tag team/app:latest deleted.\n"
            "Tag team/app:v2 deleted.\n"
            f"Manifest team/app@{FIRST.digest} deleted.\n"
            "Tag team/app:v1 deleted.\n"
        )
        deleted = either.json("manifest", "delete", f"team/app@{SECOND.digest}")
        assert deleted == [{"repository": "team/app", "manifests": [SECOND.digest], "tags": []}]

    def test_repository(self, portside: Commands) -> None:
        """All of it goes or nothing; purged, with the bytes that no other repository has."""
        portside.do("manifest", "lock", "team/app:v1")
        message = portside.refused("repository", "delete", "team/app", "--yes")
        assert f"manifest {FIRST.digest} of repository team/app is locked" in message
        assert portside.json("repository", "show", "team/app")["manifests"] == 3
        portside.do("manifest", "unlock", "team/app:v1")
        blobs = portside.data / "blobs" / "sha256"
        kept = {digest_of(blob).removeprefix("sha256:") for blob in artifact("seed").blobs}
        assert {path.name for path in blobs.glob("*/*")} > kept
        deleted = portside.json("repository", "delete", "team/app", "--yes")
        assert deleted == {
            "repository": "team/app",
            "manifests": sorted(content.digest for content in (FIRST, SECOND, BOTH)),
            "tags": ["latest", "v1", "v2"],
        }
        assert {path.name for path in blobs.glob("*/*")} > kept
        assert "6 unreferenced blobs unlinked" in portside.do("collect", "--keep-deleted", "0")
        assert {path.name for path in blobs.glob("*/*")} == kept
        again = portside.refused("repository", "delete", "team/app", "--yes")
        assert again == "portside: nothing has been pushed to team/app\n"

    def test_not_for_clients_alone(
        self, portside: Commands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`--no-delete` forbids clients to delete, and not the people who run the registry."""
        monkeypatch.setenv("PORTSIDE_DELETE", "off")
        portside.do("tag", "delete", "team/app:v1")
        portside.do("repository", "delete", "team/app", "--yes")

    @pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"\n", 130), (b"n\n", 130)])
    def test_confirmation(self, portside: Commands, answer: bytes, code: int) -> None:
        """A person is asked, and nothing is deleted without a clear answer."""
        outer, inner = pty.openpty()
        command = [sys.executable, "-m", "portside", "repository", "delete", "team/app"]
        process = subprocess.Popen(
            [*command, *portside.place],
            stdin=inner,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(inner)
        os.write(outer, answer)
        printed, errors = process.communicate(timeout=PATIENCE)
        os.close(outer)
        assert process.returncode == code, errors
        assert "Delete repository team/app with 3 manifests and 3 tags? [y/N]" in errors
        is_deleted = "team/app" not in portside.do("repository", "list")
        assert (is_deleted, "deleted" in printed) == (code == 0, code == 0)

    def test_no_terminal(self, portside: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
        """A script says --yes."""
        monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
        message = portside.refused("repository", "delete", "team/app")
        assert "cannot ask for confirmation without a terminal; use --yes" in message
        assert portside.json("repository", "show", "team/app")["tags"] == 3

    def test_read_only(self, either: Commands) -> None:
        """A registry in read-only mode shows everything, and changes nothing."""
        either.do("read-only", "on")
        for command in (
            ("tag", "lock", "team/app:v1"),
            ("manifest", "unlock", "team/app:v1"),
            ("repository", "lock", "team/app"),
            ("tag", "delete", "team/app:v1"),
            ("manifest", "delete", "team/app:v2"),
        ):
            assert "the registry is read-only" in either.refused(*command)
        assert len(either.json("tag", "list", "team/app")) == 3


class TestMistakes:
    """One line that says what is wrong, and an exit code for it."""

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("repository", "show", "none"), "nothing has been pushed to none"),
            (("repository", "lock", "none"), "nothing has been pushed to none"),
            (("tag", "list", "none"), "nothing has been pushed to none"),
            (("manifest", "list", "none"), "nothing has been pushed to none"),
            (("tag", "show", "team/app:no"), "repository team/app has no tag no"),
            (("tag", "delete", "team/app:no"), "has no manifest with the tag no"),
            (("manifest", "show", "team/app:no"), "repository team/app has no tag no"),
            (("manifest", "show", f"team/app@{UNKNOWN}"), f"with the digest {UNKNOWN}"),
            (("manifest", "lock", f"team/app@{UNKNOWN}"), f"with the digest {UNKNOWN}"),
            (("manifest", "delete", f"team/app@{UNKNOWN}"), f"with the digest {UNKNOWN}"),
            (("tag", "list", "team/app", "--manifest", UNKNOWN), f"with the digest {UNKNOWN}"),
            (
                ("manifest", "delete", f"team/app:v1@{UNKNOWN}"),
                f"tag v1 of repository team/app points to {FIRST.digest}",
            ),
        ],
    )
    def test_unknown(self, unchanged: Commands, arguments: tuple[str, ...], expected: str) -> None:
        """What is not there is named."""
        message = unchanged.refused(*arguments)
        assert expected in message
        assert not message.endswith("--help`.\n")

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("repository", "show", "team/app:v1"), "expected REPOSITORY, not 'team/app:v1'"),
            (("tag", "list", f"a@{UNKNOWN}"), "expected REPOSITORY, not"),
            (("tag", "show", "team/app"), "expected REPOSITORY:TAG, not 'team/app'"),
            (("tag", "delete", f"a:b@{UNKNOWN}"), "expected REPOSITORY:TAG, not"),
            (("manifest", "show", "a"), "expected REPOSITORY@DIGEST or REPOSITORY:TAG, not 'a'"),
            (("manifest", "lock", f"a:{UNKNOWN}"), "write '@' before a digest"),
            (("manifest", "delete", "a@b"), "invalid digest 'b'"),
            (("tag", "show", "h:1/a:b"), "leave out the host of the registry"),
            (("tag", "list", "a", "--manifest", "v1"), "invalid digest 'v1'"),
            (("tag", "list", "a", "--order", "time"), "'time' is not one of"),
            (("tag", "lock"), "Missing argument"),
            (("repository", "show", HOSTILE), "invalid repository name"),
            (("tag", "show", f"a:{HOSTILE}"), "invalid tag"),
            (("manifest", "show", f"a@{HOSTILE}"), "invalid digest"),
            (("tag", "list", "a", "--manifest", HOSTILE), "invalid digest"),
        ],
    )
    def test_usage(self, unchanged: Commands, arguments: tuple[str, ...], expected: str) -> None:
        """A name that cannot be one is refused before the registry is opened."""
        message = unchanged.refused(*arguments)
        assert expected in message
        assert message.endswith("--help`.\n")
        assert message[:-1].isprintable()

    def test_no_registry(self, data: Path) -> None:
        """None is made."""
        message = Commands(data).refused("repository", "list")
        assert "does not contain a registry" in message
        assert not data.exists()


class TestOutput:
    """What reaches a terminal, and when."""

    def test_hostile(self, portside: Commands) -> None:
        """What clients sent, and an older version stored, is escaped in tables and in JSON."""
        content = image(1, artifactType="a/b")

        async def add_hostile() -> None:
            async with opened_side(portside.data) as side:
                await describe(side, content, "bad", by=HOSTILE)

        asyncio.run(add_hostile())
        with closing(sqlite3.connect(portside.data / "portside.db")) as connection, connection:
            connection.execute(
                "UPDATE manifests SET artifact_type = ? WHERE artifact_type = 'a/b'",
                (f"a/{HOSTILE}",),
            )
        for command in (
            ("tag", "list", "team/app"),
            ("tag", "show", "team/app:bad"),
            ("manifest", "list", "team/app"),
            ("manifest", "show", "team/app:bad"),
        ):
            printed = portside.do(*command)
            assert all(line.isprintable() for line in printed.splitlines())
            assert r"\u001b]0;x\u0007\u202e\n\u009b2J[red]" in printed
            assert portside.do(*command, "--json").replace("\n", "").isascii()
        shown = portside.json("manifest", "show", "team/app:bad")
        assert (shown["pushed_by"], shown["artifact_type"]) == (HOSTILE, f"a/{HOSTILE}")

    @pytest.mark.parametrize("as_json", [False, True])
    async def test_streams(self, capsys: pytest.CaptureFixture[str], *, as_json: bool) -> None:
        """A page is printed before the next one is read; columns grow."""
        printed = []

        async def pages() -> AsyncIterator[list[str]]:
            for page in ([], ["a", "b"], [], ["longer"], ["c"]):
                printed.append(capsys.readouterr().out)
                yield page

        await show_pages(
            pages(),
            columns=("name", "x"),
            row=lambda item: (item, "y"),
            document=lambda item: [item],
            empty="none",
            as_json=as_json,
        )
        printed.append(capsys.readouterr().out)
        assert [bool(piece) for piece in printed] == [False, False, True, False, True, True]
        whole = "".join(printed)
        if as_json:
            assert whole == json.dumps([["a"], ["b"], ["longer"], ["c"]], indent=2) + "\n"
        else:
            assert whole == "name  x\na     y\nb     y\nlonger  y\nc       y\n"

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            (None, "unknown"),
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (12_900_000, "12.3 MiB"),
            (2**63, "8388608.0 TiB"),
        ],
    )
    def test_size(self, size: int | None, expected: str) -> None:
        """Bytes are shown as people read them."""
        assert shown_size(size) == expected

    def test_terminal(self, unchanged: Commands) -> None:
        """A table fits the terminal, and nothing of it is cut off."""
        outer, inner = pty.openpty()
        command = [sys.executable, "-m", "portside", "tag", "list", "team/app"]
        environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
        process = subprocess.Popen([*command, *unchanged.place], stdout=inner, env=environment)
        os.close(inner)
        printed = b""
        while True:
            try:
                piece = os.read(outer, 65536)
            except OSError:
                break
            printed += piece
        os.close(outer)
        assert process.wait(PATIENCE) == 0
        lines = re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).splitlines()
        assert max(map(len, lines)) <= 100
        assert lines[0].startswith("name")


@pytest.mark.parametrize("kind", KINDS["every_database"])
def test_beside_a_server(kind: str, request: pytest.FixtureRequest) -> None:
    """Locks and deletes take effect at once in a running registry, wherever it is stored."""
    home = request.getfixturevalue("make_home")(kind)
    with (
        running_registry(home.data, *home.options, "--workers", "1", env=home.env) as registry,
        connect(registry.url) as client,
    ):
        push(client, "app", FIRST, "v1")
        assert "is locked: write, delete" in home.manage("tag", "lock", "app:v1")
        push(client, "app", SECOND, "v2")
        answer = put_manifest(client, "app", SECOND, "v1")
        assert_error(answer, 405, "REGISTRY_DISALLOWED_OPERATION")
        answer = client.delete(f"/v2/app/manifests/{FIRST.digest}")
        assert_error(answer, 405, "REGISTRY_DISALLOWED_OPERATION")
        delete = ("repository", "delete", "app", "--yes")
        code, _, errors = home.run(*delete)
        assert (code, "tag v1 of repository app is locked" in errors) == (1, True)
        home.manage("tag", "unlock", "app:v1")
        assert home.run(*delete) == (0, "Repository app deleted: 2 manifests, 2 tags.\n", "")
        assert client.get("/v2/app/manifests/v1").status_code == 404
        for blob in FIRST.blobs:
            assert client.head(f"/v2/app/blobs/{digest_of(blob)}").status_code == 404
        assert "2 deleted manifests purged" in home.run("collect", "--keep-deleted", "0")[1]
        assert home.run("check")[:2] == (
            0,
            "No problem in 0 manifests, 0 blobs (0 bytes), 0 upload sessions.\n",
        )
        push(client, "app", FIRST, "v1")
        assert registry.log == ""
