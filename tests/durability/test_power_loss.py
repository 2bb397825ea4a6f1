"""A power cut at any moment: what was acknowledged had been synced before.

`kill -9` leaves the page cache, so it cannot show a missing sync. Here the calls of a registry are
recorded, and a registry is started from what a disk may hold after a cut at some moment.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from portside.config import Settings
from portside.stores.marks import NAME
from support.checks import find_problems
from support.content import Content, digest_of, image, make_blob
from support.homes import Home
from support.inside import serve_inside
from support.ledgers import Ledger
from support.missing import server_needed
from support.postgres import Server
from support.power_loss import Change, Recording, require_tracer, trace_command
from support.processes import workers_of
from support.server import RunningRegistry, start_registry
from support.wire import OCTETS, ONCE, connect

MIB = 1024 * 1024
RANDOM_CUTS = 30
CHECKED = 5


@dataclass
class Acknowledged:
    """What one client was told, and what its request that is under way may have done."""

    repositories: dict[str, Ledger] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)

    def of(self, repository: str) -> Ledger:
        """Return the ledger of a repository."""
        return self.repositories.setdefault(repository, Ledger(repository))


class Witness:
    """A client that makes one request after the other, and remembers what it knew before each."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.known = Acknowledged()
        self.before: list[Acknowledged] = []

    def ask(self, method: str, path: str, expected: int, **options: Any) -> httpx.Response:
        """Make one request, whose answer must have the expected status."""
        self.before.append(deepcopy(self.known))
        answer = self._client.request(method, path, **options)
        assert answer.status_code == expected, answer.text
        return answer

    def push_at_once(self, repository: str, blob: bytes) -> None:
        """Push a blob by one request."""
        self.known.of(repository).blob_may_be(blob, there=True)
        path = f"/v2/{repository}/blobs/uploads/?digest={digest_of(blob)}"
        self.ask("POST", path, 201, content=blob, headers=OCTETS)
        self.known.of(repository).blob_is(blob, there=True)

    def begin(self, repository: str, *pieces: bytes) -> str:
        """Open an upload session and send pieces; returns its location."""
        location = self.ask("POST", f"/v2/{repository}/blobs/uploads/", 202).headers["Location"]
        self.known.uploads[location] = b""
        for piece in pieces:
            self.ask("PATCH", location, 202, content=piece, headers=OCTETS)
            self.known.uploads[location] += piece
        return location

    def finish(self, repository: str, location: str, rest: bytes = b"") -> None:
        """Finish an upload session with the rest of the blob."""
        blob = self.known.uploads.pop(location) + rest
        self.known.of(repository).blob_may_be(blob, there=True)
        query = {"digest": digest_of(blob)}
        self.ask("PUT", location, 201, params=query, content=rest, headers=OCTETS)
        self.known.of(repository).blob_is(blob, there=True)

    def mount(self, repository: str, source: str, blob: bytes) -> None:
        """Mount a blob of another repository."""
        self.known.of(repository).blob_may_be(blob, there=True)
        query = {"mount": digest_of(blob), "from": source}
        self.ask("POST", f"/v2/{repository}/blobs/uploads/", 201, params=query)
        self.known.of(repository).blob_is(blob, there=True)

    def tag(self, repository: str, content: Content, tag: str) -> None:
        """Push a manifest under a tag."""
        self.known.of(repository).may_have_tagged(content, tag)
        headers = {"Content-Type": content.media_type}
        path = f"/v2/{repository}/manifests/{tag}"
        self.ask("PUT", path, 201, content=content.manifest, headers=headers)
        self.known.of(repository).has_tagged(content, tag)

    def delete_manifest(self, repository: str, content: Content) -> None:
        """Delete a manifest by its digest."""
        self.known.of(repository).may_have_deleted(content.digest)
        self.ask("DELETE", f"/v2/{repository}/manifests/{content.digest}", 202)
        self.known.of(repository).has_deleted(content.digest)

    def delete_blob(self, repository: str, blob: bytes) -> None:
        """Delete a blob."""
        self.known.of(repository).blob_may_be(blob, there=False)
        self.ask("DELETE", f"/v2/{repository}/blobs/{digest_of(blob)}", 202)
        self.known.of(repository).blob_is(blob, there=False)


def work(witness: Witness) -> None:
    """Do everything that changes a registry, in each of the ways that there are."""
    first, second = image("first"), image("second")
    for blob in first.blobs:
        witness.push_at_once("a", blob)
    witness.tag("a", first, "v1")
    for blob in second.blobs:
        witness.finish("a", witness.begin("a"), blob)
    witness.tag("a", second, "v1")
    long = make_blob(2 * MIB + 12_345, "long")
    witness.finish("a", witness.begin("a", long[:70_000], long[70_000:]))
    witness.finish("a", witness.begin("a", b"some bytes, "), b"and the rest")
    witness.begin("a", b"the start of something")
    for blob in first.blobs:
        witness.mount("b", "a", blob)
    witness.tag("b", first, "v1")
    witness.push_at_once("b", long)
    witness.delete_manifest("a", first)
    witness.delete_blob("a", first.blobs[1])
    witness.delete_blob("a", long)
    witness.delete_blob("b", long)
    witness.push_at_once("b", long)


@dataclass(frozen=True)
class Recorded:
    """A registry's whole life: what it did, and what its client knew before each request."""

    recording: Recording
    known: list[Acknowledged]


@pytest.fixture(scope="module", autouse=True)
def tracer() -> None:
    """Skip without `strace`; in CI, fail."""
    with server_needed():
        require_tracer()


def start_traced(data: Path, record: Path, *options: str) -> RunningRegistry:
    """Start a registry, and record its calls."""
    log = record.with_suffix(".log")
    return start_registry(data, *options, prefix=trace_command(record), log=log)


def stop_traced(running: RunningRegistry) -> None:
    """Stop a registry whose calls are recorded: `strace` passes no signal on."""
    (traced,) = workers_of(running.process.pid)
    os.kill(traced, signal.SIGTERM)
    assert running.wait() == 0


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record the first start of a registry, every kind of change, and its end."""
    folder = tmp_path_factory.mktemp("recorded")
    root = folder / "disk"
    root.mkdir()
    record = folder / "calls"
    data = root / "new" / "data"
    running = start_traced(data, record, "--workers", "1")
    try:
        with connect(running.url) as client:
            witness = Witness(client)
            work(witness)
    finally:
        stop_traced(running)
    recording = Recording(record, root)
    assert len(recording.answers) == len(witness.before)
    return Recorded(recording, [*witness.before, witness.known])


def assert_survived(
    life: Recorded, moment: int, survives: Callable[[Change], bool], to: Path
) -> None:
    """Cut the power at a moment, start again, and read everything back."""
    shutil.rmtree(to, ignore_errors=True)
    life.recording.image(moment, survives).write_to(to)
    known = deepcopy(life.known[life.recording.answers_before(moment)])
    with serve_inside(Settings(data=str(to / "new" / "data"))) as client:
        for ledger in known.repositories.values():
            assert ledger.differences(client) == []
        for location, content in known.uploads.items():
            assert_goes_on(client, location, content)


def assert_goes_on(client: httpx.Client, location: str, acknowledged: bytes) -> None:
    """Finish an upload session of which some bytes were acknowledged, and read the blob."""
    answer = client.get(location)
    assert answer.status_code == 204, answer.text
    received = int(answer.headers["Range"].removeprefix("0-")) + 1
    if acknowledged and received == len(acknowledged):
        digest = digest_of(acknowledged)
        answer = client.put(location, params={"digest": digest})
        assert answer.status_code == 201, answer.text
        assert client.get(answer.headers["Location"]).content == acknowledged
    else:
        # The request that was under way may have been carried out.
        assert received >= len(acknowledged)


def nothing(_: Change) -> bool:
    """Lose every change that was not synced."""
    return False


def names(change: Change) -> bool:
    """Keep names, and lose bytes that were not synced."""
    return change.target.is_directory


def randomly(source: random.Random, _: Change) -> bool:
    """Keep or lose each change by itself."""
    return source.random() < 0.5


@pytest.mark.long
class TestRegistry:
    """A registry's whole life."""

    def test_after_each_answer(self, life: Recorded, tmp_path: Path) -> None:
        """Cut just after an answer was sent, and lose all that was not synced."""
        for moment in life.recording.answers:
            assert_survived(life, moment + 1, nothing, tmp_path / "cut")

    def test_at_any_moment(self, life: Recorded, tmp_path: Path) -> None:
        """Cut anywhere, the first start included, and lose some of what was not synced."""
        source = random.Random("power")
        for number in range(RANDOM_CUTS):
            moment = source.randrange(life.recording.length)
            to = tmp_path / "cut"
            assert_survived(life, moment, partial(randomly, source), to)
            if number < CHECKED:
                problems = find_problems(Home(to / "new" / "data"))
                assert [line for line in problems if not line.startswith("orphaned ")] == []


PLACE_AND_GO_ON = """
import asyncio, sys
from pathlib import Path

from portside.spec.digests import Algorithm
from portside.spec.uploads import UploadId
from portside.stores.blobs.disk.store import DiskBlobs
from support.blobs import stage

async def main():
    blobs = DiskBlobs(Path(sys.argv[1]), hold_timeout=1)
    blobs.create()
    upload = UploadId.fresh()
    await stage(blobs, upload, 0, b"begun", keep=True)
    async with blobs.hold(upload) as staging:
        await staging.resume(5, Algorithm.SHA256)
        place = await staging.place(await staging.finish(Algorithm.SHA256))
        await asyncio.to_thread(place)
    await stage(blobs, upload, 5, b", and more", keep=True)
    blobs.close()
    print(upload)

asyncio.run(main())
"""


def test_upload_that_goes_on_after_it_was_placed(tmp_path: Path) -> None:
    """It goes on in a copy, as the blob must not change: the copy is synced like any upload."""
    root, record = tmp_path / "disk", tmp_path / "calls"
    root.mkdir()
    done = subprocess.run(
        [*trace_command(record), sys.executable, "-c", PLACE_AND_GO_ON, str(root / "data")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    recording = Recording(record, root)
    path = f"{root}/data/uploads/{done.stdout.strip()}"
    assert recording.final_image(nothing).read(path) == b"begun, and more"
    seen = [recording.image(change.end, names).read(path) for change in recording.changes]
    acknowledged = seen[seen.index(b"begun") :]
    assert all(content.startswith(b"begun") for content in acknowledged)


def test_mark(tmp_path: Path, postgresql: Server) -> None:
    """The mark of the blobs is there once a database beside them relies on it."""
    root, record = tmp_path / "disk", tmp_path / "calls"
    root.mkdir()
    options = ("--workers", "1", "--database", postgresql.make_database())
    running = start_traced(root / "data", record, *options)
    try:
        assert httpx.get(f"{running.url}/healthz", **ONCE).status_code == 200
    finally:
        stop_traced(running)
    recording = Recording(record, root)
    recording.image(recording.answers[0], nothing).write_to(tmp_path / "cut")
    written = (root / "data" / NAME).read_bytes()
    assert (tmp_path / "cut" / "data" / NAME).read_bytes() == written
