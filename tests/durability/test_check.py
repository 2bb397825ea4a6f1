"""`portside check` finds damage of every kind, and `portside collect` removes leftovers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from support.content import Content, digest_of, image, index
from support.server import run_portside, running_registry
from support.wire import open_upload, push

LAYERS = image("checked")


@pytest.fixture
def store(data: Path) -> Path:
    """Make a store with an index, an image and an upload session."""
    parent = index(LAYERS)
    with (
        running_registry(data, "--workers", "1") as registry,
        httpx.Client(base_url=registry.url) as client,
    ):
        push(client, "library/app", parent, "v1")
        client.patch(open_upload(client, "library/app"), content=b"begun")
    return data


def blob(store: Path, content: Content = LAYERS) -> Path:
    """Give the file of a layer."""
    encoded = digest_of(content.blobs[1]).removeprefix("sha256:")
    return store / "blobs" / "sha256" / encoded[:2] / encoded


def upload(store: Path) -> Path:
    """Give the file of the upload."""
    (found,) = (store / "uploads").iterdir()
    return found


def sql(store: Path, statement: str) -> None:
    """Change the database behind the registry's back."""
    with sqlite3.connect(store / "portside.db") as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(statement)
    connection.close()


def flip(path: Path) -> None:
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (lambda store: flip(blob(store)), "is damaged"),
    "a short blob": (lambda store: blob(store).write_bytes(b"short"), "and should have"),
    "a lost blob": (lambda store: blob(store).unlink(), "is missing"),
    "a stray blob": (
        lambda store: blob(store).with_name(blob(store).name[:2] + "0" * 62).touch(),
        "stray blob",
    ),
    "a stray file": (lambda store: (store / "blobs" / "notes").touch(), "stray file"),
    "a misplaced blob": (
        lambda store: blob(store).rename(store / "blobs" / "sha256" / blob(store).name),
        "stray file",
    ),
    "a stray upload": (lambda store: (store / "uploads" / ("0" * 32)).touch(), "stray upload"),
    "a lost upload": (lambda store: upload(store).unlink(), "should hold 5"),
    "a changed manifest": (
        lambda store: sql(store, "UPDATE manifests SET payload = CAST('{}' AS BLOB)"),
        "is damaged",
    ),
    "a wrong size": (lambda store: sql(store, "UPDATE manifests SET size = 1"), "1 are noted"),
    "a lost link": (
        lambda store: sql(store, "DELETE FROM repository_blobs"),
        "no repository links it",
    ),
    "a lost child": (
        lambda store: sql(store, "DELETE FROM manifests WHERE media_type LIKE '%manifest%'"),
        f"missing manifest {LAYERS.digest}",
    ),
    "a lost reference": (
        lambda store: sql(store, "DELETE FROM manifest_references"),
        "refers to other content",
    ),
    "a dangling tag": (lambda store: sql(store, "UPDATE tags SET manifest = 99"), "of tags"),
    "a broken database": (
        lambda store: sql(store, "DELETE FROM repositories"),
        "does not exist",
    ),
}


def test_a_sound_store(store: Path) -> None:
    """Nothing is found where nothing is wrong, and the summary counts all."""
    code, printed, errors = run_portside("check", "--data", str(store))
    assert (code, errors) == (0, "")
    assert printed.startswith("No problem in 2 manifests, 3 blobs")
    assert "1 upload sessions" in printed


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage(store: Path, kind: str) -> None:
    """Damage is named in a line, and the exit code says that there is some."""
    damage, expected = DAMAGE[kind]
    damage(store)
    code, printed, errors = run_portside("check", "--data", str(store))
    assert (code, errors) == (1, "")
    assert expected in printed
    assert printed.splitlines()[-1].split()[1] == "problems"


def test_collect(store: Path) -> None:
    """Stray blobs go, and nothing else does."""
    stray = blob(store).with_name(blob(store).name[:2] + "0" * 62)
    stray.write_bytes(b"123456789")
    code, printed, errors = run_portside("collect", "--data", str(store))
    assert (code, printed, errors) == (0, "9 bytes freed.\n", "")
    assert not stray.exists()
    assert run_portside("check", "--data", str(store))[0] == 0


def test_a_lost_blob_is_healed_by_a_push(store: Path) -> None:
    """A client is told that a damaged blob is not there, pushes it again, and all is well."""
    blob(store).write_bytes(b"short")
    with (
        running_registry(store, "--workers", "1") as registry,
        httpx.Client(base_url=registry.url) as client,
    ):
        path = f"/v2/library/app/blobs/{digest_of(LAYERS.blobs[1])}"
        assert client.head(path).status_code == 404
        push(client, "library/app", LAYERS)
        assert client.get(path).content == LAYERS.blobs[1]
    assert run_portside("check", "--data", str(store))[0] == 0


@pytest.mark.parametrize("command", ["check", "collect"])
def test_no_store(tmp_path: Path, command: str) -> None:
    """A directory without a registry is named in one line, and nothing is made there."""
    code, printed, errors = run_portside(command, "--data", str(tmp_path))
    assert (code, printed) == (1, "")
    assert errors.startswith("portside: ")
    assert "holds no registry" in errors
    assert list(tmp_path.iterdir()) == []
