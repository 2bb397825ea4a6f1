"""`portside backup` and `portside restore`: while a registry serves, and whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from support.backups import Place, differences, fill, opened, place_beside
from support.checks import find_problems
from support.commands import FAST, run_inside
from support.content import Content, digest_of, image, index, make_blob
from support.damage import DAMAGE, Bytes
from support.homes import DISK, ON_AZURE, ON_S3, Home
from support.schemas import make_older
from support.server import RunningRegistry, running_registry
from support.waiting import until
from support.wire import connect, push, push_blob

APP = image("app", layer_size=3000)
OTHER = image("other")
LISTING = index(APP, OTHER)
LAYER = APP.blobs[1]

MakeHome = Callable[[str], Home]


@pytest.fixture
def make(make_home: MakeHome, monkeypatch: pytest.MonkeyPatch) -> MakeHome:
    """Return a function that makes an empty home, whose storage the test can damage."""

    def made(kind: str) -> Home:
        home = make_home(kind)
        for name, value in home.env.items():
            monkeypatch.setenv(name, value)
        return home

    return made


@pytest.fixture
def home(data: Path) -> Home:
    """Make a registry on the disk with two images."""
    made = Home(data)
    fill(made, [APP, OTHER])
    return made


@pytest.fixture
def place(home: Home) -> Place:
    """Name a directory for its backup."""
    return place_beside(home)


def manage(home: Home, *command: str) -> None:
    """Run a command that needs no blobs, and succeeds."""
    database = ("--database", home.database) if home.database else ()
    options = ("--data", str(home.data), *database)
    code, _, errors = run_inside(*command, *options, env={**home.env, **FAST})
    assert code == 0, errors


def add_user(home: Home, name: str, *options: str) -> None:
    """Add a user, whose password is the name three times."""
    home.data.mkdir(parents=True, exist_ok=True)
    password = home.data.with_name(f"{home.data.name}-password")
    password.write_text(f"{name * 3}\n")
    manage(home, "user", "add", name, "--password-file", str(password), *options)


class TestRestore:
    """What was backed up is there again, wherever it was and wherever it goes."""

    @pytest.mark.parametrize(
        ("kind", "other"), [(DISK, ON_S3), (ON_S3, DISK), (ON_AZURE, ON_AZURE)]
    )
    def test_stores(self, make: MakeHome, kind: str, other: str) -> None:
        """Every row and every blob moves between databases and storages of every kind."""
        home, target = make(kind), make(other)
        fill(home, [LISTING])
        add_user(home, "alice")
        fill(home, [image("sha512", algorithm="sha512")], "team/other")
        place = place_beside(home)
        printed = place.do("backup", home)
        assert re.search(r"^Snapshot \S+Z: 9 blobs .*; 9 blobs \(\d+ bytes\) copied\.$", printed)
        assert place.verify() == (0, ["No problem in 1 snapshot."])
        assert "Everything was verified." in place.do("restore", target)
        assert differences(home, target) == []
        assert find_problems(target) == []
        with (
            running_registry(
                target.data, *target.options, "--workers", "1", env={**target.env, **FAST}
            ) as registry,
            connect(registry.url, auth=("alice", "alice" * 3)) as client,
        ):
            pulled = client.get(f"/v2/team/app/manifests/{LISTING.digest}")
            assert pulled.content == LISTING.manifest
            blob = client.get(f"/v2/team/app/blobs/{digest_of(LAYER)}", follow_redirects=True)
            assert blob.content == LAYER
            assert push(client, "team/new", image("new")).status_code == 201

    def test_the_same_registry(self, home: Home, place: Place, tmp_path: Path) -> None:
        """What was restored is the same registry, and its backups go on where they were."""
        place.do("backup", home)
        target = Home(tmp_path / "target")
        place.do("restore", target)
        fill(target, [image("since")])
        assert "; 3 blobs (" in place.do("backup", target)
        first, second = place.snapshots
        assert first["registry"] == second["registry"]
        assert (first["blobs"], second["blobs"]) == (6, 9)

    def test_an_older_snapshot(self, home: Home, place: Place, tmp_path: Path) -> None:
        """Each snapshot is the registry at its time."""
        place.do("backup", home)
        assert run_inside("repository", "delete", "team/app", "--yes", *home.place)[0] == 0
        place.do("backup", home)
        old, new = (snapshot["name"] for snapshot in place.snapshots)
        for name, code in ((old, 0), (new, 1)):
            target = Home(tmp_path / name)
            place.do("restore", target, "--snapshot", name)
            listed = run_inside("tag", "list", "team/app", "--json", *target.place)
            assert listed[0] == code
            assert (APP.digest in listed[1]) == (code == 0)

    @pytest.mark.parametrize("kind", [DISK, ON_S3])
    def test_beside_its_blobs(self, make: MakeHome, kind: str) -> None:
        """A registry that lost its database alone gets it back, and its blobs stay."""
        home = make(kind)
        fill(home, [APP])
        place = place_beside(home)
        place.do("backup", home)
        if home.storage:
            lost = Home(home.data, make(kind).database, home.storage, home.env)
        else:
            lost = home
            for path in home.data.glob("portside.*"):
                path.unlink()
        assert "add --keep-blobs if" in place.refused("restore", lost)
        # Nothing was begun: an empty database beside them would let the blobs be collected.
        Bytes(lost, LAYER).lose()
        assert "1 blob (3000 bytes) and" in place.do("restore", lost, "--keep-blobs")
        assert find_problems(lost) == []

    def test_refusals(self, home: Home, place: Place, tmp_path: Path) -> None:
        """Nothing is overwritten, and every refusal says what is wrong."""
        assert "does not contain a backup" in place.refused("restore", home)
        assert "does not contain a registry" in place.refused("backup", Home(tmp_path / "none"))
        place.do("backup", home)
        assert f"{home.data}/blobs holds blobs" in place.refused("restore", home)
        refusal = place.refused("restore", home, "--keep-blobs")
        assert f"{home.data} contains a registry; restore into an empty one" in refusal
        target = Home(tmp_path / "target")
        assert "has no snapshot yesterday" in place.refused(
            "restore", target, "--snapshot", "yesterday"
        )
        other = Home(tmp_path / "other")
        fill(other, [OTHER])
        saving = Path(place.name) / ".saving-of-a-backup-that-runs"
        saving.mkdir()
        assert "holds the backup of another registry" in place.refused("backup", other)
        assert saving.exists()
        place.do("backup", home)
        assert not saving.exists()
        within = Place(str(home.data), home)
        assert "is the data directory of a registry" in within.refused("backup", other)
        blobs = tmp_path / "blobs"
        fill(Home(blobs), [APP])
        (blobs / "portside.db").unlink()
        assert "holds blobs, but no backup" in Place(str(blobs), home).refused("backup", home)
        added = Home(tmp_path / "added")
        add_user(added, "bob", "--create")
        assert f"{added.data} contains a registry" in place.refused("restore", added)
        make_older(added.data / "portside.db", 7)
        assert "has version 7 of the schema" in place.refused("restore", added)

    def test_a_newer_snapshot(self, home: Home, place: Place, tmp_path: Path) -> None:
        """The snapshot of a newer version is not understood, and not tried."""
        place.do("backup", home)
        (path,) = (Path(place.name) / "snapshots").iterdir()
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 999}))
        refusal = place.refused("restore", Home(tmp_path / "target"))
        assert "was made by a newer Portside: its schema has version 999" in refusal

    def test_killed(self, tmp_path: Path) -> None:
        """A restore that is killed leaves a read-only registry, and goes on when run again."""
        home, target = Home(tmp_path / "home"), Home(tmp_path / "target")
        fill(home, [image(number, layer_size=300_000) for number in range(20)])
        place = place_beside(home)
        place.do("backup", home)
        kill_after(["restore", place.name, *target.place], Place(str(target.data), home).count, 5)
        answer = run_inside("read-only", *target.place)[1]
        assert "is read-only because it is a copy" in answer
        printed = place.do("restore", target)
        copied = re.match(r"(\d+) blobs", printed)
        assert copied is not None
        assert 0 < int(copied[1]) <= 55
        assert differences(home, target) == []
        assert find_problems(target) == []


def kill_after(arguments: list[str], count: Callable[[], int], most: int) -> None:
    """Start a command, and kill it when there are so many blobs."""
    command = [sys.executable, "-m", "portside", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        until(lambda: process.poll() is not None or count() >= most, 20)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


class TestSnapshots:
    """Several snapshots share their blobs."""

    def test_incremental(self, home: Home, place: Place) -> None:
        """Only what is new is copied, and not even written again."""
        place.do("backup", home)
        before = {path: path.stat().st_mtime_ns for path in Path(place.name).glob("blobs/*/*/*")}
        fill(home, [image("new", layers=1)])
        printed = place.do("backup", home)
        assert ": 8 blobs (" in printed
        assert "; 2 blobs (" in printed
        assert before == {path: path.stat().st_mtime_ns for path in before}
        assert "; 0 blobs (0 bytes) copied." in place.do("backup", home)
        assert len(place.snapshots) == 3
        assert place.verify() == (0, ["No problem in 3 snapshots."])

    @pytest.mark.parametrize("kind", [DISK, ON_S3])
    def test_prune(self, make: MakeHome, kind: str) -> None:
        """The newest snapshots stay whole; the blobs that only older ones need are removed."""
        home = make(kind)
        fill(home, [APP, OTHER])
        place = place_beside(home)
        place.do("backup", home)
        place.do("backup", home)
        assert run_inside("repository", "delete", "team/app", "--yes", *home.place)[0] == 0
        fill(home, [OTHER])
        manage(home, "trash", "empty", "--yes")
        assert run_inside("collect", "--grace", "0", *home.place)[0] == 0
        # Two databases may be the same to the byte, and then share their file.
        printed = place.do("backup", home, "--keep", "2")
        assert re.search(r"^1 snapshot and [01] blobs? \(", printed, re.MULTILINE)
        assert Bytes(place.blobs, LAYER).read() == LAYER
        printed = place.do("backup", home, "--keep", "1")
        assert re.search(r"^2 snapshots and [45] blobs \(", printed, re.MULTILINE)
        assert Bytes(place.blobs, LAYER).read() is None
        assert place.verify() == (0, ["No problem in 1 snapshot."])

    def test_prune_is_careful(self, home: Home, place: Place) -> None:
        """As long as a snapshot that stays cannot be read, nothing is removed."""
        for _ in range(3):
            place.do("backup", home)
        middle = place.snapshots[1]["metadata"].removeprefix("sha256:")
        damaged = Path(place.name) / "blobs" / "sha256" / middle[:2] / middle
        damaged.write_bytes(damaged.read_bytes()[:-1])
        before = place.count()
        code, printed, errors = place.run("backup", home, "--keep", "3")
        assert (code, printed.split()[0]) == (1, "Snapshot")
        assert errors.endswith("is damaged\n")
        assert len(place.snapshots) == 4
        assert place.count() == before + 1

    def test_private(self, home: Home, tmp_path: Path) -> None:
        """Nobody else can read the keys and the hashes in a backup, whatever the umask was."""
        before = os.umask(0)
        (tmp_path / "mine").mkdir()
        try:
            for name in ("mine", "new"):
                Place(str(tmp_path / name), home).do("backup", home)
            assert os.umask(0) == 0
        finally:
            os.umask(before)
        for name in ("mine", "new"):
            paths = list((tmp_path / name).rglob("*"))
            modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths}
            assert modes == {(True, 0o700), (False, 0o600)}
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


class TestDamage:
    """Damage on either side is found and named."""

    @pytest.mark.parametrize("kind", [DISK, ON_S3])
    def test_verify(self, make: MakeHome, kind: str) -> None:
        """One wrong byte of a blob is found, and replaced by what the registry has."""
        home = make(kind)
        fill(home, [APP])
        place = place_beside(home)
        place.do("backup", home)
        place.do("backup", home)
        for damage, blob in zip(DAMAGE.values(), APP.blobs, strict=True):
            damage(Bytes(place.blobs, blob))
        code, lines = place.verify()
        assert code == 1
        damaged = {digest_of(blob) for blob in APP.blobs}
        named = {(snapshot["name"], digest) for snapshot in place.snapshots for digest in damaged}
        assert {tuple(re.split(": blob | ", line)[1:3]) for line in lines[:-1]} == named
        assert all(f"needed by team/app:v{APP.digest[7:15]}" in line for line in lines[:-1])
        assert lines[-1] == "6 problems in 2 snapshots."
        # One is missing, and copied by any backup.
        assert "; 3 blobs (" in place.do("backup", home, "--repair")
        assert place.verify()[0] == 0

    def test_metadata(self, home: Home, place: Place, tmp_path: Path) -> None:
        """One wrong byte of the metadata is found too, before any of it is restored."""
        place.do("backup", home)
        encoded = place.snapshots[0]["metadata"].removeprefix("sha256:")
        file = Path(place.name) / "blobs" / "sha256" / encoded[:2] / encoded
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)
        code, lines = place.verify()
        assert (code, len(lines)) == (1, 2)
        assert lines[0].endswith(f"its metadata, sha256:{encoded}, is damaged")
        target = Home(tmp_path / "target")
        assert "is damaged" in place.refused("restore", target)
        assert not target.data.exists()

    def test_a_damaged_registry(self, home: Home, place: Place, tmp_path: Path) -> None:
        """What a registry has lost does not keep the rest from being backed up and restored."""
        Bytes(home, LAYER).flip()
        code, printed, errors = place.run("backup", home)
        assert (code, errors) == (1, "")
        assert f"blob {digest_of(LAYER)} of the registry is damaged" in printed
        assert "5 blobs (" in printed
        assert (place.snapshots[0]["blobs"], place.snapshots[0]["missing"]) == (5, 1)
        target = Home(tmp_path / "target")
        code, printed, _ = place.run("restore", target)
        assert code == 1
        assert "run `portside read-only off` to use it as it is" in printed
        run_inside("read-only", "off", *target.place)
        run_inside("check", "--repair", *target.place)
        with (
            running_registry(target.data, "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            assert client.get(f"/v2/team/app/manifests/{OTHER.digest}").content == OTHER.manifest
            push(client, "team/app", APP)
        assert find_problems(target) == []
        Bytes(home, LAYER).write(LAYER)
        assert "; 1 blob (3000 bytes) copied." in place.do("backup", home)

    def test_a_source_of_repairs(self, home: Home, place: Place) -> None:
        """A backup has what `portside check --repair --from` looks for."""
        place.do("backup", home)
        Bytes(home, LAYER).flip()
        repair = ("check", "--repair", "--from", place.name)
        assert run_inside(*repair, *home.place)[0] == 0
        assert Bytes(home, LAYER).read() == LAYER


@contextmanager
def churn(registry: RunningRegistry, number: int) -> Iterator[None]:
    """Push images, and delete their manifests and blobs, until the block ends."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with connect(registry.url) as client:
                round_ = 0
                while not ended.is_set():
                    round_ += 1
                    _push_and_delete(client, f"churn/{number}", image((number, round_)))
        except BaseException as error:  # noqa: BLE001  # the test that started this thread raises it
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert failed == []


def _push_and_delete(client: httpx.Client, repository: str, content: Content) -> None:
    push(client, repository, content, "latest")
    assert client.delete(f"/v2/{repository}/manifests/{content.digest}").status_code == 202
    # These bytes go at once, and the others with the collector.
    loose = [push_blob(client, repository, make_blob(2000, (content.digest, n))) for n in range(5)]
    for digest in loose:
        # The collector may have been quicker.
        answer = client.delete(f"/v2/{repository}/blobs/{digest}")
        assert answer.status_code in {202, 404}


def test_while_it_serves(make: MakeHome, tmp_path: Path) -> None:
    """Beside pushes, deletes and a collector in a hurry, every snapshot has all that it names."""
    for kind in (DISK, ON_S3):
        home = make(kind)
        place = place_beside(home)
        hurry = ("--gc-grace", "1", "--gc-interval", "1", "--keep-deleted", "0")
        with ExitStack() as stack:
            registry = stack.enter_context(
                running_registry(home.data, *home.options, *hurry, env=home.env)
            )
            with connect(registry.url) as client:
                push(client, "team/app", APP, "v1")
            for number in range(3):
                stack.enter_context(churn(registry, number))
            for _ in range(3):
                place.do("backup", home)
        assert place.verify() == (0, ["No problem in 3 snapshots."])
        target = Home(tmp_path / kind)
        assert "Everything was verified." in place.do("restore", target)
        assert find_problems(target) == []


@pytest.mark.parametrize("kind", [DISK, ON_S3])
def test_killed(make: MakeHome, kind: str) -> None:
    """A backup that is killed leaves former snapshots whole, and the next one goes on."""
    home = make(kind)
    place = place_beside(home)
    fill(home, [APP])
    place.do("backup", home)
    fill(home, [image(number, layer_size=300_000) for number in range(20)])
    kill_after(["backup", place.name, *home.place], place.count, 10)
    assert place.verify() == (0, ["No problem in 1 snapshot."])
    printed = place.do("backup", home)
    copied = re.search(r"; (\d+) blobs ", printed)
    assert copied is not None
    assert 0 < int(copied[1]) <= 57
    assert place.verify() == (0, ["No problem in 2 snapshots."])
    if kind == DISK:
        assert sorted(path.name for path in Path(place.name).iterdir()) == [
            *("blobs", "registry.json", "snapshots", "uploads"),
        ]
        assert list((Path(place.name) / "uploads").iterdir()) == []


def test_one_at_a_time(home: Home, place: Place) -> None:
    """A backup waits for another one of the registry, and for a move of it."""

    async def try_beside() -> str:
        async with opened(home) as stores, stores.metadata.claim():
            return await asyncio.to_thread(place.refused, "backup", home)

    assert "is running on this registry" in asyncio.run(try_beside())
