"""Commands on a registry in PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import httpx
import pytest

from portside.bootstrap import connected_stores
from portside.config import make_settings
from portside.stores.metadata.schema.versions import NEWEST
from servers.postgresql import HASTY, running_postgresql
from support.balancer import take_port
from support.commands import run_inside
from support.content import image
from support.missing import server_needed
from support.postgres import Server
from support.server import run_portside, running_registry, serve_command
from support.waiting import PATIENCE
from support.wire import ONCE, connect, push

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The digest of no bytes."""


def fail(*arguments: str) -> str:
    """Run a command that fails with one line, and return it."""
    run = run_portside if arguments[0] == "serve" else run_inside
    code, printed, errors = run(*arguments)
    assert (code, printed) == (2 if errors.endswith("--help`.\n") else 1, ""), errors
    assert len(errors.splitlines()) == 1, errors
    return errors


@pytest.fixture
def url(postgresql: Server) -> str:
    """Make an empty database."""
    return postgresql.make_database()


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """Run a server that asks for passwords; yields its host and port."""
    port = take_port()
    settings = {**HASTY, "listen_addresses": "127.0.0.1", "port": str(port)}
    with server_needed(), running_postgresql(settings) as server:
        url = f"{server.url()}&port={port}"
        for role in ("eve", "other", "guest"):
            server.ask(url, f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
        server.ask(url, "CREATE DATABASE registry OWNER eve")
        (server.folder / "data" / "pg_hba.conf").write_text(
            "local all portside trust\nhost all eve,guest,nobody 127.0.0.1/32 scram-sha-256\n"
        )
        server.restart("fast")
        yield f"127.0.0.1:{port}"


def execute(url: str, sql: str) -> None:
    """Change the database behind the registry's back."""

    async def connect_and_execute() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(connect_and_execute())


class TestMigrate:
    """`portside migrate`."""

    def test_manifests_of_an_older_version(self, data: Path) -> None:
        """Their properties are recorded beside the server, which says that they are not yet."""
        count = 250
        with running_registry(data, "--workers", "1") as registry:
            with connect(registry.url) as client:
                for number in range(count):
                    push(client, "library/app", image(number, layers=0))
            forget = "UPDATE manifests SET image_size = NULL, architecture = NULL"
            with closing(sqlite3.connect(data / "portside.db")) as connection:
                connection.execute(forget)
                connection.commit()
            code, printed, errors = run_inside("migrate", "--data", str(data))
            assert (code, errors) == (0, "")
            assert printed.splitlines()[1:] == [f"Properties of {count} manifests recorded."]
            with closing(sqlite3.connect(data / "portside.db")) as connection:
                found = connection.execute("SELECT DISTINCT architecture FROM manifests")
                assert found.fetchall() == [("amd64",)]
                connection.execute(forget)
                connection.commit()
        with running_registry(data, "--workers", "1") as registry:
            pass
        assert "run `portside migrate`" in registry.log

    def test_a_second_time_changes_nothing(self, url: str) -> None:
        code, printed, errors = run_inside("migrate", "--database", url)
        assert (code, errors) == (0, "")
        assert f"was created; migrations applied: {NEWEST}." in printed
        _, printed, _ = run_inside("migrate", "--database", url)
        assert "is up to date; migrations applied: 0." in printed

    def test_many_nodes_at_once(self, url: str) -> None:
        """Together they take each step once, and all of them succeed."""
        command = [sys.executable, "-m", "portside", "migrate", "--database", url]
        nodes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        printed = [node.communicate(timeout=PATIENCE)[0] for node in nodes]
        assert [node.returncode for node in nodes] == [0] * 4
        assert sum(int(line.split()[-1].rstrip(".")) for line in printed) == NEWEST

    def test_an_sqlite_file(self, data: Path) -> None:
        """The same command makes the database of one machine, if it is asked to."""
        code, printed, errors = run_portside("migrate", "--data", str(data))
        assert (code, printed) == (1, "")
        assert f"{data} does not contain a registry" in errors
        assert "or --create to create a new one there" in errors
        assert not data.exists()
        code, printed, _ = run_portside("migrate", "--create", "--data", str(data))
        assert code == 0
        assert printed == f"{data / 'portside.db'} was created; migrations applied: {NEWEST}.\n"


class TestServe:
    """`portside serve` on a database that is not what it should be."""

    def test_an_empty_one_is_made(self, url: str, data: Path) -> None:
        with running_registry(data, "--database", url) as registry:
            assert httpx.get(f"{registry.url}/readyz", **ONCE).status_code == 200
            assert not (data / "portside.db").exists()
            assert "postgresql://" in registry.banner

    def test_a_newer_one_is_refused(self, url: str, data: Path) -> None:
        run_inside("migrate", "--database", url)
        execute(url, "INSERT INTO schema_version (version) VALUES (999)")
        line = fail(*serve_command(data, "--database", url)[3:])
        assert "was made by a newer Portside: its schema has version 999" in line

    def test_an_older_one_is_left_alone(self, url: str, data: Path) -> None:
        """Other nodes may serve from it: only `portside migrate` changes it."""
        run_inside("migrate", "--database", url)
        execute(url, "DELETE FROM schema_version WHERE version > 1")
        line = fail(*serve_command(data, "--database", url)[3:])
        assert "run `portside migrate` to upgrade it" in line

    def test_one_that_does_not_answer(self, data: Path) -> None:
        """The line says what is missing, and shows no password."""
        line = fail(*serve_command(data, "--database", "postgresql://eve:hidden@127.0.0.1:1/x")[3:])
        assert "the database at 127.0.0.1:1: " in line
        assert "hidden" not in line

    @pytest.mark.parametrize(
        ("address", "password", "said"),
        [
            ("eve@{host}/registry", "", "set PGPASSWORD or PGPASSWORD_FILE, or add the password"),
            ("eve@{host}/registry", "hidden", "set PGPASSWORD or PGPASSWORD_FILE, or add the"),
            ("eve:hidden@{host}/registry", "", "correct the user or the password in --database"),
            ("eve:right@{host}/none", "", "create it, or correct the name in --database"),
            ("nobody@{host}/registry", "", "set PGPASSWORD"),
            ("other:right@{host}/registry", "", "allow the user in pg_hba.conf, or correct the"),
            ("guest:right@{host}/registry", "", "make the user the owner of the database"),
            ("eve:right@no-such-host.invalid/registry", "", "correct the host in --database"),
            ("eve:right@{host}/registry?sslmode=require", "", "rejected SSL upgrade"),
        ],
    )
    def test_refused(self, guarded: str, address: str, password: str, said: str) -> None:
        """The line names the server and says what to do, and shows no password."""
        env = {"PGPASSWORD": password} if password else {}
        url = f"postgresql://{address.format(host=guarded)}"
        code, _, errors = run_inside("migrate", "--database", url, env=env)
        assert code == 1
        assert said in errors
        assert "hidden" not in errors
        assert "right" not in errors


@pytest.mark.parametrize(
    "url",
    [
        "mysql://eve:hidden@127.0.0.1/x",
        "postgresql://eve:hid#den@127.0.0.1/x",
        "postgresql://eve:hid/den@127.0.0.1/x",
        "postgresql://eve:hid?den@127.0.0.1/x",
        "postgresql://[eve:hidden@127.0.0.1/x",
        "postgresql://eve:hidden",
        "postgresql://eve:hidden/x",
        "postgresql://one:5432,two:hidden/x",
        "hidden",
    ],
)
def test_an_address_that_is_none(url: str) -> None:
    """It is explained, and never shown: a part of it may be a password."""
    line = fail("migrate", "--database", url)
    assert line.startswith("portside: database must be postgresql://USER@HOST/NAME")
    assert "hid" not in line


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://eve:hidden@127.0.0.1/x", "postgresql://127.0.0.1/x"),
        ("postgresql://eve:hid@den@127.0.0.1/x", "postgresql://127.0.0.1/x"),
        ("postgresql://eve:hid%40den@one:1,two:2/x", "postgresql://one:1,two:2/x"),
        ("postgresql://eve@[::1]:5432/x?password=hidden", "postgresql://[::1]:5432/x"),
        ("postgres:///x?host=/run/hid&password=hidden", "postgres:///x"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """Neither the password is shown nor a part of it, wherever it is."""
    assert make_settings({"database": url}).shown_database == shown


def test_identities(url: str, tmp_path: Path) -> None:
    """Users are managed from wherever the database can be reached, without the blobs."""
    where = ("--database", url, "--data", str(tmp_path / "data"))
    assert "does not contain a registry" in fail("user", "list", *where)
    password = tmp_path / "password"
    password.write_text("correct horse battery staple\n")
    options = ("--password-file", str(password), "--password-cost", "4")
    code, printed, errors = run_inside("user", "add", "alice", "--create", *options, *where)
    assert (code, printed) == (0, "User alice added.\n"), errors
    _, printed, _ = run_inside("user", "list", *where)
    assert "alice" in printed
    assert not (tmp_path / "data").exists()


def test_no_connection_stays(url: str) -> None:
    """What used the stores, such as the first process of a server, gives its connections back."""
    count = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
    """

    async def use() -> None:
        async with connected_stores(make_settings({"database": url})) as stores:
            await stores.engine.prepare()
        connection = await asyncpg.connect(url)
        try:
            async with asyncio.timeout(PATIENCE):
                while await connection.fetchval(count):
                    pass
        finally:
            await connection.close()
        stores.close()

    asyncio.run(use())


def test_check_and_collect(url: str, data: Path) -> None:
    """What holds for one machine holds for the directory that nodes share."""
    where = ("--database", url, "--data", str(data))
    with running_registry(data, "--database", url) as registry:
        pushed = httpx.post(
            f"{registry.url}/v2/app/blobs/uploads/",
            params={"digest": EMPTY},
            content=b"",
            headers={"content-type": "application/octet-stream"},
            **ONCE,
        )
        assert pushed.status_code == 201
        code, printed, errors = run_inside("check", *where)
        assert (code, errors) == (0, "")
        assert printed == "No problem in 0 manifests, 1 blob (0 bytes), 0 upload sessions.\n"
    execute(url, "DELETE FROM repository_blobs; DELETE FROM blobs")
    code, printed, _ = run_inside("check", *where)
    assert code == 0
    assert f"orphaned blob: {EMPTY} is stored" in printed
    assert run_inside("collect", *where)[0] == 0
    assert run_inside("check", *where)[0] == 0
