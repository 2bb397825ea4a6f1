"""`portside check` finds damage of every kind, and `portside collect` removes orphaned files."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import copytree

import pytest

from support.checks import find_problems, read_check
from support.commands import run_inside
from support.content import OCI_LAYER, Content, descriptor, digest_of, image, index
from support.homes import Home
from support.server import run_portside, running_registry
from support.wire import connect, open_upload, push, push_blob, put_manifest

LAYERS = image("checked", annotations={"com.example.of": digest_of(b"named")})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with an index, an image and an upload session; tests take copies of it."""
    data = tmp_path_factory.mktemp("made") / "data"
    parent = index(LAYERS)
    with (
        running_registry(data, "--workers", "1") as registry,
        connect(registry.url) as client,
    ):
        push(client, "library/app", parent, "v1")
        client.patch(open_upload(client, "library/app"), content=b"begun")
    return data


@pytest.fixture
def store(made: Path, data: Path) -> Path:
    """Return a store that the test may damage."""
    return copytree(made, data)


def blob(store: Path, content: Content = LAYERS) -> Path:
    """Return the file of a layer."""
    return blob_file(store, content.blobs[1])


def blob_file(store: Path, content: bytes) -> Path:
    """Return the file of a blob."""
    encoded = digest_of(content).removeprefix("sha256:")
    return store / "blobs" / "sha256" / encoded[:2] / encoded


def upload(store: Path) -> Path:
    """Return the file of the upload."""
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


def make_unreadable(path: Path) -> None:
    """Make a file fail to open, for root as well."""
    path.unlink()
    path.symlink_to(path)


ID = "0" * 32

DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (lambda store: flip(blob(store)), "is damaged"),
    "a short blob": (lambda store: blob(store).write_bytes(b"short"), "but should have"),
    "a lost blob": (lambda store: blob(store).unlink(), "is missing"),
    "a misplaced blob": (
        lambda store: blob(store).rename(store / "blobs" / "sha256" / blob(store).name),
        "is missing",
    ),
    "a lost upload": (lambda store: upload(store).unlink(), "should hold 5"),
    "a changed manifest": (
        lambda store: sql(store, "UPDATE manifests SET payload = CAST('{}' AS BLOB)"),
        "is damaged",
    ),
    "a wrong size": (lambda store: sql(store, "UPDATE manifests SET size = 1"), "1 are recorded"),
    "a lost link": (
        lambda store: sql(store, "DELETE FROM repository_blobs"),
        "has no link from any repository",
    ),
    "a lost child": (
        lambda store: sql(store, "DELETE FROM manifests WHERE media_type LIKE '%manifest%'"),
        f"missing manifest {LAYERS.digest}",
    ),
    "a lost reference": (
        lambda store: sql(store, "DELETE FROM manifest_references"),
        "recorded references",
    ),
    "a lost weak reference": (
        lambda store: sql(store, "DELETE FROM manifest_references WHERE weak"),
        "recorded references",
    ),
    "a wrong number of manifests": (
        lambda store: sql(store, "UPDATE repositories SET manifest_count = 7"),
        "records 7 manifests, but has 2",
    ),
    "a wrong number of tags": (
        lambda store: sql(store, "UPDATE repositories SET tag_count = 7"),
        "records 7 tags, but has 1",
    ),
    "a wrong size of a link": (
        lambda store: sql(store, "UPDATE repository_blobs SET size = size + 1"),
        "bytes, but has",
    ),
    "a wrong size of manifests": (
        lambda store: sql(store, "UPDATE repositories SET manifest_bytes = 7"),
        "bytes, but has",
    ),
    "another artifact type": (
        lambda store: sql(store, "UPDATE manifests SET artifact_type = 'a/b'"),
        "has the artifact type",
    ),
    "other annotations": (
        lambda store: sql(store, 'UPDATE manifests SET annotations = CAST(\'{"a":"b"}\' AS BLOB)'),
        "recorded annotations",
    ),
    "broken annotations": (
        lambda store: sql(store, "UPDATE manifests SET annotations = CAST('[' AS BLOB)"),
        "recorded annotations",
    ),
    "no digest of a manifest": (
        lambda store: sql(store, "UPDATE manifests SET digest = 'sha256:x' WHERE id = 1"),
        "invalid digest",
    ),
    "no digest of a blob": (
        lambda store: sql(store, "UPDATE blobs SET digest = 'x' WHERE size = 100 LIMIT 1"),
        "invalid blob digest 'x'",
    ),
    "no name of a repository": (
        lambda store: sql(store, "UPDATE repositories SET name = 'No Name'"),
        "invalid repository name 'No Name'",
    ),
    "no name of a tag": (
        lambda store: sql(store, "UPDATE tags SET name = '-'"),
        "invalid tag name '-' in",
    ),
    "no name of an upload's repository": (
        lambda store: sql(store, "UPDATE uploads SET repository = 'No Name'"),
        "the invalid repository name 'No Name'",
    ),
    "lost blobs": (
        lambda store: (store / "blobs").rename(store / "moved"),
        "blobs/sha256 is missing: ",
    ),
    "lost uploads": (
        lambda store: (store / "uploads").rename(store / "moved"),
        "uploads is missing: ",
    ),
    "an unreadable blob": (lambda store: make_unreadable(blob(store)), "cannot be read: "),
    "a dangling tag": (lambda store: sql(store, "UPDATE tags SET manifest = 99"), "of tags"),
    "a broken database": (
        lambda store: sql(store, "DELETE FROM repositories"),
        "does not exist",
    ),
}

ORPHANED: dict[str, tuple[Callable[[Path], object], str]] = {
    "an orphaned blob": (
        lambda store: blob(store).with_name(blob(store).name[:2] + "0" * 62).touch(),
        "orphaned blob",
    ),
    "an orphaned file": (lambda store: (store / "blobs" / "notes").touch(), "orphaned file"),
    "an orphaned upload": (
        lambda store: (store / "uploads" / ("0" * 32)).touch(),
        "orphaned upload",
    ),
    "a copy": (lambda store: (store / "uploads" / f"{ID}.copy").touch(), "by `portside collect`"),
    "a name of a moment": (
        lambda store: (store / "uploads" / f"{ID}.placing").touch(),
        "by `portside collect`",
    ),
    "a probe": (
        lambda store: (store / "blobs" / "sha512" / ".probe-1").touch(),
        "by `portside collect`",
    ),
}


def test_a_sound_store(store: Path) -> None:
    """In a sound store nothing is found, and the summary counts everything."""
    code, printed, errors = run_inside("check", "--data", str(store))
    assert (code, errors) == (0, "")
    assert printed.startswith("No problem in 2 manifests, 3 blobs")
    assert "1 upload session." in printed


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage(store: Path, kind: str) -> None:
    """Each damage is a line, and the exit code is 1."""
    damage, expected = DAMAGE[kind]
    damage(store)
    assert any(expected in line for line in read_check(Home(store)).problems)


@pytest.mark.parametrize("kind", ORPHANED)
def test_what_a_crash_leaves(store: Path, kind: str) -> None:
    """What is orphaned is a line, and no damage: the exit code is 0."""
    leave, expected = ORPHANED[kind]
    leave(store)
    found = read_check(Home(store))
    assert found.problems == []
    assert [expected in line for line in found.orphaned] == [True]


def test_all_damage_at_once(store: Path) -> None:
    """An unreadable file is named, and other damage is still found."""
    make_unreadable(blob(store))
    (store / "uploads").rename(store / "moved")
    sql(store, "UPDATE tags SET name = '-'")
    sql(store, "UPDATE manifests SET size = 1")
    (store / "blobs" / "notes").touch()
    code, printed, errors = run_inside("check", "--data", str(store))
    assert (code, errors) == (1, "")
    for part in (
        "cannot be read",
        "uploads is missing",
        "tag name '-'",
        "1 are recorded",
        "notes;",
    ):
        assert part in printed
    assert "should hold 5" in printed


def test_images_are_named(store: Path) -> None:
    """Damage names the images that need it, through indexes, by tag or else by digest."""
    lost = blob(store)
    with running_registry(store, "--workers", "1") as registry, connect(registry.url) as client:
        put_manifest(client, "library/app", LAYERS, "single")
        push(client, "team/tool", LAYERS)
        push_blob(client, "team/unused", LAYERS.blobs[1])
        push_blob(client, "team/unused", b"needed by nothing")
    lost.unlink()
    blob_file(store, b"needed by nothing").unlink()
    needed = f"library/app:single, library/app:v1 and team/tool@{LAYERS.digest}"
    assert set(read_check(Home(store)).problems) == {
        f"blob sha256:{lost.name} is missing; needed by {needed}",
        f"blob {digest_of(b'needed by nothing')} is missing; no image needs it",
    }


def test_many_images(store: Path) -> None:
    """Ten images are named, and of the others only the number is given."""
    with running_registry(store, "--workers", "1") as registry, connect(registry.url) as client:
        for number in range(20, 35):
            put_manifest(client, "library/app", LAYERS, f"v{number}")
    blob(store).unlink()
    (problem,) = read_check(Home(store)).problems
    assert problem.endswith("library/app:v27, library/app:v28 and 6 more")
    assert problem.count("library/app:") == 10


def test_as_json(store: Path) -> None:
    """The document says of each finding whether it is damage, and which images need it."""
    blob(store).unlink()
    (store / "uploads" / ID).touch()
    code, printed, errors = run_inside("check", "--json", "--data", str(store))
    assert (code, errors) == (1, "")
    damage, orphaned = json.loads(printed)["findings"]
    assert damage == {
        "kind": "blob",
        "is_damage": True,
        "problem": f"blob {digest_of(LAYERS.blobs[1])} is missing",
        "repository": None,
        "digest": digest_of(LAYERS.blobs[1]),
        "upload": None,
        "images": ["library/app:v1"],
        "image_count": 1,
    }
    assert (orphaned["kind"], orphaned["is_damage"], orphaned["images"]) == ("orphaned", False, [])
    document = json.loads(printed)
    assert {name: document[name] for name in ("problems", "orphaned", "manifests", "blobs")} == {
        "problems": 1,
        "orphaned": 1,
        "manifests": 2,
        "blobs": 3,
    }


def test_indexes_of_blobs(data: Path) -> None:
    """An index of a layer is sound, and damaged once the layer is no longer linked."""
    layer = descriptor(b"a layer", OCI_LAYER)
    with (
        running_registry(data, "--workers", "1") as registry,
        connect(registry.url) as client,
    ):
        push_blob(client, "a", b"a layer")
        push(client, "a", index(manifests=[layer]), "cache")
    code, printed, _ = run_inside("check", "--data", str(data))
    assert code == 0, printed
    sql(data, "DELETE FROM repository_blobs")
    code, printed, _ = run_inside("check", "--data", str(data))
    assert code == 1
    assert f"refers to the missing blob {layer['digest']}" in printed


def test_manifests_of_earlier_rules(store: Path) -> None:
    """What was accepted once is sound, whatever is refused at a push today."""
    payload = b'{"Layers": [], "manifests": [], "manifests": null}'
    with closing(sqlite3.connect(store / "portside.db")) as connection:
        connection.execute(
            "INSERT INTO manifests (repository, digest, media_type, payload, size, annotations,"
            " created) SELECT id, ?, 'text/html', ?, ?, x'7b7d', 1 FROM repositories LIMIT 1",
            (digest_of(payload), payload, len(payload)),
        )
        connection.execute(
            "UPDATE repositories SET manifest_count = manifest_count + 1,"
            " manifest_bytes = manifest_bytes + ?",
            (len(payload),),
        )
        connection.commit()
    assert find_problems(Home(store)) == []


def test_sparse_indexes_are_sound(data: Path) -> None:
    """An index that was accepted without its manifests refers to nothing that is missing."""
    parent = index(LAYERS)
    with (
        running_registry(data, "--workers", "1", "--sparse-indexes") as registry,
        connect(registry.url) as client,
    ):
        assert put_manifest(client, "a", parent, "v1").status_code == 201
    code, printed, _ = run_inside("check", "--data", str(data))
    assert code == 0, printed


def test_an_upload_in_use_is_not_orphaned(store: Path) -> None:
    """Locked bytes without a session belong to a request in progress."""
    with (store / "uploads" / ID).open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (store / "uploads" / f"{ID}.placing").touch()
        assert run_inside("check", "--data", str(store))[0] == 0
    found = read_check(Home(store))
    assert found.problems == []
    assert any(f"orphaned upload: {ID}" in line for line in found.orphaned)
    assert any(f"{ID}.placing;" in line for line in found.orphaned)


def test_a_broken_database(store: Path) -> None:
    """A page of garbage is named with the file and what to do, and the blobs are checked still."""
    path = store / "portside.db"
    with closing(sqlite3.connect(path)) as connection:
        sql_root = "SELECT rootpage FROM sqlite_schema WHERE name = 'repositories'"
        (page,) = connection.execute(sql_root).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"garbage." * 512)
    code, printed, errors = run_inside("check", "--data", str(store))
    assert (code, errors) == (1, "")
    assert f"the database {path}: " in printed
    assert "restore a backup" in printed
    assert "3 blobs" in printed


def test_collect(store: Path) -> None:
    """Orphaned blobs are removed, and nothing else is."""
    orphaned = blob(store).with_name(blob(store).name[:2] + "0" * 62)
    orphaned.write_bytes(b"123456789")
    code, printed, errors = run_inside("collect", "--data", str(store))
    assert (code, printed.splitlines()[-1], errors) == (0, "9 bytes freed.", "")
    assert not orphaned.exists()
    assert run_inside("check", "--data", str(store))[0] == 0


def test_collect_counts_what_went(store: Path) -> None:
    """Bytes that could not be removed are not counted as freed."""
    orphaned = blob(store).with_name(blob(store).name[:2] + "0" * 62)
    orphaned.write_bytes(b"123456789")
    # Blobs are removed by way of this directory.
    (store / "uploads").rename(store / "moved")
    code, printed, errors = run_inside("collect", "--data", str(store))
    assert (code, printed.splitlines()[-1]) == (1, "0 bytes freed.")
    assert "1 orphaned blob not removed" in errors
    assert orphaned.exists()


def test_collect_orphaned_files(store: Path) -> None:
    """Files that a crash left are removed when they are old, unless they are locked."""
    uploads = store / "uploads"
    old = [uploads / f"{ID}.copy", uploads / f"{ID}.placing", store / "blobs/sha256/.probe-1"]
    held = [uploads / f"{'1' * 32}.copy", uploads / ".probe-2"]
    for path in (*old, *held):
        path.write_bytes(b"four")
        os.utime(path, (1, 1))
    young = uploads / f"{'2' * 32}.copy"
    young.touch()
    with (uploads / ("1" * 32)).open("xb") as upload, held[1].open() as probe:
        for file in (upload, probe):
            fcntl.flock(file, fcntl.LOCK_EX)
        code, printed, errors = run_inside("collect", "--data", str(store))
    assert (code, printed.splitlines()[-1], errors) == (0, "12 bytes freed.", "")
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (*held, young))


def test_a_lost_blob_is_healed_by_a_push(store: Path) -> None:
    """A damaged blob is reported as missing to clients; pushing it again repairs it."""
    blob(store).write_bytes(b"short")
    with (
        running_registry(store, "--workers", "1") as registry,
        connect(registry.url) as client,
    ):
        path = f"/v2/library/app/blobs/{digest_of(LAYERS.blobs[1])}"
        assert client.head(path).status_code == 404
        push(client, "library/app", LAYERS)
        assert client.get(path).content == LAYERS.blobs[1]
    assert run_inside("check", "--data", str(store))[0] == 0


@pytest.mark.parametrize("command", ["check", "collect"])
def test_no_store(tmp_path: Path, command: str) -> None:
    """A directory without a registry is reported in one line, and nothing is created there."""
    code, printed, errors = run_portside(command, "--data", str(tmp_path))
    assert (code, printed) == (1, "")
    assert errors.startswith("portside: ")
    assert "does not contain a registry" in errors
    assert list(tmp_path.iterdir()) == []
