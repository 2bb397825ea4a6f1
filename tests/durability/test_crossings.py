"""Concurrent requests, and failures between two steps of one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from support.checks import assert_sound
from support.content import OCI_MANIFEST, descriptor, digest_of, image, make_blob
from support.processes import Stillness, workers_of
from support.server import RunningRegistry, running_registry, start_registry
from support.waiting import PATIENCE, until
from support.wire import OCTETS, connect, open_upload, push, push_blob

MIB = 1024 * 1024

Send = Callable[..., None]


@contextmanager
def one_batch(registry: RunningRegistry, answers: list[int]) -> Iterator[Send]:
    """Send requests one after another whose writes end up in one batch, in that order.

    The writer of the one worker waits for the lock with a first job; writes that arrive while it
    does wait in its queue, and are taken together when the lock is free. Each request is sent when
    the one before it is in the queue: when the worker has read it, and is still.

    The statuses of the answers are added to `answers` at the end of the block.
    """
    (worker,) = workers_of(registry.process.pid)
    sent: list[HTTPConnection] = []
    with ExitStack() as stack:

        def send(method: str, target: str, content: bytes = b"") -> None:
            connection = HTTPConnection(registry.host, registry.port, timeout=PATIENCE)
            stack.enter_context(closing(connection))
            connection.request(method, target, content)
            until(lambda: not unacknowledged(connection.sock))
            until(Stillness(worker).has_come)
            sent.append(connection)

        lock = os.open(registry.data / "portside.db.lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            send("POST", "/v2/first/blobs/uploads/")
            yield send
        finally:
            os.close(lock)
        answers += [connection.getresponse().status for connection in sent[1:]]


def unacknowledged(connection: socket.socket) -> int:
    """Count the bytes that the system of the other end has not received."""
    count = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("i", count)[0])


class TestOneBatch:
    """Writes that share a transaction."""

    @pytest.fixture
    def registry(self, data: Path) -> Iterator[RunningRegistry]:
        """Serve with one worker, and so with one writer."""
        with running_registry(data, "--workers", "1") as running:
            yield running

    def test_delete_and_push(self, registry: RunningRegistry) -> None:
        """A push behind the delete of the last link keeps the bytes that it has placed."""
        content = make_blob(1000, "crossing")
        with connect(registry.url) as client:
            digest = push_blob(client, "a", content)
            location = open_upload(client, "b")
            statuses: list[int] = []
            with one_batch(registry, statuses) as send:
                send("DELETE", f"/v2/a/blobs/{digest}")
                send("PUT", f"{location}?digest={digest}", content)
            assert statuses == [202, 201]
            assert client.get(f"/v2/b/blobs/{digest}").content == content
            assert client.get(f"/v2/a/blobs/{digest}").status_code == 404
        assert registry.stop() == 0
        assert_sound(registry.data)

    def test_push_and_delete(self, registry: RunningRegistry) -> None:
        """The other order: a link that was made before the delete keeps the bytes as well."""
        content = make_blob(1000, "crossing")
        with connect(registry.url) as client:
            digest = push_blob(client, "a", content)
            location = open_upload(client, "b")
            statuses: list[int] = []
            with one_batch(registry, statuses) as send:
                send("PUT", f"{location}?digest={digest}", content)
                send("DELETE", f"/v2/a/blobs/{digest}")
            assert statuses == [201, 202]
            assert client.get(f"/v2/b/blobs/{digest}").content == content
        assert registry.stop() == 0
        assert_sound(registry.data)

    def test_layer_here_and_elsewhere(self, registry: RunningRegistry) -> None:
        """A layer that is named twice, once with a place elsewhere, is required once."""
        layer = make_blob(10, "layer")
        named = descriptor(layer, "application/vnd.oci.image.layer.v1.tar")
        twice = image("x", layers=0)
        document = twice.manifest.decode().replace(
            '"layers": []',
            f'"layers": [{json.dumps(named)}, {json.dumps({**named, "urls": ["https://a"]})}]',
        )
        with connect(registry.url) as client:
            for blob in (layer, *twice.blobs):
                push_blob(client, "a", blob)
            target = "/v2/a/manifests/v1"
            answer = client.put(target, content=document, headers={"Content-Type": OCI_MANIFEST})
            assert answer.status_code == 201, answer.text
            assert client.delete(f"/v2/a/blobs/{digest_of(layer)}").status_code == 405


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_acknowledged_bytes_survive_a_failed_end(small_disk: Path) -> None:
    """A PUT that fails for want of room, twice, leaves what a PATCH was told is kept."""
    content = make_blob(8 * MIB, "large")
    query = {"digest": digest_of(content)}
    first, rest = content[: 7 * MIB], content[7 * MIB :]
    options = ("--workers", "1", "--reserve-bytes", "0")
    with (
        running_registry(small_disk / "data", *options) as registry,
        connect(registry.url) as client,
    ):
        location = open_upload(client, "a")
        assert client.patch(location, content=first, headers=OCTETS).status_code == 202
        filler = small_disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - MIB - 4096))
        for _ in range(2):
            answer = client.put(location, params=query, content=rest)
            assert answer.status_code in {503, 507}, answer.text
        filler.unlink()
        assert client.get(location).headers["Range"] == f"0-{len(first) - 1}"
        assert client.put(location, params=query, content=rest).status_code == 201
        assert client.get(f"/v2/a/blobs/{query['digest']}").content == content
    assert_sound(small_disk / "data")


FAILING_LOG = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *flag = getenv("FAIL_SYNC_WHILE");
    char link[64], path[512];
    if (flag == NULL || access(flag, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strstr(path, "-wal") == NULL) return 0;
    errno = EIO;
    return 1;
}
int fsync(int fd) { return fails(fd) ? -1 : (int) syscall(74, fd); }
int fdatasync(int fd) { return fails(fd) ? -1 : (int) syscall(75, fd); }
"""


def test_a_refused_offset_that_comes_to_hold(data: Path, tmp_path: Path) -> None:
    """A commit that failed in its sync may hold after a crash: then the bytes are there."""
    source, library = tmp_path / "log.c", tmp_path / "log.so"
    source.write_text(FAILING_LOG)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    failing = tmp_path / "failing"
    env = {"LD_PRELOAD": str(library), "FAIL_SYNC_WHILE": str(failing)}
    content = make_blob(3000, "content")
    registry = start_registry(data, "--workers", "1", env=env)
    with connect(registry.url) as client:
        location = open_upload(client, "a")
        assert client.patch(location, content=content[:1000]).status_code == 202
        push(client, "a", image("more"), "v1")
        failing.touch()
        assert client.patch(location, content=content[1000:2000]).status_code == 503
    registry.kill()
    with (
        running_registry(data) as registry,
        connect(registry.url) as client,
    ):
        start = int(client.get(location).headers["Range"].removeprefix("0-")) + 1
        assert start in {1000, 2000}
        query = {"digest": digest_of(content)}
        assert client.put(location, params=query, content=content[start:]).status_code == 201
        assert client.get(f"/v2/a/blobs/{query['digest']}").content == content
    assert_sound(data, crashed=True)


def test_aborted_downloads_leave_nothing_open(data: Path) -> None:
    """A worker that may open few files still serves after many aborted downloads."""
    limit = ("prlimit", "--nofile=256:256")
    with (
        running_registry(data, "--workers", "1", prefix=limit) as registry,
        connect(registry.url) as client,
    ):
        digest = push_blob(client, "a", make_blob(4 * MIB, "large"))
        request = (
            f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n"
            f"Range: bytes=0-{2 * MIB},{2 * MIB + 1}-{4 * MIB - 1}\r\n\r\n"
        )
        for _ in range(500):
            with socket.create_connection((registry.host, registry.port), PATIENCE) as connection:
                connection.sendall(request.encode())
                connection.recv(100)
        assert client.head(f"/v2/a/blobs/{digest}").status_code == 200
        push_blob(client, "a", b"still")


def test_download_of_what_is_gone(registry: RunningRegistry, client: httpx.Client) -> None:
    """A blob whose bytes vanish is BLOB_UNKNOWN."""
    content = make_blob(100_000, "vanishing")
    digest = push_blob(client, "vanishing", content)
    path = registry.data / "blobs" / "sha256" / digest[7:9] / digest[7:]
    path.write_bytes(content[:10])
    assert client.get(f"/v2/vanishing/blobs/{digest}").status_code == 404
    path.unlink()
    answer = client.get(f"/v2/vanishing/blobs/{digest}")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "BLOB_UNKNOWN")
