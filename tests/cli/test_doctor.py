"""`portside doctor`: what it finds, what it says to do, and its exit code."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import pytest

from portside import __version__
from portside.bootstrap import connected_stores, now
from portside.bootstrap.diagnosing import diagnose
from portside.cli.locks import lock_data, serving_version
from portside.config import make_settings
from portside.operations.diagnose import Level
from servers import ServerMissing
from support.certificates import write_certificate
from support.commands import FAST, Commands, run_inside
from support.missing import server_needed
from support.postgres import Server
from support.s3 import BUCKET, S3
from support.server import RunningRegistry, running_registry
from support.waiting import until

PASSWORD = "correct horse battery staple"  # noqa: S105  # of a user who lives for a second


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve a registry with a user; no test changes it."""
    data = tmp_path_factory.mktemp("doctor") / "data"
    Commands(data).add_user("alice", PASSWORD)
    with running_registry(data, "--workers", "1", env=FAST) as running:
        yield running


@pytest.fixture
def copied(registry: RunningRegistry, data: Path) -> Path:
    """Return a copy of its directory, which no one serves."""
    shutil.copytree(registry.data, data)
    return data


BEHIND = ("--public-url", "https://127.0.0.1:1")
"""The settings of a registry behind a proxy that it does not trust."""


def examine(*options: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Run the command; returns its exit code and the findings by subject."""
    code, printed, errors = run_inside("doctor", "--json", *options)
    assert errors == ""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(printed):
        assert one.keys() == {"subject", "level", "text", "remedy"}
        found.setdefault(one["subject"], []).append(one)
    return code, found


def test_nothing_to_do(registry: RunningRegistry) -> None:
    """A registry that is as it should be gets one line for each subject, and 0."""
    options = ("--data", str(registry.data), "--listen", registry.address)
    code, found = examine(*options)
    assert code == 0
    assert {one["level"] for ones in found.values() for one in ones} == {"ok"}
    assert set(found) == {
        *("version", "server", "database", "blobs", "access", "space", "permissions")
    }
    code, printed, _ = run_inside("doctor", *options)
    assert code == 0
    assert f"answers at {registry.address}, and is ready" in printed


def test_no_registry(tmp_path: Path) -> None:
    """A wrong directory is named, and nothing is created there."""
    code, found = examine("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:1")
    assert code == 1
    (database,) = found["database"]
    assert database["level"] == "problem"
    assert database["text"] == f"{tmp_path / 'data'} does not contain a registry"
    assert found["server"][0]["level"] == "advice"
    assert not list(tmp_path.iterdir())


def loosen(data: Path) -> None:
    """Let everybody read the database."""
    (data / "portside.db").chmod(0o644)


def age(data: Path) -> None:
    """Make the schema that of an older version."""
    with closing(sqlite3.connect(data / "portside.db")) as connection:
        connection.execute("PRAGMA user_version = 1")
        connection.commit()


def lose(data: Path) -> None:
    """Remove the directories of blobs."""
    shutil.rmtree(data / "blobs")


def freeze(data: Path) -> None:
    """Make the registry read-only."""
    run_inside("read-only", "on", "--data", str(data))


def advance(data: Path) -> None:
    """Let something have happened two days after the present time."""
    with closing(sqlite3.connect(data / "portside.db")) as connection:
        connection.execute("UPDATE events SET at = at + 172800000000")
        connection.commit()


def give_away(data: Path) -> None:
    """Let a directory of blobs belong to somebody else, as after a command that root ran."""
    with server_needed():
        if os.geteuid() != 0:
            raise ServerMissing("only root can give files to another user")
    os.chown(data / "blobs" / "sha512", 1, -1)


def move_into_volume(data: Path) -> None:
    """Let everything in a directory of root's belong to another user, as in a pod."""
    give_away(data)
    for path in data.rglob("*"):
        os.chown(path, 1, -1)


def nothing(_: Path) -> None:
    """Change nothing."""


@pytest.mark.parametrize(
    ("change", "options", "level", "subject", "said"),
    [
        (loosen, (), "problem", "permissions", "chmod o= {data}/portside.db"),
        (age, (), "problem", "database", "run `portside serve` to upgrade it"),
        (lose, (), "problem", "blobs", "No such file or directory; `portside serve` creates them"),
        (freeze, (), "advice", "state", "`portside read-only off` allows changes"),
        (advance, (), "problem", "clock", "seconds after the present time"),
        (give_away, (), "problem", "permissions", "; run `chown -R "),
        (move_into_volume, (), "advice", "permissions", "this is run by root"),
        (nothing, ("--reserve-bytes", str(1 << 50)), "problem", "space", "pushes are refused"),
        (nothing, ("--listen", "0.0.0.0:1"), "problem", "transport", "--tls-certificate"),
        (nothing, ("--open", "--listen", "[::]:1"), "advice", "access", "remove --open"),
        (nothing, ("--anonymous", "*:push"), "advice", "access", "everyone push in *"),
        (nothing, ("--access", "absent.toml"), "problem", "access", "absent.toml"),
        (nothing, ("--rules", "absent.toml"), "problem", "access", "absent.toml"),
        (nothing, ("--public-url", "http://127.0.0.1:1"), "advice", "public URL", "reached"),
        (nothing, BEHIND, "problem", "proxy headers", "name its address in --trusted-proxies"),
    ],
)
def test_findings(
    copied: Path,
    change: Callable[[Path], None],
    options: tuple[str, ...],
    level: str,
    subject: str,
    said: str,
) -> None:
    """Each finding says what to do; only a problem makes the exit code 1."""
    change(copied)
    listen = () if "--listen" in options else ("--listen", "127.0.0.1:1")
    code, found = examine("--data", str(copied), *listen, *options)
    (finding,) = [one for one in found[subject] if one["level"] != "ok"]
    assert finding["level"] == level
    assert said.format(data=copied) in f"{finding['text']}; {finding['remedy']}"
    assert code == (level == "problem")


def test_open_to_others(tmp_path: Path) -> None:
    """An open registry that other machines reach is a problem, even behind a public URL."""
    data = str(tmp_path / "data")
    assert run_inside("migrate", "--create", "--data", data)[0] == 0
    for options in (("--listen", "0.0.0.0:1"), ("--public-url", "https://127.0.0.1:1")):
        code, found = examine("--data", data, *options)
        assert code == 1
        assert "add a user" in found["access"][0]["remedy"]
    _, found = examine("--data", data, "--listen", "127.0.0.1:1")
    assert found["access"][0]["level"] == "ok"


def test_open_on_a_socket(tmp_path: Path) -> None:
    """A socket is there for a proxy, which passes on everyone: without users, that is told."""
    data = str(tmp_path / "data")
    assert run_inside("migrate", "--create", "--data", data)[0] == 0
    _, found = examine("--data", data, "--listen", f"unix:{tmp_path}/socket")
    assert found["access"][0]["level"] == "advice"


def test_other_version(registry: RunningRegistry, copied: Path) -> None:
    """The version of a registry that runs is that of its lock, for as long as it is held."""
    where = ("--data", str(copied), "--listen", "127.0.0.1:1")
    assert serving_version(registry.data) == __version__
    with closing(os.fdopen(lock_data(copied), "r+b")) as held:
        assert len(examine(*where)[1]["version"]) == 1
        held.truncate(0)
        held.write(b"0.0.9")
        held.flush()
        code, found = examine(*where)
        assert code == 1
        (other,) = [one for one in found["version"] if one["level"] != "ok"]
        assert (
            other["text"] == f"this is Portside {__version__}, and the registry is served by 0.0.9"
        )
    assert len(examine(*where)[1]["version"]) == 1


async def test_other_nodes(data: Path, postgresql: Server) -> None:
    """PostgreSQL knows the versions of the nodes that are connected."""
    settings = make_settings({"data": str(data), "database": postgresql.make_database()})
    async with connected_stores(settings) as stores:
        await stores.engine.prepare()

    async def versions() -> list[str]:
        found = diagnose(settings, is_exposed=False)
        return [one.text async for one in found if one.subject == "version"]

    assert await versions() == []
    name = {"application_name": "portside 0.0.9"}
    node = await asyncpg.connect(settings.database, server_settings=name)
    assert [text.rpartition(" ")[2] for text in await versions()] == ["0.0.9"]
    await node.close()


def test_metrics(registry: RunningRegistry) -> None:
    """Metrics that a running registry is to serve, and does not, are missed."""
    where = ("--data", str(registry.data), "--listen", registry.address)
    code, found = examine(*where, "--metrics-listen", "127.0.0.1:1")
    assert (code, found["metrics"][0]["level"]) == (1, "problem")
    # It listens there, and answers 404.
    _, found = examine(*where, "--metrics-listen", registry.address)
    assert found["metrics"][0]["text"] == f"{registry.address}/metrics answers 404"


def test_webhooks(copied: Path, tmp_path: Path) -> None:
    """Receivers are connected to, and secrets are read; both are told, and neither is sent to."""
    secret = tmp_path / "secret"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/s3cret"
        for name, place, private in (("a", url, True), ("b", url, False), ("c", url, True)):
            with (tmp_path / "rules.toml").open("a") as rules:
                rules.write(f"[[webhook]]\nname = '{name}'\nurl = '{place}'\n")
                rules.write(f"allow-private = {str(private).lower()}\n")
                rules.write(f"secret-file = '{secret}{'' if name == 'a' else name}'\n")
        secret.write_text(f"whsec_{'A' * 32}")
        (tmp_path / "secretb").write_text("s3cret")
        for path in tmp_path.glob("secret*"):
            path.chmod(0o644)
        code, found = examine("--data", str(copied), "--rules", str(tmp_path / "rules.toml"))
        listener.setblocking(False)
        with listener.accept()[0] as connected:
            assert connected.recv(1) == b""
    assert code == 1
    shape = "a secret must begin with whsec_, and have 24 to 64 bytes in base64 behind it"
    refused = "127.0.0.1 has the address 127.0.0.1, which is refused; allow-private is not set"
    assert [(one["level"], one["text"]) for one in found["webhooks"]] == [
        ("ok", "the receiver of a accepts connections"),
        ("problem", f"the secret of b: {secret}b: {shape}"),
        ("problem", f"the receiver of b is not reached from here: {refused}"),
        ("problem", f"the secret of c: cannot read {secret}c: No such file or directory"),
        ("ok", "the receiver of c accepts connections"),
    ]
    assert [one["text"] for one in found["permissions"]] == [
        f"other users of this machine may use {path} (mode 0644)" for path in (secret, f"{secret}b")
    ]
    assert "s3cret" not in json.dumps(found)


def test_certificate(copied: Path, tmp_path: Path) -> None:
    """The end of the certificate is told, and a host that it is not valid for."""
    certificate, key = write_certificate(tmp_path, names=["r.example", "*.r.example"])
    tls = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--data", str(copied))
    _, found = examine(*tls, "--listen", "0.0.0.0:1")
    assert "is valid for 1 days" in found["certificate"][0]["text"]
    assert "transport" not in found
    for host, is_named in (("r.example", True), ("a.r.example", True), ("b.a.r.example", False)):
        _, found = examine(*tls, "--public-url", f"https://{host}:1")
        named = [one for one in found["certificate"] if "not for" in one["text"]]
        assert bool(named) is not is_named
    key.write_text("broken")
    assert "is not a private key" in examine(*tls)[1]["certificate"][0]["text"]


class Other(BaseHTTPRequestHandler):
    """A server that is no registry."""

    fields: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        """Answer whatever is asked."""
        self.send_response(401)
        for name, value in self.fields.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class Elsewhere(Other):
    """A registry that sends its clients to another server."""

    fields: ClassVar[dict[str, str]] = {
        "Docker-Distribution-Api-Version": "registry/2.0",
        "WWW-Authenticate": 'Bearer realm="http://tokens.example/token",service="x"',
    }


@contextmanager
def answering(handler: type[Other], pair: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Serve for the length of a block, with TLS if there is a certificate; yields the address."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*pair)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_public_url(
    registry: RunningRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is followed as a client would."""
    data = ("--data", str(registry.data), "--listen", registry.address)

    def follow(url: str) -> str:
        (found,) = examine(*data, "--public-url", url)[1]["public URL"]
        return f"{found['level']}: {found['text']}"

    assert follow(registry.url) == "advice: passwords cross the network unencrypted"
    with answering(Other) as address:
        assert (
            follow(f"http://{address}")
            == f"problem: http://{address} does not lead to a registry, and answers 401"
        )
    away = "sends clients to http://tokens.example/token for a token"
    with answering(Elsewhere) as address:
        assert follow(f"http://{address}") == f"advice: http://{address} {away}"
    pair = write_certificate(tmp_path)
    with answering(Elsewhere, pair) as address:
        assert follow(f"https://{address}").startswith("advice: this machine does not trust the")
        monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
        # Passwords would go from TLS to plain HTTP.
        assert follow(f"https://{address}") == f"problem: https://{address} {away}"


def test_not_ready(copied: Path) -> None:
    """A registry that runs and cannot write is a problem, whatever the stores say from here."""
    with running_registry(copied, "--workers", "1", "--probe-interval", "1") as running:
        shutil.rmtree(copied / "blobs")
        shutil.rmtree(copied / "uploads")
        options = ("--data", str(copied), "--listen", running.address)
        until(lambda: examine(*options)[1]["server"][0]["level"] == "problem")


@pytest.mark.parametrize("store", ["the database", "the blob store"])
async def test_clock(
    store: str,
    data: Path,
    postgresql: Server,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that differs from that of PostgreSQL or of the object store is noticed."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    places: dict[str, Any] = {"data": str(data)}
    if store == "the database":
        places["database"] = postgresql.make_database()
    else:
        places["storage"] = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    settings = make_settings(places)

    async def clocks(ahead: int) -> list[tuple[Level, str]]:
        found = diagnose(settings, is_exposed=False, clock=lambda: now() + ahead * 1_000_000)
        return [(one.level, one.text) async for one in found if one.subject == "clock"]

    assert await clocks(0) == [(Level.OK, f"agrees with that of {store}")]
    ((level, text),) = await clocks(3600)
    assert level is Level.PROBLEM
    assert "seconds ahead of" in text


def test_stores(copied: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store or a database that cannot be reached is named with what to do."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    where = ("--data", str(copied), "--listen", "127.0.0.1:1")
    _, found = examine(*where, "--storage", "s3://no-such-bucket/x")
    assert "has no such bucket or container; create it" in found["blobs"][0]["text"]
    _, found = examine(*where, "--database", "postgresql://a@127.0.0.1:1/b")
    assert "start PostgreSQL there" in found["database"][0]["text"]
