"""`portside user`: people get a password, and lose it at once."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from portside.auth.passwords import verify
from portside.config import Settings
from support.commands import FAST, Commands
from support.server import RunningRegistry, running_registry
from support.waiting import PATIENCE
from support.wire import ONCE

FIRST = "This is the first identity: the registry now requires authentication.\n"
SECRET = "correct horse"  # noqa: S105  # the password of users who live for a second
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def portside(data: Path) -> Commands:
    """Run commands on a directory that is not there yet."""
    return Commands(data)


@pytest.fixture
def serving(data: Path) -> Iterator[RunningRegistry]:
    """Serve the directory for the length of the test."""
    with running_registry(data, env=FAST) as registry:
        yield registry


def status(registry: RunningRegistry, *credentials: str) -> int:
    """Ask for the version check, with or without a name and a password."""
    auth = (credentials[0], credentials[1]) if credentials else None
    return httpx.get(f"{registry.url}/v2/", auth=auth, **ONCE).status_code


def add_with_input(data: Path, given: bytes) -> subprocess.CompletedProcess[bytes]:
    """Add alice with a password from the standard input."""
    command = [
        sys.executable,
        "-m",
        "portside",
        "user",
        "add",
        "alice",
        "--create",
        "--password-stdin",
    ]
    return subprocess.run(
        [*command, "--data", str(data)],
        input=given,
        capture_output=True,
        env={**os.environ, **FAST},
        timeout=60,
        check=False,
    )


class TestAdd:
    """`portside user add`, and the ways to say a password."""

    def test_makes_a_registry(self, portside: Commands) -> None:
        """Before the first start, --create makes a registry, and it is closed."""
        path = str(portside.write(SECRET))
        first = ("user", "add", "alice", "--password-file", path, "--create")
        code, printed, errors = portside.run(*first)
        assert (code, printed, errors) == (0, "User alice added.\n", FIRST)
        code, _, errors = portside.run("user", "add", "bob", "--password-file", path)
        assert (code, errors) == (0, "")
        with running_registry(portside.data, env=FAST) as registry:
            assert status(registry) == 401
            assert status(registry, "alice", SECRET) == 200

    @pytest.mark.parametrize(
        "command", ["user add alice --password-stdin", "scope-map create readers --repository a:*"]
    )
    def test_wrong_directory(self, portside: Commands, command: str) -> None:
        """Where there is no registry, none is made by mistake; the message names the directory."""
        message = portside.refused(*command.split())
        assert message.startswith(f"portside: {portside.data} does not contain a registry; ")
        assert message.endswith(", or --create to create a new one there\n")
        assert not portside.data.exists()

    def test_json(self, portside: Commands) -> None:
        """What was added is printed, and the news about the registry beside it."""
        path = str(portside.write(SECRET))
        added = portside.json("user", "add", "alice", "--create", "--password-file", path)
        assert TIME.fullmatch(added.pop("created"))
        assert TIME.fullmatch(added.pop("password_changed"))
        assert added == {"name": "alice", "status": "enabled"}

    @pytest.mark.parametrize("line", [b"pass word", b"pass word\n", b"pass word\r\nmore\n"])
    def test_standard_input(self, portside: Commands, line: bytes) -> None:
        """The first line counts, without its end."""
        assert add_with_input(portside.data, line).returncode == 0
        assert verify("pass word", portside.stored("alice").passwords[0].hash, work=4)

    def test_work_factor(self, portside: Commands) -> None:
        """The setting decides how slow the hash is."""
        portside.add_user("alice", SECRET)
        assert portside.stored("alice").passwords[0].hash.startswith("$2b$04$")

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (b"", "a password cannot be empty"),
            (b"\n", "a password cannot be empty"),
            (b"x" * 73, "a password can have at most 72 bytes"),
            (b"a\0b", "cannot contain the character NUL"),
            (b"\xff", "is not valid UTF-8"),
        ],
    )
    def test_bad_password(self, data: Path, given: bytes, expected: str) -> None:
        """It is refused in one line that does not show it."""
        done = add_with_input(data, given)
        assert (done.returncode, done.stdout) == (1, b"")
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith("portside: ")
        assert expected in line

    def test_short_password(self, portside: Commands) -> None:
        """It is refused for new passwords alone; the length is counted in characters."""
        short, long = portside.write("\u00e9" * 7), portside.data.with_name("long")
        long.write_text("\u00e9" * 8)
        portside.do("user", "add", "old", "--create", "--password-file", str(short))
        assert verify("\u00e9" * 7, portside.stored("old").passwords[0].hash, work=4)
        for command in (("add", "new"), ("passwd", "old")):
            default = ("--min-password-length", str(Settings().min_password_length))
            message = portside.refused("user", *command, "--password-file", str(short), *default)
            assert message == "portside: a password needs at least 8 characters\n"
            portside.do("user", *command, "--password-file", str(long), *default)
        with running_registry(portside.data, env=FAST) as registry:
            for name in ("old", "new"):
                assert status(registry, name, "\u00e9" * 8) == 200

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("al:ice", "invalid name 'al:ice'"),
            ("", "invalid name ''"),
            ("a" * 65, "1 to 64 letters"),
            ("anonymous", "the name anonymous is reserved"),
            ("00000000-0000-0000-0000-000000000000", "when the password is a token"),
        ],
    )
    def test_bad_name(self, portside: Commands, name: str, expected: str) -> None:
        """It is refused, and no registry is made for it."""
        assert expected in portside.refused("user", "add", name)
        assert not portside.data.exists()

    def test_taken_name(self, portside: Commands) -> None:
        """Users and tokens share their names; the password is not asked for in vain."""
        portside.add_user("alice", SECRET)
        assert "a user named alice already exists" in portside.refused("user", "add", "alice")
        with portside.registrar() as registrar:
            asyncio.run(registrar.add_scope_map("none", (), description=""))
            asyncio.run(registrar.add_token("ci", "none", expires=None))
        assert "a token named ci already exists" in portside.refused("user", "add", "ci")
        assert "ci is a token" in portside.refused("user", "remove", "ci")

    def test_no_way_to_say_a_password(self, portside: Commands) -> None:
        """Without a terminal, the options are named; two at once are one too many."""
        add = ("user", "add", "alice", "--create")
        message = portside.refused(*add)
        assert "use --password-stdin or --password-file FILE" in message
        both = ("--password-stdin", "--password-file", "x")
        assert "use either" in portside.refused(*add, *both)
        absent = ("--password-file", "absent")
        assert "cannot read absent" in portside.refused(*add, *absent)


class Terminal:
    """A command at a terminal, and somebody who types."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "portside", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, **FAST},
        )
        os.close(slave)
        self.shown = ""

    def answer(self, prompt: str, text: str) -> None:
        """Wait for a prompt, and type a line."""
        while not self.shown.endswith(prompt):
            self.shown += os.read(self._master, 1024).decode()
        os.write(self._master, f"{text}\n".encode())

    def finish(self) -> int:
        """Read on to the end; returns the exit code."""
        try:
            while piece := os.read(self._master, 1024):
                self.shown += piece.decode()
        except OSError:
            pass
        os.close(self._master)
        return self.process.wait(PATIENCE)


class TestTerminal:
    """The password is asked for, and never seen."""

    def test_asks_twice(self, portside: Commands) -> None:
        """It asks again where the two differ."""
        terminal = Terminal("user", "add", "alice", "--create", "--data", str(portside.data))
        for first, second in ((SECRET, "horse"), (SECRET, SECRET)):
            terminal.answer("Password for alice: ", first)
            terminal.answer("Repeat for confirmation: ", second)
        assert terminal.finish() == 0
        assert "The two passwords differ" in terminal.shown
        assert "User alice added." in terminal.shown
        assert "horse" not in terminal.shown
        assert verify(SECRET, portside.stored("alice").passwords[0].hash, work=4)

    def test_interrupted(self, portside: Commands) -> None:
        """Ctrl-C and Ctrl-D end it without a user and without a traceback."""
        terminal = Terminal("user", "add", "alice", "--create", "--data", str(portside.data))
        terminal.answer("Password for alice: ", "\x04")
        assert terminal.finish() != 0
        assert "Traceback" not in terminal.shown
        # Nor is there a registry without users, which would be open.
        assert not portside.data.exists()


class TestManage:
    """`portside user list`, `passwd`, `disable`, `enable` and `remove`, while it is served."""

    def test_list(self, portside: Commands) -> None:
        """By name, without a secret, for people and for programs."""
        for name in ("bob", "alice"):
            portside.add_user(name, SECRET)
        portside.do("user", "disable", "bob")
        head, *rows = portside.do("user", "list").splitlines()
        assert head.split("  ")[0] == "name"
        assert [row.split()[:2] for row in rows] == [["alice", "enabled"], ["bob", "disabled"]]
        assert all(len(TIME.findall(row)) == 2 for row in rows)
        found = portside.json("user", "list")
        assert [(one["name"], one["status"]) for one in found] == [
            ("alice", "enabled"),
            ("bob", "disabled"),
        ]
        assert all(set(one) == {"created", "name", "password_changed", "status"} for one in found)

    def test_takes_effect_at_once(self, portside: Commands, serving: RunningRegistry) -> None:
        """The open registry closes; each change holds for the next request, in every worker."""
        assert status(serving) == 200
        portside.add_user("alice", SECRET)
        for _ in range(4):
            assert (status(serving), status(serving, "alice", SECRET)) == (401, 200)
        portside.do("user", "disable", "alice")
        assert status(serving, "alice", SECRET) == 401
        portside.do("user", "enable", "alice")
        assert status(serving, "alice", SECRET) == 200
        portside.do("user", "passwd", "alice", "--password-file", str(portside.write("other")))
        assert (status(serving, "alice", SECRET), status(serving, "alice", "other")) == (401, 200)
        portside.do("user", "remove", "alice")
        assert (status(serving), status(serving, "alice", "other")) == (401, 401)
        assert SECRET not in serving.log

    @pytest.mark.parametrize("command", ["remove", "passwd", "disable", "enable"])
    def test_nobody(self, portside: Commands, command: str) -> None:
        """An unknown name is reported, and so is a directory without a registry."""
        assert "does not contain a registry" in portside.refused("user", command, "eve")
        assert not portside.data.exists()
        with portside.registrar():
            pass
        assert "there is no user named 'eve'" in portside.refused("user", command, "eve")


def test_reserve(portside: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the reserve nothing is added; what is there can be changed and removed."""
    for name in ("alice", "bob"):
        portside.add_user(name, SECRET)
    portside.do("scope-map", "create", "pull", "--repository", "a:pull")
    portside.do("token", "create", "ci", "--scope-map", "pull")
    monkeypatch.setenv("PORTSIDE_RESERVE_BYTES", str(1 << 50))
    password = ("--password-file", str(portside.write(SECRET)))
    for command in (
        ("user", "add", "eve", *password),
        ("token", "create", "cd", "--scope-map", "pull"),
        ("scope-map", "create", "more", "--repository", "a:pull"),
        ("scope-map", "update", "pull", "--repository", "b:pull"),
        ("keys", "rotate"),
    ):
        assert "the disk is full, but for the reserve" in portside.refused(*command)
    for allowed in (
        ("user", "passwd", "alice", *password),
        ("user", "disable", "alice"),
        ("user", "remove", "bob"),
        ("token", "regenerate", "ci", "--password", "1"),
        ("token", "delete", "ci"),
        ("scope-map", "update", "pull", "--remove-repository", "a"),
        ("scope-map", "delete", "pull"),
    ):
        portside.do(*allowed)
