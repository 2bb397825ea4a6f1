"""`/readyz` notices what would make a pull fail, `/readyz/writes` what would make a push fail."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from portside.bootstrap import connected_stores
from portside.config import Settings
from portside.operations.readiness import Readiness
from portside.spec.errors import NotReady
from support.content import digest_of, image
from support.server import RunningRegistry, running_registry
from support.waiting import until
from support.wire import ONCE, assert_error, connect, push


def replace(data: Path) -> None:
    """Put a copy in the place of the database."""
    shutil.copy(data / "portside.db", data / "copy.db")
    (data / "copy.db").rename(data / "portside.db")


def overwrite(data: Path) -> None:
    """Write garbage over the whole database, in the same file."""
    path = data / "portside.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"x" * size)


TROUBLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no blobs": (lambda data: (data / "blobs").rename(data / "moved"), "blobs"),
    "no blobs of sha512": (
        lambda data: (data / "blobs" / "sha512").rename(data / "moved"),
        "blobs/sha512",
    ),
    "no database": (lambda data: (data / "portside.db").rename(data / "moved"), "portside.db"),
    "another database": (replace, "was replaced; restart the registry"),
    "garbage": (overwrite, "file is not a database; stop the registry and restore a backup"),
}


@pytest.fixture
def registry(data: Path) -> Iterator[RunningRegistry]:
    """Serve with one worker, which has read and written."""
    with (
        running_registry(data, "--workers", "1") as running,
        connect(running.url) as client,
    ):
        push(client, "a", image("first"), "v1")
        assert client.get("/v2/a/manifests/v1").status_code == 200
        yield running


@pytest.mark.parametrize("kind", TROUBLE)
def test_trouble(registry: RunningRegistry, kind: str) -> None:
    """Each is 503 for everybody, and the log says once which file or directory it is."""
    cause, expected = TROUBLE[kind]
    cause(registry.data)
    for _ in range(3):
        detail = assert_error(httpx.get(f"{registry.url}/readyz", **ONCE), 503, "UNAVAILABLE")
        assert str(registry.data) not in detail
        assert expected not in detail
    for path in ("/", "/openapi.json", "/healthz"):
        assert httpx.get(f"{registry.url}{path}", **ONCE).status_code == 200
    (line,) = [line for line in registry.log.splitlines() if "not ready" in line]
    assert expected in line
    assert detail.startswith(("the database does not work", "the blob store does not work"))
    assert line.split("failure ")[1][:32] in detail


@pytest.mark.parametrize("kind", TROUBLE)
def test_trouble_of_both(registry: RunningRegistry, kind: str) -> None:
    """What cannot be read cannot be written to either, and the log says the first only."""
    TROUBLE[kind][0](registry.data)
    detail = assert_error(httpx.get(f"{registry.url}/readyz/writes", **ONCE), 503, "UNAVAILABLE")
    assert " does not work; " in detail
    assert "cannot be written to" not in registry.log


def test_writes_alone(registry: RunningRegistry) -> None:
    """A store that can only be read is ready for pulls, and the log says once what fails."""
    uploads = registry.data / "uploads"
    uploads.rename(registry.data / "moved")
    for _ in range(3):
        answer = httpx.get(f"{registry.url}/readyz/writes", **ONCE)
        detail = assert_error(answer, 503, "UNAVAILABLE")
        assert httpx.get(f"{registry.url}/readyz", **ONCE).status_code == 200
    (line,) = [line for line in registry.log.splitlines() if "not ready" in line]
    assert line.endswith(f"{uploads}: No such file or directory")
    assert detail.startswith("the blob store cannot be written to; the log has the cause")
    assert line.split("failure ")[1][:32] in detail
    (registry.data / "moved").rename(uploads)
    until(lambda: httpx.get(f"{registry.url}/readyz/writes", **ONCE).status_code == 200)


def test_nobody_asks_for_writes(registry: RunningRegistry) -> None:
    """Where only `/readyz` is asked, the log says as well that writes fail."""
    (registry.data / "uploads").rename(registry.data / "moved")
    assert httpx.get(f"{registry.url}/readyz", **ONCE).status_code == 200
    until(lambda: "the blob store cannot be written to" in registry.log)


def test_nothing_is_left(registry: RunningRegistry) -> None:
    """The files by which the store is tried go again, also where it fails."""
    (registry.data / "uploads" / "in the way").touch()
    shutil.rmtree(registry.data / "blobs" / "sha512")
    (registry.data / "blobs" / "sha512").touch()
    assert httpx.get(f"{registry.url}/readyz/writes", **ONCE).status_code == 503
    assert list(registry.data.rglob(".probe-*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("left", [0, 100_000])
def test_a_full_disk(small_disk: Path, left: int) -> None:
    """Pulls go on; pushes do not, where nothing is left and where only the reserve is."""
    options = ("--workers", "1", "--reserve-bytes", str(1024 * 1024))
    with (
        running_registry(small_disk / "data", *options) as registry,
        connect(registry.url) as client,
    ):
        content = image("first")
        push(client, "a", content, "v1")
        filler = small_disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - left))
        assert_error(client.get("/readyz/writes"), 503, "UNAVAILABLE")
        assert client.get("/readyz").status_code == 200
        for path in ("manifests/v1", f"blobs/{digest_of(content.blobs[1])}"):
            assert client.get(f"/v2/a/{path}").status_code == 200
        assert client.post("/v2/a/blobs/uploads/").status_code == 507
        assert registry.log.count("not ready: the blob store cannot be written to: ") == 1
        filler.unlink()
        until(lambda: client.get("/readyz/writes").status_code == 200)


@pytest.mark.anyio
async def test_how_often(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The blob store is written to once in the interval; one that fails is tried every second.

    The log says once that it fails, and once that it works again.
    """
    caplog.set_level("INFO")
    moment = 0.0
    settings = Settings(data=str(data))
    async with connected_stores(settings) as stores:
        await stores.create()
        readiness = Readiness(
            stores.metadata, stores.blobs, probe_interval=10, clock=lambda: moment
        )

        def last_write() -> int:
            return (data / "uploads").stat().st_mtime_ns

        await asyncio.gather(*(readiness.check_writes() for _ in range(10)))
        first = last_write()
        moment = 9.9
        await readiness.check_writes()
        assert last_write() == first
        moment = 10.0
        await asyncio.gather(*(readiness.check_writes() for _ in range(10)))
        assert last_write() > first
        (data / "uploads").rename(data / "moved")
        await readiness.check_writes()
        moment = 20.0
        with pytest.raises(NotReady, match="the blob store cannot be written to"):
            await readiness.check_writes()
        moment = 21.0
        with pytest.raises(NotReady):
            await readiness.check_writes()
        (data / "moved").rename(data / "uploads")
        moment = 21.9
        with pytest.raises(NotReady):
            await readiness.check_writes()
        moment = 22.0
        await readiness.check_writes()
        moment = 32.0
        await readiness.check_writes()
    failure, recovery = [record.getMessage() for record in caplog.records]
    assert "not ready" in failure
    assert recovery == "the blob store can be written to again"


async def test_an_asker_that_goes(data: Path) -> None:
    """Whoever does not wait for the result takes it from nobody else."""
    async with connected_stores(Settings(data=str(data))) as stores:
        await stores.create()
        readiness = Readiness(stores.metadata, stores.blobs, probe_interval=10, clock=lambda: 0)
        first, *others = [asyncio.ensure_future(readiness.check_writes()) for _ in range(3)]
        await asyncio.wait([first, *others], timeout=0)
        first.cancel()
        await asyncio.gather(*others)
        assert first.cancelled()


def test_whoever_asks(registry: RunningRegistry) -> None:
    """Askers cost one write together."""
    uploads = registry.data / "uploads"
    with connect(registry.url) as client:
        assert client.get("/readyz/writes").status_code == 200
        written = uploads.stat().st_mtime_ns
        for _ in range(50):
            assert client.get("/readyz/writes").status_code == 200
        assert uploads.stat().st_mtime_ns == written


def test_causes_are_for_the_log(registry: RunningRegistry) -> None:
    """An answer of 5xx has no paths, and leads to the line of the log that has them."""
    (registry.data / "uploads").rename(registry.data / "moved")
    requests = set()
    for name in "abc":
        path = f"/v2/{name}/blobs/uploads/"
        query = {"digest": digest_of(b"x")}
        answer = httpx.post(registry.url + path, params=query, content=b"x", **ONCE)
        detail = assert_error(answer, 503, "UNAVAILABLE")
        assert "try again later" in detail
        assert str(registry.data) not in answer.text
        assert answer.headers["Retry-After"]
        request = answer.headers["X-Request-Id"]
        (line,) = [line for line in registry.log.splitlines() if request in line]
        assert f" ERROR request {request}: POST {path}: " in line
        assert line.endswith("opening an upload: No such file or directory")
        assert "opening an upload" not in answer.text
        requests.add(request)
    assert len(requests) == 3
