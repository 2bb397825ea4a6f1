"""The first user can come from a setting, and only the first."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from portside.auth.passwords import verify
from portside.bootstrap.preparing import prepare
from portside.config import SettingsInvalid, make_settings
from support.commands import Commands
from support.homes import Home
from support.postgres import Server
from support.server import running_registry
from support.wire import ONCE

PASSWORD = "correct horse battery"  # noqa: S105
OTHER = "another password"

_WAITING = """
    SELECT COUNT(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
_ADD_ALICE = """
    INSERT INTO identities (name, kind, created, enabled) VALUES ('alice', 'user', 1, TRUE)
"""


def start(data: Path, **given: Any) -> bool:
    """Prepare a registry as `portside serve` does; returns whether it is closed."""
    return prepare(make_settings({"data": str(data), "password_cost": 4, **given}))


def is_password(portside: Commands, password: str) -> bool:
    """Whether the user has a password."""
    (stored,) = portside.stored("admin").passwords
    return verify(password, stored.hash, work=4)


@pytest.fixture
def portside(data: Path) -> Commands:
    """Run commands on the directory."""
    return Commands(data)


def test_first_start(data: Path, portside: Commands, caplog: pytest.LogCaptureFixture) -> None:
    """The first start adds the user, closes the registry, and says so without the password."""
    assert start(data, admin_password=PASSWORD)
    assert is_password(portside, PASSWORD)
    (event,) = portside.json("events", "list", "--action", "user.added")
    assert (event["reference"], event["identity"]) == ("admin", "this registry")
    assert "user admin added" in caplog.text
    assert PASSWORD not in caplog.text


class TestLater:
    """Where an identity exists or has existed, nothing is added and nothing changes."""

    def test_another_password(self, data: Path, portside: Commands) -> None:
        """A password that was changed stays, whatever the setting says."""
        start(data, admin_password=PASSWORD)
        assert start(data, admin_password=OTHER)
        assert is_password(portside, PASSWORD)

    def test_removed(self, data: Path, portside: Commands) -> None:
        """A user that was removed does not come back."""
        start(data, admin_password=PASSWORD)
        portside.do("user", "remove", "admin")
        assert start(data, admin_password=PASSWORD)
        assert portside.json("user", "list") == []

    def test_another_user(self, data: Path, portside: Commands) -> None:
        """A registry with a user of another name gets no second one."""
        portside.add_user("alice", OTHER)
        assert start(data, admin_password=PASSWORD)
        assert [user["name"] for user in portside.json("user", "list")] == ["alice"]


def test_open(data: Path, portside: Commands) -> None:
    """An open registry has no use for a user, and adds none."""
    assert not start(data, admin_password=PASSWORD, open=True)
    assert portside.json("user", "list") == []


def test_short(data: Path, portside: Commands) -> None:
    """A password that `portside user add` refuses is refused here, by the name of the setting."""
    with pytest.raises(SettingsInvalid, match=r"^admin-password: .*8 characters"):
        start(data, admin_password="short")  # noqa: S106
    assert portside.json("user", "list") == []


def test_nodes(data: Path, postgresql: Server) -> None:
    """Nodes that start at the same time over one database add one user, and all of them start."""
    database = postgresql.make_database()
    with ThreadPoolExecutor(4) as pool:
        given = {"database": database, "admin_password": PASSWORD}
        started = [pool.submit(start, data, **given) for _ in range(4)]
        assert all(one.result() for one in started)
    assert Home(data, database).manage("user", "list").count("admin ") == 1


async def test_a_command_at_the_same_time(data: Path, postgresql: Server) -> None:
    """A user that a command adds while a node starts is the first one, and the only one."""
    given = {"database": postgresql.make_database()}
    start_node = partial(start, data, **given)
    assert not await asyncio.to_thread(start_node)
    async with AsyncExitStack() as opened:
        # Within a transaction, PostgreSQL shows what others do as it was at the first look.
        command, observer = [await asyncpg.connect(given["database"]) for _ in range(2)]
        opened.push_async_callback(command.close)
        opened.push_async_callback(observer.close)
        async with command.transaction():
            await command.execute("UPDATE access_state SET closed = TRUE, version = version + 1")
            starting = asyncio.ensure_future(asyncio.to_thread(start_node, admin_password=PASSWORD))
            while not await observer.fetchval(_WAITING):
                assert not starting.done()
            await command.execute(_ADD_ALICE)
        assert await starting
        assert await command.fetchval("SELECT string_agg(name, ' ') FROM identities") == "alice"


def test_served(data: Path, tmp_path: Path) -> None:
    """A registry that other machines reach starts with a file, and asks for that password."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    env = {"PORTSIDE_ADMIN_PASSWORD_FILE": str(file), "PORTSIDE_PASSWORD_COST": "4"}
    options = ("--listen", "0.0.0.0:0", "--workers", "1")
    with running_registry(data, *options, env=env) as registry:
        url = f"http://127.0.0.1:{registry.port}/v2/"
        assert httpx.get(url, **ONCE).status_code == 401
        assert httpx.get(url, auth=("admin", PASSWORD), **ONCE).status_code == 200
        assert httpx.get(url, auth=("admin", OTHER), **ONCE).status_code == 401
