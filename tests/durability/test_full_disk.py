"""A disk that pushes have filled: what is deleted and collected makes room for pushes."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from portside.stores.reserve import FILE
from support.checks import assert_sound
from support.content import Content, digest_of, image
from support.server import run_portside, running_registry
from support.waiting import until
from support.wire import OCTETS, assert_error, connect, put_manifest

MIB = 1024 * 1024

RESERVE = 4 * MIB
OPTIONS = ("--reserve-bytes", str(RESERVE))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 32 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(client: httpx.Client) -> list[Content]:
    """Push images until even a small one is refused; return those that were not."""
    pushed: list[Content] = []
    for size in (MIB, 20_000):
        while (refusal := push_image(client, len(pushed), size)) is None:
            pushed.append(make_image(len(pushed), size))
        assert_error(refusal, 507, "UNAVAILABLE")
    return pushed


def make_image(number: int, size: int) -> Content:
    """Make an image with a layer of its own."""
    return image((number, size), layers=1, layer_size=size)


def push_image(client: httpx.Client, number: int, size: int) -> httpx.Response | None:
    """Push an image with a tag of its own; return the answer that refuses it, if one does."""
    content = make_image(number, size)
    for blob in content.blobs:
        query = {"digest": digest_of(blob)}
        answer = client.post("/v2/a/blobs/uploads/", params=query, content=blob, headers=OCTETS)
        if answer.status_code != 201:
            return answer
    answer = put_manifest(client, "a", content, f"v{number}")
    return answer if answer.status_code != 201 else None


def fill_from_outside(disk: Path) -> Path:
    """Write a file until the disk is full to the last byte."""
    foreign = disk / "foreign"
    foreign.write_bytes(bytes(shutil.disk_usage(disk).free))
    assert shutil.disk_usage(disk).free == 0
    return foreign


class TestFilledFromOutside:
    """Nothing is left but what the reserve's file holds."""

    @pytest.fixture
    def data(self, small_disk: Path) -> Path:
        """Make a registry with images on the disk, and stop it."""
        data = small_disk / "data"
        with running_registry(data, *OPTIONS) as registry, connect(registry.url) as client:
            for number in range(10):
                assert push_image(client, number, 20_000) is None
        assert allocated(data / FILE) == RESERVE
        return data

    def test_deletes(self, small_disk: Path, data: Path) -> None:
        """A registry that has just started, and has not read or written, serves and deletes."""
        with running_registry(data, *OPTIONS) as registry, connect(registry.url) as client:
            foreign = fill_from_outside(small_disk)
            assert client.get("/v2/a/manifests/v0").status_code == 200
            assert client.get("/readyz").status_code == 200
            assert_error(client.get("/readyz/writes"), 503, "UNAVAILABLE")
            for number in range(1, 10):
                content = make_image(number, 20_000)
                for reference in (f"v{number}", content.digest):
                    answer = client.delete(f"/v2/a/manifests/{reference}")
                    assert answer.status_code == 202, answer.text
            collect(data)
            assert registry.log.count("bytes of the reserve are released") == 1
            foreign.unlink()
            until(lambda: client.get("/readyz/writes").status_code == 200)
            assert push_image(client, 100, 20_000) is None
            assert allocated(data / FILE) == RESERVE
        assert_sound(data)

    def test_start(self, small_disk: Path, data: Path) -> None:
        """A registry starts, and commands run."""
        fill_from_outside(small_disk)
        code, printed, errors = run_portside("tag", "list", "a", "--data", str(data))
        assert code == 0, errors
        assert len(printed.splitlines()) > 9
        with running_registry(data, *OPTIONS) as registry, connect(registry.url) as client:
            assert client.get("/v2/a/manifests/v0").status_code == 200
            assert client.delete("/v2/a/manifests/v0").status_code == 202
            assert_error(client.post("/v2/a/blobs/uploads/"), 507, "UNAVAILABLE")

    def test_a_checkpoint_without_room(self, small_disk: Path, data: Path) -> None:
        """A registry starts and commands run where the end of the database is only in the log."""
        (data / FILE).unlink()
        file = data / "portside.db"
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA wal_autocheckpoint = 0")
            with database:
                database.executemany(
                    "INSERT INTO repositories (name, created) VALUES (?, 1)",
                    ((f"{number:0200}",) for number in range(100)),
                )
            size = file.stat().st_size
            foreign = fill_from_outside(small_disk)
            with pytest.raises(sqlite3.OperationalError, match="full"):
                database.execute("PRAGMA wal_checkpoint")
        assert file.stat().st_size == size
        with running_registry(data, *OPTIONS) as registry, connect(registry.url) as client:
            assert client.get("/readyz").status_code == 200
            assert client.get("/v2/a/manifests/v0").status_code == 200
            collect(data)
            _, printed, _ = run_portside("doctor", "--data", str(data))
            assert f"ok       database     {file} can be written to" in printed
        foreign.unlink()
        assert_sound(data)

    def test_no_room_for_the_index_of_the_log(self, small_disk: Path, data: Path) -> None:
        """No command runs, and each says that the disk is full, and what to do."""
        (data / FILE).unlink()
        fill_from_outside(small_disk)
        for command in ("serve", "collect", "usage"):
            code, _, errors = run_portside(command, "--data", str(data))
            assert code == 1
            assert "the disk is full: remove files of other programs, or enlarge it" in errors

    def test_a_blob_to_which_nothing_refers(self, small_disk: Path, data: Path) -> None:
        """It can be pulled, but no client is told that it need not push it."""
        (data / FILE).unlink()
        blob = b"unreferenced"
        path = f"/v2/a/blobs/{digest_of(blob)}"
        options = ("--reserve-bytes", "0", "--no-gc")
        with running_registry(data, *options) as registry, connect(registry.url) as client:
            query = {"digest": digest_of(blob)}
            answer = client.post("/v2/a/blobs/uploads/", params=query, content=blob, headers=OCTETS)
            assert answer.status_code == 201
            with closing(sqlite3.connect(data / "portside.db")) as database, database:
                database.execute(
                    "UPDATE repository_blobs SET unreferenced = 1 WHERE unreferenced > 1"
                )
            with closing(sqlite3.connect(data / "portside.db")) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            foreign = fill_from_outside(small_disk)
            assert client.get(path).content == blob
            assert client.head(path).status_code == 507
            foreign.unlink()
            assert client.head(path).status_code == 200

    def test_no_reserve(self, data: Path) -> None:
        """A registry that reserves nothing has no such file."""
        (data / FILE).unlink()
        with running_registry(data, "--reserve-bytes", "0") as registry:
            with connect(registry.url) as client:
                assert push_image(client, 100, 20_000) is None
            assert not (data / FILE).exists()


def allocated(file: Path) -> int:
    """Return the bytes of the disk that a file takes."""
    return file.stat().st_blocks * 512


def collect(data: Path) -> str:
    """Have all that was deleted collected at once; return what is printed."""
    options = ("--data", str(data), "--grace", "0", "--keep-deleted", "0")
    code, printed, errors = run_portside("collect", *options)
    assert code == 0, errors
    return printed


class TestFilledByPushes:
    """The reserve is what is left."""

    @pytest.mark.parametrize("beside_server", [True, False])
    def test_delete_collect_and_push(self, small_disk: Path, *, beside_server: bool) -> None:
        """Every delete succeeds, a collection frees the space, and pushes go on."""
        data = small_disk / "data"
        with running_registry(data, *OPTIONS) as registry, connect(registry.url) as client:
            pushed = fill(client)
            assert len(pushed) > 15
            kept, *deleted = pushed
            for number, content in enumerate(deleted, 1):
                for reference in (f"v{number}", content.digest):
                    answer = client.delete(f"/v2/a/manifests/{reference}")
                    assert answer.status_code == 202, answer.text
            if beside_server:
                self.collect(data, len(deleted))
                self.push_again(client, kept)
        if not beside_server:
            self.collect(data, len(deleted))
            with running_registry(data, *OPTIONS) as registry, connect(registry.url) as client:
                self.push_again(client, kept)
        assert_sound(data)

    def collect(self, data: Path, images: int) -> None:
        """Have all that was deleted collected at once."""
        printed = collect(data)
        assert f"{images} deleted manifests purged" in printed
        (freed,) = [line for line in printed.splitlines() if line.endswith(" bytes freed.")]
        assert int(freed.split()[0].replace(",", "")) > 15 * MIB

    def push_again(self, client: httpx.Client, kept: Content) -> None:
        """As much can be pushed as before, and what was kept is there."""
        assert client.get("/v2/a/manifests/v0").content == kept.manifest
        until(lambda: client.get("/readyz/writes").status_code == 200)
        assert len(fill(client)) > 15
