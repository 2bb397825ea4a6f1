"""`portside trash`: people list, restore and purge what was deleted."""

from __future__ import annotations

import asyncio
import os
import pty
import sqlite3
import subprocess
import sys
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest

from portside.spec.manifests import parse_manifest
from portside.spec.names import RepositoryName, Tag
from support.commands import Commands
from support.content import Content, digest_of, image, index
from support.copying import opened_side
from support.copying import push as put
from support.waiting import PATIENCE

APP = RepositoryName("team/app")
FIRST, SECOND = image(1), image(2)
BOTH = index(FIRST, SECOND)
UNKNOWN = digest_of(b"unknown")


async def fill(data: Path) -> None:
    """Make a registry of two repositories: an index under two tags, and an image."""
    async with opened_side(data) as side:
        for content in (FIRST, SECOND):
            await put(side, APP, content)
        await side.metadata.put_manifest(
            APP,
            parse_manifest(BOTH.manifest, content_type=BOTH.media_type),
            tags=[Tag("v1"), Tag("latest")],
            condition=None,
            check_children=True,
        )
        await put(side, "other", FIRST, "x")


@pytest.fixture
def portside(data: Path) -> Commands:
    """Run commands on a registry of one test."""
    asyncio.run(fill(data))
    return Commands(data)


def what(portside: Commands, *options: str) -> list[str]:
    """Return the first column of the list, without its heading."""
    return [line.split()[0] for line in portside.do("trash", "list", *options).splitlines()[1:]]


def named(content: Content) -> str:
    """Name a manifest of the registry."""
    return f"{APP}@{content.digest}"


class TestList:
    """What can be restored."""

    def test_nothing(self, portside: Commands) -> None:
        """An empty list says so."""
        printed = portside.do("trash", "list")
        assert printed == "Nothing that was deleted can be restored.\n"
        assert portside.json("trash", "list") == []

    def test_everything(self, portside: Commands) -> None:
        """Repositories, manifests with their tags, and tags, each as `restore` takes it."""
        portside.do("tag", "delete", f"{APP}:latest")
        portside.do("manifest", "delete", named(BOTH), named(FIRST))
        portside.do("repository", "delete", "other", "--yes")
        listed = portside.json("trash", "list")
        assert [one["kind"] for one in listed] == [
            *("repository", "manifest", "manifest", "manifest", "tag")
        ]
        repository, _, listing, first, tag = listed
        assert (repository["manifests"], repository["tags"]) == (1, 1)
        assert listing["digest"] == BOTH.digest
        assert listing["tags"] == ["v1"]
        assert listing["size"] == len(BOTH.manifest)
        assert first["digest"] == FIRST.digest
        assert (tag["tag"], tag["digest"]) == ("latest", BOTH.digest)
        assert all(one["deleted_by"].startswith("command line: ") for one in listed)
        assert all(one["deleted"] < one["kept_until"] for one in listed)
        printed = portside.do("trash", "list")
        assert what(portside) == [
            "other",
            f"other@{FIRST.digest}",
            named(BOTH),
            named(FIRST),
            f"{APP}:latest",
        ]
        assert "1 manifest, 1 tag" in printed

    def test_some_repositories(self, portside: Commands) -> None:
        """A pattern chooses; what cannot be one is refused."""
        portside.do("repository", "delete", "other", "--yes")
        portside.do("tag", "delete", f"{APP}:v1")
        assert what(portside, "--repository", "team/*") == [f"{APP}:v1"]
        assert what(portside, "--repository", "other") == ["other", f"other@{FIRST.digest}"]
        assert "invalid pattern" in portside.refused("trash", "list", "--repository", "a*b")

    def test_nothing_is_kept(self, portside: Commands) -> None:
        """With `--keep-deleted 0` nothing can be restored."""
        portside.do("tag", "delete", f"{APP}:v1")
        assert portside.json("trash", "list", "--keep-deleted", "0") == []
        message = portside.refused("trash", "restore", f"{APP}:v1", "--keep-deleted", "0")
        assert "has no deleted tag v1; list the trash" in message


class TestRestore:
    """What comes back."""

    def test_repository(self, portside: Commands) -> None:
        """All of it."""
        before = portside.json("tag", "list", APP)
        portside.do("repository", "delete", APP, "--yes")
        printed = portside.do("trash", "restore", APP)
        assert printed == f"Repository {APP} restored: 3 manifests, 2 tags.\n"
        after = portside.json("tag", "list", APP)
        names = [(one["name"], one["digest"]) for one in before]
        assert [(one["name"], one["digest"]) for one in after] == names
        assert "nothing of repository" in portside.refused("trash", "restore", APP)

    def test_manifest(self, portside: Commands) -> None:
        """With its tags and what it lists."""
        portside.do("manifest", "delete", named(BOTH), named(FIRST))
        document = portside.json("trash", "restore", named(BOTH))
        assert document == [
            {
                "repository": APP,
                "manifests": sorted([BOTH.digest, FIRST.digest]),
                "tags": ["latest", "v1"],
                "incomplete": [],
            }
        ]
        assert portside.json("trash", "list") == []
        message = portside.refused("trash", "restore", f"{APP}@{UNKNOWN}")
        assert f"has no deleted manifest {UNKNOWN}; list the trash" in message

    def test_what_needs_more(self, portside: Commands) -> None:
        """What can be restored is, and the rest is named."""
        portside.do("repository", "delete", APP, "--yes")
        with closing(sqlite3.connect(portside.data / "portside.db")) as database, database:
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("DELETE FROM manifests WHERE digest = ?", (FIRST.digest,))
        code, printed, _ = portside.run("trash", "restore", APP)
        assert code == 1
        assert printed == (
            f"Repository {APP} restored: 1 manifest, 0 tags.\n"
            f"Manifest {named(BOTH)} cannot be restored: something that it needs was purged.\n"
        )
        assert what(portside) == [named(BOTH)]
        assert "which is gone" in portside.refused("trash", "restore", APP)

    def test_tags(self, portside: Commands) -> None:
        """A tag comes back with its manifest, if that was deleted; others stay deleted."""
        portside.do("manifest", "delete", named(BOTH))
        printed = portside.do("trash", "restore", f"{APP}:v1")
        assert printed == f"Tag {APP}:v1 restored; it points to {BOTH.digest}.\n"
        assert what(portside) == [f"{APP}:latest"]
        portside.do("trash", "restore", f"{APP}:latest")
        assert len(portside.json("tag", "list", APP)) == 2
        change = portside.json("tag", "history", f"{APP}:latest")[0]
        assert change["identity"].startswith("command line: ")
        assert what(portside) == []

    def test_a_tag_that_was_pushed_again(self, portside: Commands) -> None:
        """It stays where it points, unless it is to be moved."""
        portside.do("tag", "delete", f"{APP}:v1")

        async def push_again() -> None:
            async with opened_side(portside.data) as side:
                await put(side, APP, FIRST, "v1")

        asyncio.run(push_again())
        message = portside.refused("trash", "restore", f"{APP}:v1")
        assert f"tag v1 of repository {APP} points to {FIRST.digest} now" in message
        portside.do("trash", "restore", f"{APP}:v1", "--force")
        assert portside.json("tag", "show", f"{APP}:v1")["digest"] == BOTH.digest

    def test_a_digest_beside_a_tag(self, portside: Commands) -> None:
        """A manifest comes back under the tag that is named, even if it never had it."""
        portside.do("manifest", "delete", named(BOTH))
        portside.do("trash", "restore", f"{APP}:found@{BOTH.digest}")
        assert [one["name"] for one in portside.json("tag", "list", APP)] == ["found"]

    def test_read_only(self, portside: Commands) -> None:
        """A registry in read-only mode lists the trash, and leaves it as it is."""
        portside.do("tag", "delete", f"{APP}:v1")
        portside.do("read-only", "on")
        assert what(portside) == [f"{APP}:v1"]
        assert "the registry is read-only" in portside.refused("trash", "restore", f"{APP}:v1")


class TestEmpty:
    """What goes for good."""

    def test_some(self, portside: Commands) -> None:
        """Manifests of the repositories that are named; deleted tags stay in the list."""
        portside.do("repository", "delete", "other", "--yes")
        portside.do("tag", "delete", f"{APP}:latest")
        printed = portside.do("trash", "empty", "--repository", "other", "--yes")
        assert printed == "1 deleted manifest purged.\n"
        assert what(portside) == [f"{APP}:latest"]
        assert "nothing of repository other" in portside.refused("trash", "restore", "other")

    def test_an_image(self, portside: Commands) -> None:
        """An index goes with what it lists; its space can then be freed."""
        portside.do("manifest", "delete", named(BOTH), named(FIRST))
        printed = portside.do("trash", "empty", named(BOTH), "--yes")
        assert printed == f"Manifest {named(BOTH)} purged, with 1 other manifest.\n"
        assert what(portside) == []
        portside.do("manifest", "delete", named(SECOND))
        document = portside.json("trash", "empty", named(SECOND), "--yes")
        assert document == [{"repository": APP, "manifests": [SECOND.digest]}]
        message = portside.refused("trash", "empty", named(SECOND), "--yes")
        assert f"has no deleted manifest {SECOND.digest}" in message

    def test_what_is_named_wrongly(self, portside: Commands) -> None:
        """A tag does not say which manifest is meant, and one choice is enough."""
        assert "expected REPOSITORY@DIGEST" in portside.refused("trash", "empty", f"{APP}:v1")
        both = ("trash", "empty", named(BOTH), "--repository", "team/*", "--yes")
        assert "cannot be combined" in portside.refused(*both)

    def test_all(self, portside: Commands) -> None:
        """Also what `--keep-deleted` no longer keeps; its space can then be freed."""
        portside.do("repository", "delete", "other", "--yes")
        portside.do("repository", "delete", APP, "--yes")
        options = ("--yes", "--keep-deleted", "0")
        assert portside.json("trash", "empty", *options) == {"manifests": 4}
        portside.do("collect", "--grace", "0")
        assert not [*(portside.data / "blobs").glob("*/*/*")]

    @pytest.mark.parametrize("given", [(), (named(BOTH),)])
    @pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"\n", 130)])
    def test_confirmation(
        self, portside: Commands, given: tuple[str, ...], answer: bytes, code: int
    ) -> None:
        """A person is asked, and nothing is purged without a clear answer."""
        portside.do("manifest", "delete", named(BOTH))
        outer, inner = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "portside", "trash", "empty", *given, *portside.place],
            stdin=inner,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(inner)
        os.write(outer, answer)
        _, errors = process.communicate(timeout=PATIENCE)
        os.close(outer)
        assert process.returncode == code, errors
        found = "1 deleted manifest and what was deleted with it" if given else "1 deleted manifest"
        assert f"Purge {found}, so that nothing can restore" in errors
        left = [f"{APP}:latest"] if code == 0 else [named(BOTH)]
        assert what(portside)[:1] == ([] if code == 0 else left)

    def test_no_terminal(self, portside: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
        """A script says --yes."""
        portside.do("manifest", "delete", named(BOTH))
        monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
        assert "use --yes" in portside.refused("trash", "empty")
        assert what(portside) == [named(BOTH)]
