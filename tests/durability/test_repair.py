"""`portside check --repair` drops what is damaged, so that a push heals it, and nothing else."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copytree
from typing import NamedTuple

import httpx
import pytest

from portside.bootstrap import connected_stores
from portside.config import make_settings
from portside.operations.findings import Finding, Kind
from portside.operations.repair import Outcome, Repairer
from support.checks import assert_home_sound, find_problems
from support.content import digest_of, image, index
from support.damage import DAMAGE, Bytes
from support.homes import KINDS, Home
from support.server import running_registry
from support.wire import connect, open_upload, push, push_blob

APP = image("app", layer_size=3000)
LAYER = APP.blobs[1]


class Served(NamedTuple):
    """A registry that runs, the place where it is stored, and a client."""

    home: Home
    client: httpx.Client


@contextmanager
def serving(home: Home) -> Iterator[Served]:
    """Serve from a home for the length of a block."""
    options = (*home.options, "--redirect", "never", "--workers", "1")
    with (
        running_registry(home.data, *options, env=home.env) as registry,
        connect(registry.url) as client,
    ):
        yield Served(home, client)


def repair(home: Home, *options: str) -> tuple[int, list[str]]:
    """Repair a registry; returns the exit code and the lines."""
    code, printed, errors = home.run("check", "--repair", *options)
    assert errors == ""
    return code, printed.splitlines()


def status(client: httpx.Client, repository: str, blob: bytes = LAYER) -> int:
    """Return what a client is told that asks whether a blob is there."""
    return client.head(f"/v2/{repository}/blobs/{digest_of(blob)}").status_code


@pytest.fixture(params=KINDS["every_home"])
def served(
    request: pytest.FixtureRequest,
    make_home: Callable[[str], Home],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Served]:
    """Serve an image from two repositories; a third one has a layer that nothing there needs."""
    home = make_home(request.param)
    for name, value in home.env.items():
        monkeypatch.setenv(name, value)
    with serving(home) as running:
        push(running.client, "team/app", index(APP), "v1")
        push(running.client, "team/other", APP)
        push_blob(running.client, "team/unused", LAYER)
        yield running


@pytest.mark.parametrize("kind", DAMAGE)
def test_one_push_heals_every_image(served: Served, kind: str) -> None:
    """What is damaged is gone for clients; pushed once, it is whole in every repository."""
    home, client = served
    stored = Bytes(home, LAYER)
    DAMAGE[kind](stored)
    code, lines = repair(home)
    assert code == 1
    images = f"needed by team/app:v1 and team/other@{APP.digest}"
    assert lines[0].startswith(f"blob {digest_of(LAYER)} ")
    assert f"; {images}; " in lines[0]
    assert lines[0].endswith("push it again")
    assert ("its bytes were dropped" in lines[0]) == (kind != "a lost blob")
    assert lines[-1].endswith("0 repaired, 1 to be pushed again, 0 not repaired.")
    assert stored.read() is None
    for repository in ("team/app", "team/other", "team/unused"):
        assert status(client, repository) == 404
        manifest = client.get(f"/v2/{repository}/manifests/{APP.digest}")
        assert manifest.status_code == (404 if repository == "team/unused" else 200)
    push_blob(client, "team/app", LAYER)
    for repository in ("team/app", "team/other"):
        assert client.get(f"/v2/{repository}/blobs/{digest_of(LAYER)}").content == LAYER
    assert status(client, "team/unused") == 404
    assert find_problems(home) == []
    assert repair(home)[0] == 0


def test_what_no_image_needs(served: Served) -> None:
    """A damaged blob that no manifest needs is dropped with its links; nothing is left to do."""
    home, client = served
    push_blob(client, "team/app", b"for nothing")
    push_blob(client, "team/other", b"for nothing")
    Bytes(home, b"for nothing").flip()
    code, lines = repair(home)
    assert code == 0
    assert lines[0].endswith("; no image needs it; dropped")
    assert status(client, "team/app", b"for nothing") == 404
    assert find_problems(home) == []
    push_blob(client, "team/app", b"for nothing")
    assert status(client, "team/app", b"for nothing") == 200


def test_nothing_sound_is_dropped(served: Served) -> None:
    """A blob that was pushed again since it was found to be damaged stays."""
    home, client = served
    stored = Bytes(home, LAYER)
    stored.flip()
    found = [line for line in find_problems(home) if "is damaged" in line]
    assert len(found) == 1
    push_blob(client, "team/app", LAYER)

    async def run() -> Outcome:
        settings = {"data": str(home.data), "database": home.database, "storage": home.storage}
        async with connected_stores(make_settings(settings)) as stores:
            finding = Finding(Kind.BLOB, found[0], digest_of(LAYER))
            return (await Repairer(stores.metadata, stores.blobs).repair(finding)).outcome

    assert asyncio.run(run()) is Outcome.REPAIRED
    assert stored.read() == LAYER
    for repository in ("team/app", "team/other", "team/unused"):
        assert status(client, repository) == 200


def sql(home: Home, statement: str) -> None:
    """Change the database on the disk behind the registry's back."""
    with closing(sqlite3.connect(home.data / "portside.db")) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(statement)
        connection.commit()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a registry on the disk with an image and an upload session; tests take copies of it."""
    data = tmp_path_factory.mktemp("made") / "data"
    with serving(Home(data)) as (_, client):
        push(client, "team/app", APP, "v1")
        client.patch(open_upload(client, "team/app"), content=b"begun")
    return data


@pytest.fixture
def home(made: Path, data: Path) -> Home:
    """Copy the registry."""
    return Home(copytree(made, data))


RECORDS = {
    "a wrong size": "UPDATE blobs SET size = 7",
    "lost links": "DELETE FROM repository_blobs",
    "lost blobs": "DELETE FROM repository_blobs; DELETE FROM blobs",
    "hidden links": "UPDATE repository_blobs SET deleted = 5",
    "wrong sizes": "UPDATE blobs SET size = 7; UPDATE repository_blobs SET size = 8",
    "wrong numbers": "UPDATE repositories SET manifest_count = 7, tag_count = 9",
    "wrong sums": "UPDATE repositories SET manifest_bytes = 7",
    "wrong links": "UPDATE repository_blobs SET size = 8",
}


@pytest.mark.parametrize("kind", RECORDS)
def test_records(home: Home, kind: str) -> None:
    """What the database says wrongly of sound bytes is set right."""
    for statement in RECORDS[kind].split(";"):
        sql(home, statement)
    assert find_problems(home) != []
    code, lines = repair(home)
    assert code == 0, lines
    assert find_problems(home) == []
    with serving(home) as (_, client):
        for blob in APP.blobs:
            assert client.get(f"/v2/team/app/blobs/{digest_of(blob)}").content == blob


def test_a_blob_without_links(home: Home) -> None:
    """A blob that nobody can read and no manifest needs is forgotten; its bytes are orphaned."""
    with serving(home) as (_, client):
        push_blob(client, "team/app", b"for nothing")
    digest = digest_of(b"for nothing")
    sql(
        home,
        """
        DELETE FROM repository_blobs
        WHERE digest NOT IN (SELECT digest FROM manifest_references)
        """,
    )
    code, lines = repair(home)
    assert (code, lines[0]) == (0, f"blob {digest} has no link from any repository; dropped")
    assert [line.partition(":")[0] for line in find_problems(home)] == ["orphaned blob"]


def test_a_link_that_is_never_collected(home: Home) -> None:
    """A link that no manifest needs gets a grace period."""
    with serving(home) as (_, client):
        push_blob(client, "team/app", b"for nothing")
    sql(home, "UPDATE repository_blobs SET unreferenced = NULL")
    code, lines = repair(home)
    assert code == 0
    assert lines[0].endswith(
        "of repository team/app would never be collected; its grace period begins now"
    )
    assert find_problems(home) == []


def test_an_upload_that_lost_bytes(home: Home) -> None:
    """Its session ends; one that has all of its bytes goes on."""
    (staged,) = (home.data / "uploads").iterdir()
    repair(home)
    assert staged.read_bytes() == b"begun"
    staged.write_bytes(b"be")
    code, lines = repair(home)
    assert code == 0
    assert lines[0].endswith(
        "holds 2 bytes, but should hold 5; ended; its client has to start again"
    )
    assert find_problems(home) == []


def test_what_cannot_be_read_stays(home: Home) -> None:
    """A file that cannot be opened may be sound, and is left where it is."""
    stored = home.data / "blobs" / "sha256" / digest_of(LAYER)[7:9] / digest_of(LAYER)[7:]
    stored.unlink()
    stored.symlink_to(stored)
    code, lines = repair(home)
    assert code == 1
    assert lines[0].endswith("not dropped, as it may be sound")
    assert stored.is_symlink()


def test_manifests_stay(home: Home) -> None:
    """A damaged manifest is named, and left until it is pushed again."""
    sql(home, "UPDATE manifests SET payload = CAST('{}' AS BLOB)")
    code, lines = repair(home)
    assert code == 1
    assert any("needed by team/app:v1; push it again" in line for line in lines)


def test_a_disk_that_is_not_mounted(home: Home) -> None:
    """Without the directory of the blobs, nothing is changed."""
    (home.data / "blobs").rename(home.data / "moved")
    code, printed, errors = home.run("check", "--repair")
    assert (code, printed) == (1, "")
    assert "blobs/sha256 is missing, and nothing was repaired" in errors
    (home.data / "moved").rename(home.data / "blobs")
    assert find_problems(home) == []


def test_a_registry_that_is_read_only(home: Home) -> None:
    """A registry that may not change is not repaired."""
    home.run("read-only", "on")
    Bytes(home, LAYER).flip()
    code, printed, errors = home.run("check", "--repair")
    assert (code, printed) == (1, "")
    assert "read-only" in errors
    assert Bytes(home, LAYER).read() is not None


def test_as_json(home: Home) -> None:
    """The document says of each problem what was done, and sums it up."""
    Bytes(home, LAYER).flip()
    code, printed, errors = home.run("check", "--repair", "--json")
    document = json.loads(printed)
    assert (code, errors) == (1, "")
    assert document["findings"][0]["repair"] == {
        "outcome": "waiting",
        "note": "its bytes were dropped; push it again",
    }
    assert [document[name] for name in ("repaired", "waiting", "left")] == [0, 1, 0]


@pytest.mark.parametrize("lines", [1, 13])
def test_killed(data: Path, lines: int) -> None:
    """A repair that was killed leaves a store that is repaired by the next one."""
    home = Home(data)
    images = [image(number, layers=1) for number in range(30)]
    with serving(home) as (_, client):
        for number, content in enumerate(images):
            push(client, f"team/{number % 3}", content, f"v{number}")
            Bytes(home, content.blobs[1]).flip()
        command = [sys.executable, "-m", "portside", "check", "--repair", "--data", str(data)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                assert process.stdout.readline().endswith("push it again\n")
            process.kill()
        code, found = repair(home)
        assert code == 1
        assert found[-1].startswith("30 problems in ")
        assert "0 repaired, 30 to be pushed again" in found[-1]
        for number, content in enumerate(images):
            push_blob(client, f"team/{number % 3}", content.blobs[1])
    # What was removed is an upload without a session until a thread has unlinked it.
    assert_home_sound(home, crashed=True)
