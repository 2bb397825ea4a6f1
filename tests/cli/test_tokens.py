"""`portside scope-map`, `portside token` and `portside keys`: what programs log in with."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import click
import httpx
import pytest
from msgspec.structs import replace

from portside.auth.registrar import parse_scope_rules
from portside.cli.output import iso_time
from portside.cli.tokens import parse_expiry
from support.commands import FAST, Commands
from support.server import RunningRegistry, running_registry
from support.wire import ONCE

FIRST = "This is the first identity: the registry now requires authentication.\n"
PULL = "team/*:content/read,metadata/read"


@pytest.fixture
def portside(data: Path) -> Commands:
    """Run commands on a registry that has one scope map."""
    return prepare(data)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """Run commands that change nothing on a registry that has one scope map."""
    return prepare(tmp_path_factory.mktemp("tokens") / "data")


def prepare(data: Path) -> Commands:
    """Make a registry that has one scope map."""
    commands = Commands(data)
    rules = parse_scope_rules([PULL])
    with commands.registrar() as registrar:
        asyncio.run(registrar.add_scope_map("pull", rules, description="for [CI]"))
    return commands


def status(registry: RunningRegistry, name: str, password: str, path: str = "") -> int:
    """Ask for the version check, or for a path below it."""
    return httpx.get(f"{registry.url}/v2/{path}", auth=(name, password), **ONCE).status_code


def passwords_of(document: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    """Return the passwords that were just made by their names."""
    return {password["name"]: password["value"] for password in document["passwords"]}


def request_token(registry: RunningRegistry, **form: str) -> dict[str, str]:
    """Send a form to the token server."""
    fields = {"service": "portside", "client_id": "test", "access_type": "offline", **form}
    response = httpx.post(f"{registry.url}/oauth2/token", data=fields, **ONCE)
    assert response.status_code == 200, response.text
    found: dict[str, str] = response.json()
    return found


class TestScopeMaps:
    """`portside scope-map`."""

    def test_create_list_show(self, portside: Commands) -> None:
        """Actions are shown in ACR's words, whatever they were given in."""
        rules = ("--repository", "b:pull", "--repository", "a*:*", "--repository", "b:delete")
        created = portside.json("scope-map", "create", "more", *rules)
        every = [f"content/{verb}" for verb in ("read", "write", "delete")]
        every += ["metadata/read", "metadata/write"]
        assert created["repositories"] == [
            {"pattern": "a*", "actions": every},
            {"pattern": "b", "actions": ["content/read", "content/delete"]},
        ]
        assert portside.json("scope-map", "show", "more") == created
        assert [one["name"] for one in portside.json("scope-map", "list")] == ["more", "pull"]
        table = portside.do("scope-map", "list")
        assert "b:content/read,content/delete" in table
        assert f"{PULL} " in table
        assert "for [CI]" in portside.do("scope-map", "show", "pull")

    def test_update(self, portside: Commands) -> None:
        """Patterns are added, replaced and taken away; the rest stays."""
        portside.do("scope-map", "update", "pull", "--repository", "team/*:push")
        portside.do("scope-map", "update", "pull", "--repository", "x:pull")
        portside.do("scope-map", "update", "pull", "--remove-repository", "team/*")
        shown = portside.json("scope-map", "show", "pull")
        assert shown["repositories"] == [{"pattern": "x", "actions": ["content/read"]}]
        assert shown["description"] == "for [CI]"
        portside.do("scope-map", "update", "pull", "--description", "")
        assert portside.json("scope-map", "show", "pull")["description"] == ""

    def test_delete(self, portside: Commands) -> None:
        """Not while a token needs it."""
        for name in ("b", "a"):
            portside.do("token", "create", name, "--scope-map", "pull")
        message = portside.refused("scope-map", "delete", "pull")
        assert "the scope map pull is used by these tokens: a, b" in message
        for name in ("b", "a"):
            portside.do("token", "delete", name)
        portside.do("scope-map", "delete", "pull")
        assert portside.do("scope-map", "list") == "No scope maps.\n"

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("create", "pull", "--repository", "*:*"), "a scope map named pull already exists"),
            (("create", "a/b", "--repository", "*:*"), "invalid name 'a/b'"),
            (("create", "x", "--repository", "team"), "expected PATTERN:ACTIONS"),
            (("create", "x", "--repository", "*x:pull"), "invalid pattern '*x'"),
            (("create", "x", "--repository", "x:pul"), "unknown action 'pul'"),
            (("create", "x", "--repository", "x:*", "--description", "a\nb"), "must be one line"),
            (("show", "none"), "there is no scope map named 'none'"),
            (("update", "none", "--description", ""), "there is no scope map named 'none'"),
            (("update", "pull", "--description", "a\nb"), "must be one line"),
            (("update", "pull"), "nothing to change; use --repository"),
            (("update", "pull", "--remove-repository", "x"), "pull has no pattern 'x'"),
            (("delete", "none"), "there is no scope map named 'none'"),
        ],
    )
    def test_mistakes(self, unchanged: Commands, arguments: tuple[str, ...], expected: str) -> None:
        """Each is one line that says what is wrong."""
        assert expected in unchanged.refused("scope-map", *arguments)


class TestTokens:
    """`portside token`."""

    def test_passwords_are_shown_once(
        self, portside: Commands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When they are made, whole, and by no other command; the store has only digests."""
        monkeypatch.setenv("COLUMNS", "30")
        code, printed, errors = portside.run("token", "create", "ci", "--scope-map", "pull")
        assert (code, errors) == (0, FIRST)
        assert "shown only once" in printed
        made = re.findall(r"^password[12] +(\S{43})$", printed, re.MULTILINE)
        assert len(set(made)) == 2
        as_json = portside.json("token", "create", "cd", "--scope-map", "pull")
        made += passwords_of(as_json).values()
        later = [
            portside.do("token", *arguments, *options)
            for arguments in (("list",), ("show", "ci"), ("show", "cd"))
            for options in ((), ("--json",))
        ]
        later += [portside.do("token", "update", "ci", "--status", "disabled")]
        hashes = [
            password.hash for name in ("ci", "cd") for password in portside.stored(name).passwords
        ]
        assert not any(secret in text for secret in [*made, *hashes] for text in later)
        assert all(re.fullmatch(r"sha256\$[0-9a-f]{64}", hashed) for hashed in hashes)

    def test_list_and_show(self, portside: Commands) -> None:
        """By name, with status and end."""
        end = "2999-01-31T12:00:00Z"
        created = portside.json("token", "create", "ci", "--scope-map", "pull", "--expires", end)
        portside.do("token", "create", "a", "--scope-map", "pull")
        portside.do("token", "update", "a", "--status", "disabled")
        shown = portside.json("token", "show", "ci")
        assert [password["name"] for password in shown["passwords"]] == ["password1", "password2"]
        assert shown | {"passwords": created["passwords"]} == created
        assert (shown["expires"], shown["scope_map"]) == (end, "pull")
        first, second = portside.json("token", "list")
        assert (first["name"], first["status"], first["expires"]) == ("a", "disabled", None)
        assert second == shown
        assert re.search(r"^a +pull +disabled +never ", portside.do("token", "list"), re.MULTILINE)
        assert re.search(rf"^expires +{end}$", portside.do("token", "show", "ci"), re.MULTILINE)
        portside.change("ci", lambda token: replace(token, expires=token.created))
        for arguments, status in (
            (("list",), r"^ci +pull +expired "),
            (("show", "ci"), r"expired$"),
        ):
            assert re.search(status, portside.do("token", *arguments), re.MULTILINE)

    def test_takes_effect_at_once(self, portside: Commands) -> None:
        """Each change holds for the next request of a registry that runs."""
        with running_registry(portside.data, env=FAST) as registry:
            created = portside.json("token", "create", "ci", "--scope-map", "pull")
            one, two = passwords_of(created).values()
            assert (status(registry, "ci", one), status(registry, "ci", two)) == (200, 200)
            assert status(registry, "ci", one, "team/app/tags/list") == 404
            assert status(registry, "ci", one, "other/app/tags/list") == 403
            portside.do("scope-map", "update", "pull", "--repository", "other/*:pull")
            assert status(registry, "ci", one, "other/app/tags/list") == 404
            made = portside.json("token", "regenerate", "ci", "--password", "1")
            assert made["name"] == "ci"
            (new,) = passwords_of(made).values()
            assert (status(registry, "ci", one), status(registry, "ci", two)) == (401, 200)
            assert status(registry, "ci", new) == 200
            portside.do("token", "update", "ci", "--status", "disabled")
            assert status(registry, "ci", new) == 401
            portside.do("token", "update", "ci", "--status", "enabled")
            assert status(registry, "ci", new) == 200
            portside.do("token", "delete", "ci")
            assert status(registry, "ci", new) == 401

    def test_update(self, portside: Commands) -> None:
        """What is not named stays, and so do the passwords."""
        portside.do("token", "create", "ci", "--scope-map", "pull", "--expires", "45m")
        portside.do("scope-map", "create", "other", "--repository", "x:*")
        before = portside.json("token", "show", "ci")
        portside.do("token", "update", "ci", "--scope-map", "other")
        assert portside.json("token", "show", "ci") == before | {"scope_map": "other"}
        portside.do("token", "update", "ci", "--no-expiry")
        changed = {"scope_map": "other", "expires": None}
        assert portside.json("token", "show", "ci") == before | changed

    def test_regenerate(self, portside: Commands) -> None:
        """The new password is printed once, and the other one stays."""
        portside.do("token", "create", "ci", "--scope-map", "pull")
        before = portside.stored("ci").passwords
        printed = portside.do("token", "regenerate", "ci", "--password", "2")
        assert len(re.findall(r"^password2 +\S{43}$", printed, re.MULTILINE)) == 1
        assert "password1" not in printed
        after = portside.stored("ci").passwords
        assert after[0] == before[0]
        assert after[1].number == 2
        assert after[1].hash != before[1].hash

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("create", "a b", "--scope-map", "pull"), "invalid name 'a b'"),
            (("create", "ci", "--scope-map", "none"), "there is no scope map named 'none'"),
            (("create", "ci", "--scope-map", "pull", "--expires", "soon"), "invalid time 'soon'"),
            (("create", "ci", "--scope-map", "pull", "--expires", "2001-01-01"), "a later time"),
            (("show", "ci"), "there is no token named 'ci'"),
            (("delete", "ci"), "there is no token named 'ci'"),
            (("regenerate", "ci", "--password", "1"), "there is no token named 'ci'"),
            (("update", "ci", "--status", "enabled"), "there is no token named 'ci'"),
            (("update", "ci", "--scope-map", "none"), "there is no scope map named 'none'"),
            (("update", "ci", "--expires", "2001-01-01"), "a later time"),
            (("update", "ci"), "nothing to change; use --scope-map"),
            (("update", "ci", "--expires", "1d", "--no-expiry"), "use either --expires or"),
        ],
    )
    def test_mistakes(self, unchanged: Commands, arguments: tuple[str, ...], expected: str) -> None:
        """Each is one line that says what is wrong."""
        assert expected in unchanged.refused("token", *arguments)

    def test_no_registry(self, tmp_path: Path) -> None:
        """A token needs a scope map, and so a registry; none is made."""
        portside = Commands(tmp_path / "none")
        message = portside.refused("token", "create", "ci", "--scope-map", "pull")
        assert "does not contain a registry" in message
        assert not portside.data.exists()


class TestExpiry:
    """`--expires`."""

    SINCE = 1_800_000_000_123_456
    """2027-01-15T08:00:00.123456Z."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("30d", "2027-02-14T08:00:00Z"),
            ("12h", "2027-01-15T20:00:00Z"),
            ("45m", "2027-01-15T08:45:00Z"),
            ("2027-01-31", "2027-01-31T00:00:00Z"),
            ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z"),
            ("2027-01-31T12:00:00", "2027-01-31T12:00:00Z"),
            ("2027-01-31T12:00:00+02:00", "2027-01-31T10:00:00Z"),
        ],
    )
    @pytest.mark.parametrize("zone", ["UTC", "XXX-9"])
    def test_times(
        self, monkeypatch: pytest.MonkeyPatch, zone: str, text: str, expected: str
    ) -> None:
        """Lengths from now, and moments, in UTC unless they say otherwise, wherever this is."""
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            assert iso_time(parse_expiry(text, self.SINCE)) == expected
        finally:
            monkeypatch.undo()
            time.tzset()

    @pytest.mark.parametrize(
        "text",
        ["", "30", "d", "-1d", "1.5d", "1w", "999999d", "٣d", "tomorrow", "2027-02-30",
         "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"],
    )  # fmt: skip
    def test_no_times(self, text: str) -> None:
        """Everything else is refused."""
        with pytest.raises(click.UsageError, match=r"invalid time .*: expected 30d"):
            parse_expiry(text, self.SINCE)


class TestKeys:
    """`portside keys`."""

    def test_rotate(self, portside: Commands) -> None:
        """A new key signs, the old one verifies on, and neither is ever shown."""
        assert portside.json("keys", "list") == []
        with running_registry(portside.data, env=FAST) as registry:
            (first,) = portside.json("keys", "list")
            assert first["signs"]
            rotated = portside.json("keys", "rotate")
            assert portside.json("keys", "list") == [rotated, first | {"signs": False}]
            published = httpx.get(f"{registry.url}/.well-known/jwks.json", **ONCE).json()["keys"]
            assert [key["kid"] for key in published] == [rotated["id"], first["id"]]
        table = portside.do("keys", "list")
        assert [row.split()[-1] for row in table.splitlines()] == ["use", "signs", "verifies"]
        printed = portside.do("keys", "rotate")
        assert not any(word in table + printed for word in ("PRIVATE", "BEGIN"))
        assert json.dumps(portside.json("keys", "list")).count('"signs": true') == 1

    def test_refresh_tokens_outlive_rotations(self, portside: Commands) -> None:
        """A key stays as long as refresh tokens that it signed, not only access tokens."""
        (password, _) = passwords_of(
            portside.json("token", "create", "ci", "--scope-map", "pull")
        ).values()
        with running_registry(portside.data, env=FAST) as registry:
            (first,) = portside.json("keys", "list")
            refresh = request_token(
                registry, grant_type="password", username="ci", password=password
            )["refresh_token"]
            second = portside.json("keys", "rotate")
            two_hours = 2 * 3600 * 1_000_000
            with closing(sqlite3.connect(portside.data / "portside.db")) as database, database:
                database.execute("UPDATE signing_keys SET created = created - ?", (two_hours,))
            third = portside.json("keys", "rotate")
            kept = [key["id"] for key in portside.json("keys", "list")]
            assert kept == [key["id"] for key in (third, second, first)]
            exchanged = request_token(registry, grant_type="refresh_token", refresh_token=refresh)
            bearer = {"Authorization": f"Bearer {exchanged['access_token']}"}
            assert httpx.get(f"{registry.url}/v2/", headers=bearer, **ONCE).status_code == 200
