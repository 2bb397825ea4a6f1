"""A disk that is full, and one that fails to sync."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checks import assert_sound
from support.content import digest_of, image, make_blob
from support.server import RunningRegistry, run_portside, running_registry
from support.waiting import until
from support.wire import (
    OCTETS,
    assert_error,
    connect,
    open_upload,
    push,
    push_blob,
    put_manifest,
)

MIB = 1024 * 1024

FAILING_SYNC = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void) {
    const char *flag = getenv("FAIL_SYNC_WHILE");
    if (flag != NULL && access(flag, F_OK) == 0) { errno = EIO; return 1; }
    return 0;
}
int fsync(int fd) { return fails() ? -1 : (int) syscall(74, fd); }
int fdatasync(int fd) { return fails() ? -1 : (int) syscall(75, fd); }
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class TestFullDisk:
    """ENOSPC in the middle of everything."""

    def test_nothing_is_lost(self, small_disk: Path) -> None:
        """A push that does not fit is 507; what was there stays, and room lets pushes go on."""
        with (
            running_registry(small_disk / "data", "--reserve-bytes", "0") as registry,
            connect(registry.url) as client,
        ):
            kept = image("kept")
            push(client, "a", kept, "v1")
            large = make_blob(30 * MIB, "large")
            query = {"digest": digest_of(large)}
            path = "/v2/a/blobs/uploads/"
            answer = client.post(path, params=query, content=large, headers=OCTETS)
            detail = assert_error(answer, 507, "UNAVAILABLE")
            assert "the log of the registry has the cause" in detail
            assert str(small_disk) not in answer.text
            location = open_upload(client, "a")
            answer = client.patch(location, content=large, headers=OCTETS)
            assert_error(answer, 507, "UNAVAILABLE")
            assert client.get(location).headers["Range"] == "0-0"
            assert client.get("/v2/a/manifests/v1").content == kept.manifest
            assert client.delete(location).status_code == 204
            push(client, "a", image("after"), "v2")
        assert_sound(small_disk / "data")

    def test_fill_to_the_brim(self, small_disk: Path) -> None:
        """Pushes until the disk is full fail cleanly, in the blob store and in the database."""
        pushed: dict[str, bytes] = {}
        refused = 0
        with (
            running_registry(small_disk / "data", "--reserve-bytes", str(MIB)) as registry,
            connect(registry.url) as client,
        ):
            for size in (MIB, 30_000, 500):
                for number in range(200):
                    content = make_blob(size, (size, number))
                    digest = digest_of(content)
                    answer = client.post(
                        "/v2/a/blobs/uploads/", params={"digest": digest}, content=content
                    )
                    if answer.status_code != 201:
                        assert_error(answer, 507, "UNAVAILABLE")
                        refused += 1
                        break
                    pushed[digest] = content
            assert refused
            assert client.get("/healthz").status_code == 200
            for digest, content in pushed.items():
                assert client.get(f"/v2/a/blobs/{digest}").content == content
            for digest in list(pushed)[:8]:
                assert client.delete(f"/v2/a/blobs/{digest}").status_code == 202
                del pushed[digest]
            push_blob(client, "a", make_blob(MIB, "again"))
            until(lambda: client.get("/readyz/writes").status_code == 200)
        assert_sound(small_disk / "data")

    def test_deletes_have_room(self, small_disk: Path) -> None:
        """Manifests fill the disk up to the reserve, others all of it; deletes still succeed."""
        with (
            running_registry(small_disk / "data", "--reserve-bytes", str(4 * MIB)) as registry,
            connect(registry.url) as client,
        ):
            push(client, "a", image("kept"), "v1")
            (small_disk / "other").write_bytes(bytes(8 * MIB))
            tags = []
            for number in range(300):
                content = image("kept", annotations={"n": f"{number}" + "x" * 200_000})
                answer = put_manifest(client, "a", content, f"t{number}")
                if answer.status_code != 201:
                    break
                tags.append((f"t{number}", content.digest))
            assert_error(answer, 507, "UNAVAILABLE")
            location = "/v2/a/blobs/uploads/"
            assert_error(client.post(location), 507, "UNAVAILABLE")
            with (small_disk / "filler").open("wb") as file:
                file.write(bytes(shutil.disk_usage(small_disk).free))
            for reference in (reference for pair in tags for reference in pair):
                assert client.delete(f"/v2/a/manifests/{reference}").status_code == 202
            assert client.get("/v2/a/manifests/v1").status_code == 200
            (small_disk / "filler").unlink()
            (small_disk / "other").unlink()
            push(client, "a", image("after"), "v2")
        assert_sound(small_disk / "data")

    def test_start(self, small_disk: Path) -> None:
        """A start on a full disk ends in one line."""
        (small_disk / "filler").write_bytes(b"")
        with (small_disk / "filler").open("wb") as file:
            free = shutil.disk_usage(small_disk).free
            file.write(bytes(free))
        data = str(small_disk / "data")
        code, printed, errors = run_portside("serve", "--data", data, "--listen", "127.0.0.1:0")
        assert code == 1
        assert printed == ""
        assert errors.startswith("portside: ")
        assert len(errors.splitlines()) == 1


class TestFailingSync:
    """fsync that returns EIO: nothing may be acknowledged."""

    @pytest.fixture
    def registry(self, data: Path, tmp_path: Path) -> Iterator[RunningRegistry]:
        """Serve with a C library whose syncs fail while a file is there."""
        source, library = tmp_path / "sync.c", tmp_path / "sync.so"
        source.write_text(FAILING_SYNC)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        env = {"LD_PRELOAD": str(library), "FAIL_SYNC_WHILE": str(tmp_path / "failing")}
        with running_registry(data, "--workers", "1", env=env) as registry:
            yield registry

    def test_no_acknowledgement(self, registry: RunningRegistry, tmp_path: Path) -> None:
        """Every write is refused with 503 while syncs fail, and succeeds afterwards."""
        failing = tmp_path / "failing"
        first, second = make_blob(1000, 1), make_blob(1000, 2)
        with connect(registry.url) as client:
            push(client, "a", image("kept"), "v1")
            location = open_upload(client, "a")
            assert client.patch(location, content=first).status_code == 202
            failing.touch()
            path = "/v2/a/blobs/uploads/"
            query = {"digest": digest_of(second)}
            assert_error(client.patch(location, content=second), 503, "UNAVAILABLE")
            answer = client.post(path, params=query, content=second)
            assert_error(answer, 503, "UNAVAILABLE")
            assert_error(client.post(path), 503, "UNAVAILABLE")
            until(lambda: client.get("/readyz/writes").status_code == 503)
            assert client.get("/readyz").status_code == 200
            assert client.delete("/v2/a/manifests/v1").status_code == 503
            failing.unlink()
            until(lambda: client.get("/readyz/writes").status_code == 200)
            assert client.get("/v2/a/manifests/v1").status_code == 200
            assert client.get(f"/v2/a/blobs/{query['digest']}").status_code == 404
            assert client.get(location).headers["Range"] == "0-999"
            whole = {"digest": digest_of(first + second)}
            assert client.put(location, params=whole, content=second).status_code == 201
            answer = client.get(f"/v2/a/blobs/{whole['digest']}")
            assert answer.content == first + second
        assert registry.stop() == 0
        assert_sound(registry.data)


def test_reserve_holds_for_every_push(data: Path) -> None:
    """Below the reserve nothing is added, and everything can be read and deleted."""
    content = image("kept")
    with running_registry(data, "--workers", "1") as registry, connect(registry.url) as client:
        push(client, "a", content, "v1")
    reserved = ("--workers", "1", "--reserve-bytes", str(1 << 50))
    with running_registry(data, *reserved) as registry, connect(registry.url) as client:
        layer = digest_of(content.blobs[1])
        assert_error(put_manifest(client, "a", content, "v2"), 507, "UNAVAILABLE")
        uploads = "/v2/b/blobs/uploads/"
        for query in ({}, {"mount": layer, "from": "a"}, {"digest": digest_of(b"x")}):
            answer = client.post(uploads, params=query, content=b"x" if "digest" in query else b"")
            assert_error(answer, 507, "UNAVAILABLE")
        assert client.get("/v2/a/manifests/v1").content == content.manifest
        assert client.get(f"/v2/a/blobs/{layer}").content == content.blobs[1]
        for path in ("manifests/v1", f"manifests/{content.digest}", f"blobs/{layer}"):
            assert client.delete(f"/v2/a/{path}").status_code == 202
