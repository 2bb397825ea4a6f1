"""`portside check --repair --from` fetches what is damaged or missing, and believes no source."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from support.balancer import take_port
from support.checks import find_problems, read_check
from support.content import digest_of, image, index
from support.damage import DAMAGE, Bytes
from support.homes import KINDS, ON_S3, Home
from support.layouts import Layout
from support.server import RunningRegistry, run_portside, running_registry
from support.wire import connect, push, push_blob

APP = image("app", layer_size=3000)
LISTING = index(APP, image("other"))
LAYER = APP.blobs[1]
FAST = {"PORTSIDE_PASSWORD_COST": "4", "PORTSIDE_MIN_PASSWORD_LENGTH": "1"}


@contextmanager
def serving(home: Home, *options: str) -> Iterator[RunningRegistry]:
    """Serve from a home for the length of a block, with two repositories that have the image."""
    with running_registry(
        home.data, *home.options, "--workers", "1", *options, env={**home.env, **FAST}
    ) as registry:
        yield registry


def fill(registry: RunningRegistry, prefix: str = "", **options: Any) -> None:
    """Push an index to two repositories."""
    with connect(registry.url, **options) as client:
        push(client, f"{prefix}team/app", LISTING, "v1")
        push(client, f"{prefix}team/other", LISTING)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Serve another registry with the same images."""
    with serving(Home(tmp_path_factory.mktemp("other") / "data")) as registry:
        fill(registry)
        yield registry


@pytest.fixture
def home(data: Path) -> Home:
    """Make a registry on the disk with the images."""
    made = Home(data)
    with serving(made) as registry:
        fill(registry)
    return made


def repair(home: Home, *options: str) -> tuple[int, list[str]]:
    """Repair a registry; returns the exit code and the lines."""
    code, printed, errors = home.run("check", "--repair", *options)
    assert errors == ""
    return code, printed.splitlines()


@pytest.mark.parametrize("kind", KINDS["every_home"])
def test_from_a_registry(
    kind: str,
    other: RunningRegistry,
    make_home: Callable[[str], Home],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Damage of every kind is replaced by what another registry has, while this one serves."""
    home = make_home(kind)
    for name, value in home.env.items():
        monkeypatch.setenv(name, value)
    with serving(home, "--redirect", "never") as registry:
        fill(registry)
        for damage, blob in zip(DAMAGE.values(), APP.blobs, strict=True):
            damage(Bytes(home, blob))
        code, lines = repair(home, "--from", other.url)
        assert code == 0
        assert lines[-1].endswith("3 repaired, 0 to be pushed again, 0 not repaired.")
        for line in lines[:-1]:
            assert f"; needed by team/app:v1 and team/other@{LISTING.digest}; fetched from" in line
            assert line.endswith(f"fetched from {other.url}")
        with connect(registry.url) as client:
            for blob in APP.blobs:
                answer = client.get(f"/v2/team/other/blobs/{digest_of(blob)}")
                assert answer.content == blob
    assert find_problems(home) == []


def test_lost_rows(home: Home, other: RunningRegistry) -> None:
    """Blobs of which nothing is left are fetched and linked where manifests need them."""
    with closing(sqlite3.connect(home.data / "portside.db")) as connection:
        connection.executescript("DELETE FROM repository_blobs; DELETE FROM blobs;")
    for blob in (*APP.blobs, *image("other").blobs):
        Bytes(home, blob).lose()
    code, lines = repair(home, "--from", other.url)
    assert code == 0, lines
    assert find_problems(home) == []
    with serving(home) as registry, connect(registry.url) as client:
        for repository in ("team/app", "team/other"):
            answer = client.get(f"/v2/{repository}/blobs/{digest_of(LAYER)}")
            assert answer.content == LAYER


def test_a_damaged_manifest(home: Home, other: RunningRegistry) -> None:
    """The payload of a manifest is fetched, and is what it was."""
    with closing(sqlite3.connect(home.data / "portside.db")) as connection:
        connection.execute(
            "UPDATE manifests SET payload = CAST('{}' AS BLOB), size = 2 WHERE digest = ?",
            (APP.digest,),
        )
        connection.commit()
    code, lines = repair(home, "--from", other.url)
    assert code == 0, lines
    # The repositories are recorded to take more than they do by now.
    found = [line for line in lines[:-1] if line.startswith("manifest ")]
    assert len(found) == 2
    assert all(line.endswith(f"fetched from {other.url}") for line in found)
    assert find_problems(home) == []
    with serving(home) as registry, connect(registry.url) as client:
        assert client.get(f"/v2/team/app/manifests/{APP.digest}").content == APP.manifest


def test_a_manifest_is_not_believed(home: Home, tmp_path: Path) -> None:
    """Other bytes do not replace those of a damaged manifest."""
    layout = Layout(tmp_path / "layout")
    encoded = APP.digest.removeprefix("sha256:")
    (layout.root / "blobs" / "sha256" / encoded).write_bytes(LISTING.manifest)
    with closing(sqlite3.connect(home.data / "portside.db")) as connection, connection:
        sql = "UPDATE manifests SET payload = CAST('{}' AS BLOB) WHERE digest = ?"
        connection.execute(sql, (APP.digest,))
    code, lines = repair(home, "--from", str(layout.root))
    assert code == 1
    assert any(f"{layout.root} has other bytes; push it again" in line for line in lines)
    with closing(sqlite3.connect(home.data / "portside.db")) as connection:
        query = "SELECT DISTINCT payload FROM manifests WHERE digest = ?"
        assert connection.execute(query, (APP.digest,)).fetchall() == [(b"{}",)]


def test_with_credentials(home: Home, tmp_path: Path) -> None:
    """A registry that asks for credentials gets them, and is not read without them."""
    password, wrong = tmp_path / "password", tmp_path / "wrong"
    password.write_text("right\n")
    wrong.write_text("wrong\n")
    closed = Home(tmp_path / "closed")
    added = ("user", "add", "alice", "--create", "--password-file", str(password))
    assert run_portside(*added, "--data", str(closed.data), env=FAST)[0] == 0
    with serving(closed) as registry:
        fill(registry, auth=("alice", "right"))
        Bytes(home, LAYER).lose()
        place = ("--from", registry.url)
        for login in ((), ("--from-user", "alice", "--from-password-file", str(wrong))):
            code, lines = repair(home, *place, *login)
            assert code == 1
            assert "cannot be read: access to team/app is denied; push it again" in lines[0]
        login = ("--from-user", "alice", "--from-password-file", str(password))
        assert repair(home, *place, *login)[0] == 0
    assert find_problems(home) == []


def test_below_a_path(home: Home, tmp_path: Path) -> None:
    """The repositories of a mirror are below the path of its URL."""
    with serving(Home(tmp_path / "mirror")) as registry:
        fill(registry, "mirror/of/")
        Bytes(home, LAYER).lose()
        assert "does not have it" in repair(home, "--from", registry.url)[1][0]
        assert repair(home, "--from", f"{registry.url}/mirror/of/")[0] == 0
    assert find_problems(home) == []


def test_redirected(home: Home, make_home: Callable[[str], Home]) -> None:
    """Blobs are read from where the other registry says that they are."""
    there = make_home(ON_S3)
    with serving(there, "--redirect", "always") as registry:
        fill(registry)
        with connect(registry.url) as client:
            answer = client.get(f"/v2/team/app/blobs/{digest_of(LAYER)}")
            assert answer.status_code == 307
        Bytes(home, LAYER).flip()
        assert repair(home, "--from", registry.url)[0] == 0
    assert find_problems(home) == []


def test_from_a_layout(data: Path, tmp_path: Path) -> None:
    """A layout has what was pushed from it."""
    layout = Layout(tmp_path / "layout")
    layout.add_image("app")
    home = Home(data)
    with serving(home) as registry, connect(registry.url) as client:
        for blob in layout.files().values():
            push_blob(client, "app", blob)
    Bytes(home, max(layout.files().values(), key=len)).flip()
    code, lines = repair(home, "--from", str(layout.root))
    assert code == 0
    assert lines[0].endswith(f"fetched from {layout.root}")
    assert find_problems(home) == []


def test_from_a_backup(home: Home, other: RunningRegistry) -> None:
    """The data directory of another registry is a source, or its blobs where they are apart."""
    for place in (str(other.data), f"file://{other.data}"):
        Bytes(home, LAYER).flip()
        code, lines = repair(home, "--from", place)
        assert code == 0, lines
        assert Bytes(home, LAYER).read() == LAYER


def test_from_a_bucket(home: Home, make_home: Callable[[str], Home]) -> None:
    """The storage of another registry is a source."""
    there = make_home(ON_S3)
    with serving(there) as registry:
        fill(registry)
    Bytes(home, LAYER).lose()
    settings = ("--data", str(home.data))
    code, printed, errors = run_portside(
        "check", "--repair", "--from", there.storage, *settings, env=there.env
    )
    assert (code, errors) == (0, ""), printed
    assert find_problems(home) == []


def test_no_source_is_believed(home: Home, tmp_path: Path) -> None:
    """Bytes with another digest are not placed, and the next source is asked."""
    first, second = Layout(tmp_path / "first"), Layout(tmp_path / "second")
    encoded = digest_of(LAYER).removeprefix("sha256:")
    (first.root / "blobs" / "sha256" / encoded).write_bytes(LAYER[:-1] + b"!")
    (second.root / "blobs" / "sha256" / encoded).write_bytes(LAYER)
    Bytes(home, LAYER).flip()
    code, lines = repair(home, "--from", str(first.root))
    assert code == 1
    assert f"{first.root} has other bytes, with the digest sha256:" in lines[0]
    assert lines[0].endswith("its bytes were dropped; push it again")
    assert Bytes(home, LAYER).read() is None
    assert list((home.data / "uploads").iterdir()) == []
    code, lines = repair(home, "--from", str(first.root), "--from", str(second.root))
    assert code == 0
    assert lines[0].endswith(f"fetched from {second.root}")
    assert find_problems(home) == []


def test_killed(home: Home, tmp_path: Path) -> None:
    """A repair that was killed while it fetched is done by the next one."""
    layout = Layout(tmp_path / "layout")
    fetched = layout.root / "blobs" / "sha256" / digest_of(LAYER).removeprefix("sha256:")
    Bytes(home, LAYER).flip()
    damaged = Bytes(home, LAYER).read()
    os.mkfifo(fetched)
    command = [sys.executable, "-m", "portside", "check", "--repair", "--from", str(layout.root)]
    # Opening the pipe waits until the repair has opened the other end.
    with (
        subprocess.Popen([*command, "--data", str(home.data)]) as process,
        fetched.open("wb", buffering=0) as pipe,
    ):
        pipe.write(LAYER[:1000])
        process.kill()
    assert Bytes(home, LAYER).read() == damaged
    fetched.unlink()
    fetched.write_bytes(LAYER)
    code, lines = repair(home, "--from", str(layout.root))
    assert code == 0, lines
    assert Bytes(home, LAYER).read() == LAYER
    assert read_check(home).problems == []


def test_sources_that_do_not_answer(home: Home, tmp_path: Path) -> None:
    """A source that is not there is named, and nothing is changed."""
    Bytes(home, LAYER).flip()
    damaged = Bytes(home, LAYER).read()
    closed = f"http://127.0.0.1:{take_port()}"
    for place, expected in (
        (closed, f"portside: cannot connect to {closed[7:]}: Connection refused\n"),
        ("http://nosuch.invalid", "portside: cannot connect to nosuch.invalid:80: "),
        (str(tmp_path), "is neither an OCI layout nor the data directory of a registry"),
        ("http://alice:secret@127.0.0.1", "has no credentials"),
        ("ftp://127.0.0.1", "names no object store"),
    ):
        code, printed, errors = home.run("check", "--repair", "--from", place)
        assert code != 0
        assert printed == ""
        assert expected in errors
        assert len(errors.splitlines()) == 1
        assert "secret" not in errors
    assert Bytes(home, LAYER).read() == damaged


def test_a_source_that_is_no_registry(home: Home, tmp_path: Path) -> None:
    """Another server is named as such, and nothing is changed."""
    Bytes(home, LAYER).flip()
    damaged = Bytes(home, LAYER).read()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        place = f"http://127.0.0.1:{server.server_port}"
        code, printed, errors = home.run("check", "--repair", "--from", place)
        server.shutdown()
    assert (code, printed) == (1, "")
    assert f"{place} is not a registry: /v2/ answers 404" in errors
    assert Bytes(home, LAYER).read() == damaged


def test_passwords_stay_secret(home: Home, tmp_path: Path) -> None:
    """A password is not sent without TLS to another machine."""
    (tmp_path / "password").write_text("right\n")
    login = ("--from-user", "alice", "--from-password-file", str(tmp_path / "password"))
    _, _, errors = home.run("check", "--repair", "--from", "http://registry.example", *login)
    assert "has no TLS, and would give the password away" in errors


def test_options_that_go_together(home: Home) -> None:
    """Sources are for repairs, and a name needs a password."""
    assert "--from needs --repair" in home.run("check", "--from", ".")[2]
    given = ("--repair", "--from", ".", "--from-user", "alice")
    assert "--from-user needs --from-password-file" in home.run("check", *given)[2]
