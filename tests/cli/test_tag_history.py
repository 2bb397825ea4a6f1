"""`portside tag history` and `portside tag restore`."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from portside.auth.access_files import parse_htpasswd
from portside.auth.identities import IdentityNameInvalid, parse_identity_name
from portside.cli import identity
from portside.cli.identity import command_actor
from support.commands import Commands
from support.content import Content, digest_of, image
from support.copying import opened_side
from support.copying import push as put

APP = "team/app"
NAME = f"{APP}:v1"
FIRST, SECOND = image("first"), image("second")


async def fill(data: Path, *contents: Content) -> None:
    """Push images, one after the other, under the same tag."""
    async with opened_side(data) as side:
        for content in contents:
            await put(side, APP, content, "v1")


@pytest.fixture
def portside(data: Path) -> Commands:
    """Run commands on a registry in which a tag was moved."""
    asyncio.run(fill(data, FIRST, SECOND))
    return Commands(data)


def current(portside: Commands, tag: str = NAME) -> str:
    """Return what a tag points to."""
    digest: str = portside.json("tag", "show", tag)["digest"]
    return digest


class TestHistory:
    """`portside tag history`."""

    def test_json(self, portside: Commands) -> None:
        """Every change, newest first, until the manifests are purged."""
        portside.do("tag", "delete", NAME)
        portside.do("manifest", "delete", f"{APP}@{FIRST.digest}")
        changes = portside.json("tag", "history", NAME)
        times = [change.pop("time") for change in changes]
        assert times == sorted(times, reverse=True)
        me = command_actor().name
        expected = [
            ("deleted", SECOND, me, "present"),
            ("set", SECOND, None, "present"),
            ("set", FIRST, None, "deleted"),
        ]
        assert changes == [
            {"action": action, "digest": content.digest, "identity": by, "manifest": state}
            for action, content, by, state in expected
        ]
        portside.do("collect", "--keep-deleted", "0")
        states = [change["manifest"] for change in portside.json("tag", "history", NAME)]
        assert states == ["present", "present", "purged"]

    def test_table(self, portside: Commands) -> None:
        """The same for people."""
        portside.do("manifest", "delete", f"{APP}@{SECOND.digest}")
        header, *lines = portside.do("tag", "history", NAME).splitlines()
        assert header.split() == ["time", "change", "by", "digest", "manifest"]
        rows = [re.split(r" {2,}", line)[1:] for line in lines]
        assert rows == [
            ["deleted", command_actor().name, SECOND.digest, "in the trash"],
            ["set", "-", SECOND.digest, "in the trash"],
            ["set", "-", FIRST.digest, "present"],
        ]

    def test_many_changes(self, data: Path) -> None:
        """A history of several pages is whole."""
        asyncio.run(fill(data, *[FIRST, SECOND] * 120))
        changes = Commands(data).json("tag", "history", NAME)
        assert len(changes) == len({change["time"] for change in changes}) == 240

    def test_unknown(self, portside: Commands) -> None:
        """A tag without a history."""
        refusal = portside.refused("tag", "history", f"{APP}:other")
        assert "repository team/app has no tag other" in refusal


class TestRestore:
    """`portside tag restore`."""

    def test_at(self, portside: Commands) -> None:
        """The times that the history prints can be given as they are."""
        second, first = portside.json("tag", "history", NAME)
        printed = portside.do("tag", "restore", NAME, "--at", first["time"])
        assert printed == (
            f"Tag {NAME} points to {FIRST.digest} again. It pointed to {SECOND.digest}.\n"
        )
        assert current(portside) == FIRST.digest
        done = portside.json("tag", "restore", NAME, "--at", second["time"])
        assert done == {
            "repository": APP,
            "tag": "v1",
            "digest": SECOND.digest,
            "before": FIRST.digest,
            "manifests": [],
        }
        newest = portside.json("tag", "history", NAME)[0]
        assert (newest["action"], newest["identity"]) == ("restored", command_actor().name)

    def test_to(self, portside: Commands) -> None:
        """A digest that the tag points to already changes nothing."""
        assert portside.do("tag", "restore", NAME, "--to", SECOND.digest) == (
            f"Tag {NAME} already points to {SECOND.digest}.\n"
        )
        portside.do("tag", "restore", NAME, "--to", FIRST.digest)
        assert current(portside) == FIRST.digest

    def test_what_was_deleted(self, portside: Commands) -> None:
        """After the repository was deleted, one tag and its manifest come back."""
        second = portside.json("tag", "history", NAME)[0]
        portside.do("repository", "delete", APP, "--yes")
        assert portside.do("tag", "restore", NAME, "--at", second["time"]) == (
            f"Manifest {APP}@{SECOND.digest} restored.\n"
            f"Tag {NAME} points to {SECOND.digest} again. It did not exist.\n"
        )
        assert current(portside) == SECOND.digest
        deleted = portside.json("tag", "history", NAME)[1]
        assert (deleted["action"], deleted["identity"]) == ("deleted", command_actor().name)
        refusal = portside.refused("tag", "restore", NAME, "--at", deleted["time"])
        assert f"it was deleted at {deleted['time']} by {command_actor().name}" in refusal

    def test_what_is_purged(self, portside: Commands) -> None:
        """It has to be pushed again, and the tag stays where it is."""
        portside.do("manifest", "delete", f"{APP}@{FIRST.digest}")
        portside.do("collect", "--keep-deleted", "0")
        refusal = portside.refused("tag", "restore", NAME, "--to", FIRST.digest)
        assert "if it was purged, push it again" in refusal
        assert current(portside) == SECOND.digest

    def test_locked(self, portside: Commands) -> None:
        """A locked tag stays where it is."""
        portside.do("tag", "lock", NAME)
        refusal = portside.refused("tag", "restore", NAME, "--to", FIRST.digest)
        assert "is locked" in refusal
        assert current(portside) == SECOND.digest

    def test_immutable(self, portside: Commands, tmp_path: Path) -> None:
        """With the rules of the registry, an immutable tag stays as well."""
        rules = tmp_path / "rules.toml"
        rules.write_text('[[repositories]]\nmatch = "*"\nimmutable-tags = ["v*"]\n')
        command = ("tag", "restore", NAME, "--to", FIRST.digest)
        refusal = portside.refused(*command, "--rules", str(rules))
        assert "is immutable" in refusal
        assert refusal.endswith("or use `portside tag restore` without --rules\n")
        assert current(portside) == SECOND.digest
        portside.do(*command)

    @pytest.mark.parametrize(
        "options",
        [
            (),
            ("--at", "2026-11-01T10:00Z", "--to", FIRST.digest),
            ("--at", "2026-11-01T10:00"),
            ("--at", "yesterday"),
            ("--to", "v2"),
        ],
    )
    def test_mistakes(self, portside: Commands, options: tuple[str, ...]) -> None:
        """One of the two is given, and it can be understood."""
        code, printed, errors = portside.run("tag", "restore", NAME, *options)
        assert (code, printed) == (2, "")
        assert "Traceback" not in errors
        assert current(portside) == SECOND.digest

    def test_before_the_history(self, portside: Commands) -> None:
        """Where a tag pointed before is not known."""
        refusal = portside.refused("tag", "restore", NAME, "--at", "1999-12-31T23:59:59+01:00")
        assert "did not exist at 1999-12-31T22:59:59.000000Z" in refusal
        assert digest_of(b"") not in refusal


class TestIdentity:
    """Who changes something by a command."""

    def test_no_user_has_that_name(self) -> None:
        """Neither one that the registry makes nor one of an htpasswd file."""
        name = command_actor().name
        with pytest.raises(IdentityNameInvalid):
            parse_identity_name(name)
        line = f"{name}:$2b$04${'a' * 53}"
        assert name not in parse_htpasswd(line).hashes

    def test_a_user_that_the_system_does_not_know(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A container may run as any number."""
        monkeypatch.setattr(identity, "getuid", lambda: 3_999_999_999)
        assert command_actor().name == "command line: 3999999999"
