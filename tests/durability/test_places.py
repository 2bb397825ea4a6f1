"""Commands on a store that is read-only, that is another one, or that is incomplete."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest

from support.content import image
from support.server import run_portside, running_registry
from support.waiting import PATIENCE, until
from support.wire import connect, push

KEPT = image("kept")
SERVE = ("--listen", "127.0.0.1:0")


def fail(command: str, data: Path) -> str:
    """Run a command that fails with one line, and return it."""
    options = SERVE if command == "serve" else ()
    code, printed, errors = run_portside(command, "--data", str(data), *options)
    assert (code, printed) == (1, ""), errors
    assert errors.startswith("portside: ")
    assert len(errors.splitlines()) == 1, errors
    return errors


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with an image; tests take copies of it."""
    data = tmp_path_factory.mktemp("made") / "data"
    with running_registry(data) as registry, connect(registry.url) as client:
        push(client, "library/app", KEPT, "v1")
    return data


@pytest.fixture
def store(made: Path, data: Path) -> Path:
    """Return a store that the test may change."""
    return copytree(made, data)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system that `freeze` makes read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def freeze(disk: Path) -> None:
    """Make the file system read-only, as soon as killed processes have closed their files."""
    remount = ["mount", "-o", "remount,ro", str(disk)]
    until(lambda: subprocess.run(remount, check=False).returncode == 0)


class TestReadOnly:
    """A file system that cannot be written to."""

    def fill(self, disk: Path, *, kill: bool) -> Path:
        """Put a store on the disk; a registry that is killed leaves SQLite's log behind."""
        data = disk / "data"
        with (
            running_registry(data, "--reserve-bytes", "0") as registry,
            connect(registry.url) as client,
        ):
            push(client, "library/app", KEPT, "v1")
            if kill:
                registry.kill()
                assert (data / "portside.db-wal").stat().st_size
        return data

    @pytest.mark.parametrize("kill", [False, True])
    def test_check(self, disk: Path, *, kill: bool) -> None:
        """A check reads all that is there, with or without a log."""
        data = self.fill(disk, kill=kill)
        freeze(disk)
        code, printed, errors = run_portside("check", "--data", str(data))
        assert (code, errors) == (0, ""), printed
        assert printed.startswith("No problem in 1 manifest, 3 blobs")

    def test_unreadable_log(self, disk: Path) -> None:
        """A log whose index is lost cannot be read there, and that is said."""
        data = self.fill(disk, kill=True)
        (data / "portside.db-shm").unlink()
        freeze(disk)
        line = fail("check", data)
        assert f"{data / 'portside.db'}: its last changes are in portside.db-wal" in line

    @pytest.mark.parametrize("command", ["collect", "serve"])
    def test_others(self, disk: Path, command: str) -> None:
        """What has to write says in one line that it cannot."""
        data = self.fill(disk, kill=False)
        freeze(disk)
        assert str(data) in fail(command, data)


class TestVersions:
    """Schemas of other versions of Portside."""

    def set_version(self, store: Path, version: int) -> None:
        """Change the number that SQLite keeps."""
        with sqlite3.connect(store / "portside.db") as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        connection.close()

    @pytest.mark.parametrize("command", ["check", "collect", "serve"])
    def test_newer(self, store: Path, command: str) -> None:
        """A newer one is refused, with the name of the database."""
        self.set_version(store, 99)
        line = fail(command, store)
        assert f"the database {store / 'portside.db'} was made by a newer Portside" in line

    @pytest.mark.parametrize("command", ["check", "collect"])
    def test_older(self, store: Path, command: str) -> None:
        """An older one is refused by what does not change it."""
        self.set_version(store, 1)
        line = fail(command, store)
        assert f"the database {store / 'portside.db'} has version 1 of the schema" in line
        assert "run `portside serve` to upgrade it" in line


class TestLostDatabase:
    """Blobs without the database that knows them."""

    @pytest.mark.parametrize("command", ["check", "collect", "serve"])
    @pytest.mark.parametrize("way", ["missing", "empty"])
    def test_is_refused(self, store: Path, command: str, way: str) -> None:
        """Nothing is made in its place, and no blob goes."""
        before = sorted((store / "blobs").rglob("*"))
        database = store / "portside.db"
        database.unlink()
        if way == "empty":
            database.touch()
        line = fail(command, store)
        assert f"{database} is missing or empty" in line
        assert "restore portside.db from a backup, or move the blobs away" in line
        assert database.exists() == (way == "empty")
        assert sorted((store / "blobs").rglob("*")) == before

    def test_a_user_is_not_added_either(self, store: Path, tmp_path: Path) -> None:
        """Every command that would make a registry refuses."""
        (store / "portside.db").unlink()
        password = tmp_path / "password"
        password.write_text("correct horse battery staple\n")
        options = ("--data", str(store), "--password-file", str(password))
        code, _, errors = run_portside("user", "add", "alice", *options)
        assert code == 1
        assert "is missing or empty" in errors


class TestOwner:
    """Commands of root in a registry that another user runs."""

    OTHER = 65534

    @pytest.mark.parametrize("lock", ["missing", "root's"])
    def test_collect_leaves_the_lock_to_the_registry(self, store: Path, lock: str) -> None:
        """The lock file belongs to the owner of the database, whichever user created it."""
        os.chown(store / "portside.db", self.OTHER, self.OTHER)
        if lock == "missing":
            (store / "portside.db.lock").unlink()
        code, _, errors = run_portside("collect", "--data", str(store))
        assert (code, errors) == (0, "")
        found = (store / "portside.db.lock").stat()
        assert (found.st_uid, found.st_gid) == (self.OTHER, self.OTHER)

    def test_serve_makes_the_lock(self, data: Path) -> None:
        """A registry that only reads has created all that the first writer needs."""
        with running_registry(data):
            assert (data / "portside.db.lock").exists()


class TestUnwritable:
    """Files that the registry's user may not write to are named at the start."""

    @pytest.mark.parametrize("name", ["portside.db", "portside.db.lock", "uploads", "blobs/sha512"])
    def test_start(self, store: Path, name: str) -> None:
        """One line, with the path."""
        (store / name).chmod(0o555 if (store / name).is_dir() else 0o444)
        without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
        done = subprocess.run(
            [*without, "portside", "serve", "--data", str(store), *SERVE],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert str(store / name) in done.stderr
