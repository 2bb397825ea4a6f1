"""Quotas over HTTP: a push beyond one is refused, as early as it is known to be."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from conftest import MakeHome
from support.content import artifact, digest_of, image, make_blob
from support.homes import KINDS, Home
from support.server import RunningRegistry, running_registry
from support.wire import (
    OCTETS,
    assert_error,
    connect,
    open_upload,
    push,
    push_blob,
    put_manifest,
    raw_request,
)

KIB = 1024
QUOTA = 100 * KIB


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Write rules that allow each repository of a team 100 KiB."""
    written = tmp_path / "rules.toml"
    written.write_text('[[repositories]]\nmatch = "team/*"\nquota = "100KiB"\n')
    return written


@pytest.fixture(params=KINDS["every_database"])
def home(make_home: MakeHome, request: pytest.FixtureRequest) -> Home:
    """Make a place for a registry, over each database."""
    return make_home(request.param)


@pytest.fixture
def served(home: Home, rules: Path) -> Iterator[RunningRegistry]:
    """Serve with the rules."""
    options = (*home.options, "--rules", str(rules), "--workers", "2")
    with running_registry(home.data, *options, env=home.env) as registry:
        yield registry


@pytest.fixture
def client(served: RunningRegistry) -> Iterator[httpx.Client]:
    """Connect to the registry."""
    with connect(served.url, timeout=60) as client:
        yield client


def post(client: httpx.Client, content: bytes, repository: str = "team/app") -> httpx.Response:
    """Push a blob in one request."""
    path, digest = f"/v2/{repository}/blobs/uploads/", digest_of(content)
    return client.post(path, params={"digest": digest}, content=content, headers=OCTETS)


def refused(answer: httpx.Response) -> str:
    """Expect that a quota was the reason; return the detail."""
    detail = assert_error(answer, 403, "DENIED")
    message = answer.json()["errors"][0]["message"]
    assert message == "the push would exceed the quota of the repository"
    return detail


class TestRefused:
    """Each request that adds something."""

    def test_blobs(self, client: httpx.Client) -> None:
        """Up to the last byte, in each repository for itself; what is there costs nothing."""
        large, small = make_blob(QUOTA - 5, "large"), b"small"
        assert post(client, large).status_code == 201
        assert refused(post(client, b"6 byte")) == (
            "repository team/app takes 100.0 KiB of its quota of 100.0 KiB, and 6 B more do not"
            " fit; to free space, delete old images (`portside purge`), empty the trash (0 B,"
            " `portside trash empty`), and collect what no manifest needs (100.0 KiB,"
            " `portside collect --grace 0`)"
        )
        location = open_upload(client, "team/app")
        assert post(client, small).status_code == 201
        refused(client.post("/v2/team/app/blobs/uploads/"))
        for content in (large, small):
            assert post(client, content).status_code == 201
            put = client.put(location, params={"digest": digest_of(content)}, content=content)
            assert put.status_code == (201 if content is large else 404)
        assert post(client, b"another", "team/other").status_code == 201
        assert post(client, make_blob(QUOTA + 1, "free"), "free").status_code == 201

    def test_mounts(self, client: httpx.Client) -> None:
        """A blob that is mounted takes its size."""
        digests = [push_blob(client, "free", make_blob(60 * KIB, number)) for number in range(2)]
        for digest, status in zip(digests, (201, 403), strict=True):
            query = {"mount": digest, "from": "free"}
            answer = client.post("/v2/team/app/blobs/uploads/", params=query)
            assert answer.status_code == status
        assert "60.0 KiB more do not fit" in refused(answer)
        query = {"mount": digests[0], "from": "free"}
        again = client.post("/v2/team/app/blobs/uploads/", params=query)
        assert again.status_code == 201

    def test_manifests(self, client: httpx.Client) -> None:
        """Their payloads count; one that is there can have another tag."""
        padding = "x" * 60 * KIB
        first, second = (
            artifact(name, annotations={"padding": padding}) for name in ("first", "second")
        )
        push(client, "team/app", first, "v1")
        for blob in second.blobs:
            push_blob(client, "team/app", blob)
        assert "60.5 KiB more do not fit" in refused(put_manifest(client, "team/app", second, "v2"))
        assert client.head("/v2/team/app/manifests/v2").status_code == 404
        assert put_manifest(client, "team/app", first, "v2").status_code == 201


class TestEarly:
    """A refusal before the bytes arrive."""

    def test_announced(self, served: RunningRegistry, client: httpx.Client) -> None:
        """Nobody waits for a body that is announced and does not fit."""
        location = open_upload(client, "team/app")
        digest = digest_of(b"never sent")
        for method, path in (
            ("POST", f"/v2/team/app/blobs/uploads/?digest={digest}"),
            ("PATCH", location),
            ("PUT", f"{location}?digest={digest}"),
        ):
            status, answer = raw_request(
                served.host,
                served.port,
                method,
                path.encode(),
                f"Content-Type: application/octet-stream\r\nContent-Length: {QUOTA + 1}\r\n",
            )
            assert (status, "100.0 KiB are more than the whole quota" in answer) == (403, True)
        assert client.get(location).headers["Range"] == "0-0"

    def test_streamed(self, client: httpx.Client) -> None:
        """A body of unknown length is refused once it is too large; the session goes on."""
        sent: list[int] = []

        def pieces() -> Iterator[bytes]:
            for number in range(1000):
                sent.append(number)
                yield b"x" * 64 * KIB

        location = open_upload(client, "team/app")
        try:
            refused(client.patch(location, content=pieces(), headers=OCTETS))
        except httpx.TransportError:
            # The registry closed the connection while the client was sending.
            assert len(sent) < 1000
        content = b"small"
        patched = client.patch(location, content=content, headers=OCTETS)
        assert patched.status_code == 202
        put = client.put(patched.headers["Location"], params={"digest": digest_of(content)})
        assert put.status_code == 201

    def test_sessions(self, client: httpx.Client) -> None:
        """Open sessions hold no more than the quota all together, and can still be finished."""
        content = make_blob(60 * KIB, "chunk")
        locations = [open_upload(client, "team/app") for _ in range(2)]
        first = client.patch(locations[0], content=content, headers=OCTETS)
        second = client.patch(locations[1], content=content, headers=OCTETS)
        assert "sessions of repository team/app have received 60.0 KiB" in refused(second)
        assert client.get(locations[1]).headers["Range"] == "0-0"
        small = client.patch(locations[1], content=content[: 40 * KIB], headers=OCTETS)
        assert small.status_code == 202
        refused(client.post("/v2/team/app/blobs/uploads/"))
        more = make_blob(10 * KIB, "last")
        params = {"digest": digest_of(content + more)}
        put = client.put(first.headers["Location"], params=params, content=more, headers=OCTETS)
        assert put.status_code == 201


def test_way_out(client: httpx.Client, home: Home, rules: Path) -> None:
    """What the detail advises makes room, and so do other rules."""
    old, new = (image(name, layer_size=45 * KIB) for name in ("old", "new"))
    push(client, "team/app", old, "v1")
    assert client.delete(f"/v2/team/app/manifests/{old.digest}").status_code == 202
    new_layer = max(new.blobs, key=len)
    assert "empty the trash (9" in refused(post(client, new_layer))
    assert home.manage("trash", "empty", "--repository", "team/app", "--yes")
    assert "empty the trash (0 B" in refused(post(client, new_layer))
    assert home.run("collect", "--grace", "0")[0] == 0
    push(client, "team/app", new, "v2")
    refused(post(client, make_blob(60 * KIB, "more")))
    rules.write_text('[[repositories]]\nmatch = "team/*"\nquota = "none"\n')
    assert post(client, make_blob(60 * KIB, "more")).status_code == 201


def test_racing(served: RunningRegistry, client: httpx.Client) -> None:
    """Of many pushes at once, exactly those succeed that fit."""
    size = 7 * KIB

    def one(number: int) -> int:
        with connect(served.url, timeout=60) as own:
            content = make_blob(size, number)
            location = own.post("/v2/team/app/blobs/uploads/")
            if location.status_code == 403:
                return 403
            path = location.headers["Location"]
            params = {"digest": digest_of(content)}
            return own.put(path, params=params, content=content, headers=OCTETS).status_code

    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(one, range(36)))
    assert set(statuses) == {201, 403}
    assert statuses.count(201) == QUOTA // size
    refused(post(client, make_blob(size, "one more")))
