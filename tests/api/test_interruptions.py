"""Clients that vanish, come back, or come twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from portside.stores.blobs.disk.locks import is_in_use
from support.content import digest_of, image, make_blob
from support.server import RunningRegistry, running_registry
from support.waiting import PATIENCE, until
from support.wire import OCTETS, assert_error, connect, open_upload, push, push_blob, put_manifest

ROUNDS = 5
"""Times that two requests race in a repository that neither has been in before."""


@contextmanager
def half_sent(
    registry: RunningRegistry, method: str, target: str, content: bytes
) -> Iterator[socket.socket]:
    """Announce all of the content and send half of it; hang up at the end of the block."""
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((registry.host, registry.port), PATIENCE) as connection:
        connection.sendall(head.encode() + content[: len(content) // 2])
        yield connection


def read_to_end(connection: socket.socket) -> bytes:
    """End the request where it is, and return what the registry sends until it hangs up too."""
    connection.shutdown(socket.SHUT_WR)
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def offset(client: httpx.Client, location: str) -> int:
    """Ask for the offset of a session."""
    last = int(client.get(location).headers["Range"].removeprefix("0-"))
    return last + 1 if last else 0


class TestCutOff:
    """A connection that ends within a body."""

    @pytest.mark.every_home  # Each blob store keeps in its own way what arrived.
    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    def test_resume(
        self, registry: RunningRegistry, client: httpx.Client, repository: str, method: str
    ) -> None:
        """What arrived is kept; the client asks for the offset and sends the rest."""
        content = make_blob(3_000_000, repository)
        location = open_upload(client, repository)
        target = f"{location}?digest={digest_of(content)}"
        with half_sent(registry, method, target, content):
            pass
        until(lambda: offset(client, location) > 0)
        start = offset(client, location)
        assert 0 < start <= len(content) // 2
        answer = client.patch(
            location,
            content=content[start:],
            headers={**OCTETS, "Content-Range": f"{start}-{len(content) - 1}"},
        )
        assert answer.status_code == 202
        answer = client.put(location, params={"digest": digest_of(content)})
        assert answer.status_code == 201
        assert client.get(f"/v2/{repository}/blobs/{digest_of(content)}").content == content

    def test_one_request(
        self, registry: RunningRegistry, client: httpx.Client, repository: str
    ) -> None:
        """A push in one request that is cut off leaves nothing but a line in the log."""
        content = make_blob(1_000_000, repository)
        target = f"/v2/{repository}/blobs/uploads/?digest={digest_of(content)}"
        staged = registry.data / "uploads"
        before = set(staged.iterdir())
        with half_sent(registry, "POST", target, content):
            until(lambda: not set(staged.iterdir()) <= before)
        until(lambda: set(staged.iterdir()) <= before)
        cut_off = f"POST /v2/{repository}/blobs/uploads/: the request body was cut off: "
        until(lambda: cut_off in registry.log)
        assert client.get(f"/v2/{repository}/blobs/{digest_of(content)}").status_code == 404

    def test_manifest(
        self, registry: RunningRegistry, client: httpx.Client, repository: str
    ) -> None:
        """A manifest that is cut off is not stored, even if what arrived is a manifest as well."""
        content = image(repository)
        push(client, repository, content)
        padded = content.manifest.ljust(2 * len(content.manifest))
        with half_sent(registry, "PUT", f"/v2/{repository}/manifests/half", padded) as connection:
            assert b" 201 " not in read_to_end(connection)
        assert client.get(f"/v2/{repository}/manifests/half").status_code == 404

    def test_silence(self, data: Path, repository: str) -> None:
        """A client that stops sending is told so after a while, and what arrived is kept."""
        with (
            running_registry(data, "--body-timeout", "0.2", "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            location = open_upload(client, repository)
            head = (
                f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabcde"
            )
            with socket.create_connection((registry.host, registry.port), PATIENCE) as connection:
                connection.sendall(head.encode())
                answer = connection.recv(65536).decode()
            assert answer.startswith("HTTP/1.1 408 ")
            assert "BLOB_UPLOAD_INVALID" in answer
            assert client.get(location).headers["Range"] == "0-4"


@pytest.mark.every_home  # Who waits for whom is decided by the locks of the stores.
class TestAtOnce:
    """Two clients that do the same thing at the same time."""

    def test_the_same_blob(self, registry: RunningRegistry, repository: str) -> None:
        """Everybody who pushes one blob succeeds, and it is whole."""
        content = make_blob(500_000, repository)

        def push_it(number: int) -> int:
            with connect(registry.url) as client:
                location = open_upload(client, f"{repository}/{number % 2}")
                query = {"digest": digest_of(content)}
                return client.put(location, params=query, content=content).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(push_it, range(8))) == {201}
        with connect(registry.url) as client:
            for number in range(2):
                path = f"/v2/{repository}/{number}/blobs/{digest_of(content)}"
                assert client.get(path).content == content

    def test_the_same_tag(self, registry: RunningRegistry, repository: str) -> None:
        """A tag that many move at once ends at one of the manifests, and all of them are there."""
        contents = [image((repository, number)) for number in range(8)]

        def push_it(number: int) -> int:
            with connect(registry.url) as client:
                return push(client, repository, contents[number], "v1").status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(push_it, range(8))) == {201}
        with connect(registry.url) as client:
            tagged = client.get(f"/v2/{repository}/manifests/v1").content
            assert tagged in [content.manifest for content in contents]
            for content in contents:
                path = f"/v2/{repository}/manifests/{content.digest}"
                assert client.get(path).content == content.manifest

    def test_a_tag_is_made_by_one(self, registry: RunningRegistry, repository: str) -> None:
        """Of many that make a tag under If-None-Match: *, exactly one succeeds."""
        contents = [image((repository, number)) for number in range(6)]
        with connect(registry.url) as client:
            for content in contents:
                push(client, repository, content)

        def make_it(number: int) -> int:
            headers = {"Content-Type": contents[number].media_type, "If-None-Match": "*"}
            with connect(registry.url) as client:
                path = f"/v2/{repository}/manifests/v1"
                body = contents[number].manifest
                return client.put(path, content=body, headers=headers).status_code

        with ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(make_it, range(6))) == [201] + [412] * 5

    def test_the_same_chunk(self, registry: RunningRegistry, repository: str) -> None:
        """Of many that send the same ranged chunk, one is taken and the others see the offset."""
        content = make_blob(2_000_000, repository)
        with connect(registry.url) as client:
            location = open_upload(client, repository)

        def send(_: int) -> int:
            headers = {**OCTETS, "Content-Range": f"0-{len(content) - 1}"}
            with connect(registry.url) as client:
                answer = client.patch(location, content=content, headers=headers)
                assert answer.headers["Range"] == f"0-{len(content) - 1}"
                return answer.status_code

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(send, range(4))) == [202, 416, 416, 416]
        with connect(registry.url) as client:
            answer = client.put(location, params={"digest": digest_of(content)})
            assert answer.status_code == 201

    def test_the_same_end(self, registry: RunningRegistry, repository: str) -> None:
        """Of many that finish one session, one does and the others are answered alike."""
        content = make_blob(100_000, repository)
        with connect(registry.url) as client:
            location = open_upload(client, repository)
            client.patch(location, content=content)

        def end(_: int) -> int:
            with connect(registry.url) as client:
                query = {"digest": digest_of(content)}
                return client.put(location, params=query).status_code

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(end, range(4))) == {201}

    def test_a_stalled_writer(self, data: Path, repository: str) -> None:
        """A session that somebody else keeps busy is 409 after a while, and not lost."""
        with (
            running_registry(data, "--upload-hold-timeout", "0.2") as registry,
            connect(registry.url) as client,
        ):
            location = open_upload(client, repository)
            head = (
                f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabcde"
            )
            with socket.create_connection((registry.host, registry.port)) as connection:
                connection.sendall(head.encode())
                path = data / "uploads" / location.rpartition("/")[2]
                until(lambda: path.exists() and is_in_use(str(path)))
                answer = client.patch(location, content=b"x")
                assert_error(answer, 409, "BLOB_UPLOAD_INVALID")
            until(lambda: client.get(location).headers["Range"] == "0-4")

    def test_delete_and_push(self, registry: RunningRegistry, repository: str) -> None:
        """A manifest is never left without its blobs, whatever is deleted at the same time."""
        content = image(repository, layers=1)
        digest = digest_of(content.blobs[1])

        def delete(layer: str) -> int:
            with connect(registry.url) as client:
                return client.delete(layer).status_code

        def put(name: str) -> int:
            with connect(registry.url) as client:
                return put_manifest(client, name, content, "v1").status_code

        with ThreadPoolExecutor(2) as pool, connect(registry.url) as client:
            for number in range(ROUNDS):
                name = f"{repository}/{number}"
                layer = f"/v2/{name}/blobs/{digest}"
                for blob in content.blobs:
                    push_blob(client, name, blob)
                deleting, putting = pool.submit(delete, layer), pool.submit(put, name)
                outcome = (deleting.result(), putting.result())
                assert outcome in {(202, 400), (405, 201)}
                left = 200 if outcome == (405, 201) else 404
                assert client.get(f"/v2/{name}/manifests/v1").status_code == left
                assert client.get(layer).status_code == left
