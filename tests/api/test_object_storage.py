"""A registry whose blobs are in an object store, as its clients see it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.content import digest_of, make_blob
from support.s3 import BUCKET, S3
from support.server import RunningRegistry, run_portside, running_registry


class Served:
    """A registry over a prefix of its own; `storage` is the options that name it."""

    def __init__(self, running: RunningRegistry, storage: tuple[str, ...], s3: S3) -> None:
        self.running = running
        self.storage = storage
        self.s3 = s3
        self.client = httpx.Client(base_url=running.url, timeout=30)

    def push(self, repository: str, content: bytes) -> str:
        """Push a blob in one request; gives its path."""
        digest = digest_of(content)
        path = f"/v2/{repository}/blobs"
        answer = self.client.post(f"{path}/uploads/?digest={digest}", content=content)
        assert answer.status_code == 201, answer.text
        return f"{path}/{digest}"


def serve(data: Path, s3: S3, *options: str) -> Iterator[Served]:
    """Serve from a fresh prefix."""
    storage = ("--storage", f"s3://{BUCKET}/{uuid.uuid4().hex}")
    with running_registry(data, *storage, *options, env=s3.environment) as running:
        served = Served(running, storage, s3)
        yield served
        served.client.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[Served]:
    """Serve with two workers, with redirects."""
    yield from serve(tmp_path_factory.mktemp("objects") / "data", s3)


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[Served]:
    """Serve without redirects."""
    yield from serve(tmp_path_factory.mktemp("streaming") / "data", s3, "--redirect", "never")


class TestRedirects:
    """307: the bytes come from the object store."""

    def test_get(self, served: Served, repository: str) -> None:
        """The signed URL works without credentials, and is not to be kept."""
        content = make_blob(3_000_000, repository)
        path = served.push(repository, content)
        answer = served.client.get(path)
        assert answer.status_code == 307
        assert answer.headers["location"].startswith(served.s3.endpoint)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["docker-content-digest"] == digest_of(content)
        assert httpx.get(answer.headers["location"]).content == content

    def test_head(self, served: Served, repository: str) -> None:
        """Nobody is sent on for a size."""
        answer = served.client.head(served.push(repository, b"content"))
        assert (answer.status_code, answer.headers["content-length"]) == (200, "7")

    def test_range(self, served: Served, repository: str) -> None:
        """The client repeats its Range at the store; several ranges are answered here."""
        path = served.push(repository, b"0123456789")
        part = {"Range": "bytes=2-4"}
        assert served.client.get(path, headers=part).status_code == 307
        assert served.client.get(path, headers=part, follow_redirects=True).content == b"234"
        several = served.client.get(path, headers={"Range": "bytes=0-1,4-5"})
        assert several.status_code == 206
        assert b"01\r\n" in several.content

    def test_not_modified(self, served: Served, repository: str) -> None:
        """Who has the blob is told so."""
        path = served.push(repository, b"known")
        known = {"If-None-Match": f'"{digest_of(b"known")}"'}
        assert served.client.get(path, headers=known).status_code == 304

    def test_large(self, tmp_path: Path, s3: S3, repository: str) -> None:
        """Small blobs can be sent at once, which saves the client a request."""
        for served in serve(tmp_path / "data", s3, "--redirect", "large"):
            assert served.client.get(served.push(repository, b"small")).content == b"small"
            large = served.push(repository, bytes(1024 * 1024 + 1))
            assert served.client.get(large).status_code == 307


class TestStreaming:
    """Everything passes through the registry."""

    @pytest.mark.parametrize("size", [0, 1, 5_000_000])
    def test_get(self, streaming: Served, repository: str, size: int) -> None:
        """Whole and in parts."""
        content = make_blob(size, repository)
        path = streaming.push(repository, content)
        assert streaming.client.get(path).content == content
        if size > 10:
            part = streaming.client.get(path, headers={"Range": "bytes=5-4999998"})
            assert (part.status_code, part.content) == (206, content[5:4_999_999])

    def test_a_session_over_both_workers(self, streaming: Served, repository: str) -> None:
        """Every request on a connection of its own; nothing of the session stays."""
        content = make_blob(4_000_000, repository)
        url = streaming.running.url
        where = httpx.post(f"{url}/v2/{repository}/blobs/uploads/").headers["location"]
        for start in range(0, len(content), 1_000_000):
            answer = httpx.patch(url + where, content=content[start : start + 1_000_000])
            assert answer.status_code == 202
            assert answer.headers["range"] == f"0-{start + 999_999}"
            where = answer.headers["location"]
        done = httpx.put(url + where, params={"digest": digest_of(content)})
        assert done.status_code == 201, done.text
        path = f"/v2/{repository}/blobs/{digest_of(content)}"
        assert streaming.client.get(path).content == content
        assert streaming.client.delete(path).status_code == 202
        assert streaming.client.get(path).status_code == 404

    def test_check_and_collect(self, streaming: Served, repository: str) -> None:
        """Commands look into the object store as well, and find it whole."""
        streaming.push(repository, make_blob(100_000, repository))
        for command, said in (("check", "No problem"), ("collect", "0 bytes freed")):
            code, printed, errors = run_portside(
                command,
                *("--data", str(streaming.running.data)),
                *streaming.storage,
                env=streaming.s3.environment,
            )
            assert (code, errors) == (0, ""), printed
            assert said in printed

    def test_nothing_is_on_the_disk(self, streaming: Served, repository: str) -> None:
        """The data directory holds the database alone."""
        streaming.push(repository, b"elsewhere")
        assert not (streaming.running.data / "blobs").exists()
        assert not (streaming.running.data / "uploads").exists()


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("s3://no-such-bucket", "404 Not Found (NoSuchBucket)"),
        ("ftp://bucket", "names no object store"),
    ],
)
def test_no_storage(data: Path, s3: S3, storage: str, said: str) -> None:
    """A registry that cannot use its store ends with one line."""
    code, printed, errors = run_portside(
        *("serve", "--data", str(data), "--listen", "127.0.0.1:0", "--storage", storage),
        env=s3.environment,
    )
    assert (code, printed) == (1, "")
    assert said in errors
    assert len(errors.splitlines()) == 1, errors
