"""`/readyz` notices what would make a push fail or seems to lose what was pushed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.content import image
from support.server import RunningRegistry, running_registry
from support.wire import assert_error, connect, push


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
    "no uploads": (lambda data: (data / "uploads").rename(data / "moved"), "uploads"),
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
        assert client.get("/readyz").json() == {"status": "ready"}
        yield running


@pytest.mark.parametrize("kind", TROUBLE)
def test_trouble(registry: RunningRegistry, kind: str) -> None:
    """Each is 503, and says which file or directory it is."""
    cause, expected = TROUBLE[kind]
    cause(registry.data)
    detail = assert_error(httpx.get(f"{registry.url}/readyz"), 503, "UNAVAILABLE")
    assert expected in detail


def test_nothing_is_left(registry: RunningRegistry) -> None:
    """The files by which the store is tried go again, also where it fails."""
    (registry.data / "blobs" / "sha512").rmdir()
    assert httpx.get(f"{registry.url}/readyz").status_code == 503
    assert list(registry.data.rglob(".probe-*")) == []


def test_a_full_disk(tmp_path: Path) -> None:
    """It is 503 as well: a load balancer only needs to know whether to send requests here."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], check=True)
    try:
        with running_registry(folder / "data", "--workers", "1") as registry:
            filler = folder / "filler"
            filler.write_bytes(bytes(shutil.disk_usage(folder).free))
            detail = assert_error(httpx.get(f"{registry.url}/readyz"), 503, "UNAVAILABLE")
            assert "space" in detail or "full" in detail
            filler.unlink()
            assert httpx.get(f"{registry.url}/readyz").status_code == 200
    finally:
        subprocess.run(["umount", str(folder)], check=True)
