"""A registry whose blobs are in an object store, as its clients see it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.azure import CONTAINER, Azure
from support.content import digest_of, make_blob
from support.faulty_http import Faulty, faulty
from support.s3 import BUCKET, S3
from support.server import RunningRegistry, run_portside, running_registry
from support.wire import ONCE, connect

MIB = 1024 * 1024


class Served:
    """A registry over a prefix of its own; `storage` is the options that name it."""

    def __init__(self, running: RunningRegistry, storage: tuple[str, ...], way: Faulty) -> None:
        self.running = running
        self.storage = storage
        self.way = way
        self.environment = S3.environment_at(way.url)
        self.client = connect(running.url)

    def push(self, repository: str, content: bytes) -> str:
        """Push a blob in one request; returns its path."""
        digest = digest_of(content)
        path = f"/v2/{repository}/blobs"
        answer = self.client.post(f"{path}/uploads/?digest={digest}", content=content)
        assert answer.status_code == 201, answer.text
        return f"{path}/{digest}"


def serve(data: Path, s3: S3, *options: str) -> Iterator[Served]:
    """Serve from a fresh prefix, by a way that sees all requests to the store."""
    storage = ("--storage", f"s3://{BUCKET}/{uuid.uuid4().hex}")
    with faulty(s3.endpoint) as way:
        environment = S3.environment_at(way.url)
        with running_registry(data, *storage, *options, env=environment) as running:
            served = Served(running, storage, way)
            yield served
            served.client.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[Served]:
    """Serve with two workers, with redirects for blobs of more than five bytes."""
    large = ("--redirect", "large", "--redirect-above", "5", "--redirect-life", "77")
    yield from serve(tmp_path_factory.mktemp("objects") / "data", s3, *large)


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
        assert answer.headers["location"].startswith(served.way.url)
        assert "X-Amz-Expires=77&" in answer.headers["location"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["docker-content-digest"] == digest_of(content)
        assert httpx.get(answer.headers["location"], **ONCE).content == content

    @pytest.mark.parametrize("size", [100, 9_000_000])
    def test_no_browser_runs_content(self, served: Served, repository: str, size: int) -> None:
        """The store names a type that browsers neither show nor guess at, however it was put."""
        content = b"<html><script>alert(1)</script>" + make_blob(size, repository)
        found = served.client.get(served.push(repository, content), follow_redirects=True)
        assert found.content == content
        assert found.headers["content-type"] == "application/octet-stream"

    def test_a_pull_asks_the_store_nothing(self, served: Served, repository: str) -> None:
        """To be sent on costs no request to the store, and a push of a small blob costs one."""
        served.way.forget()
        path = served.push(repository, make_blob(1000, repository))
        assert served.client.get(path).status_code == 307
        assert served.client.get(path, headers={"Range": "bytes=2-4"}).status_code == 307
        assert [line.split(" ")[0] for line in served.way.requests] == ["PUT"]

    def test_credentials_do_not_travel(self, served: Served, repository: str) -> None:
        """What the client sent to the registry is not in the URL."""
        secret = "cG9ydHNpZGU6c2VjcmV0"  # noqa: S105
        path = served.push(repository, b"content")
        answer = served.client.get(path, headers={"Authorization": f"Basic {secret}"})
        assert answer.status_code == 307
        assert secret not in str(answer.headers)

    def test_head(self, served: Served, repository: str) -> None:
        """HEAD is never redirected; a blob whose bytes were lost has no size."""
        path = served.push(repository, b"content")
        answer = served.client.head(path)
        assert (answer.status_code, answer.headers["content-length"]) == (200, "7")
        served.way.fail(404, 1, where="HEAD")
        assert served.client.head(path).status_code == 404

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

    def test_large(self, served: Served, repository: str) -> None:
        """Small blobs are sent at once, which saves the client a request."""
        assert served.client.get(served.push(repository, b"small")).content == b"small"
        assert served.client.get(served.push(repository, b"larger")).status_code == 307


class TestStreaming:
    """Everything passes through the registry."""

    @pytest.mark.parametrize("size", [0, 1, 5_000_000])
    def test_get(self, streaming: Served, repository: str, size: int) -> None:
        """A blob of any size comes whole."""
        content = make_blob(size, repository)
        path = streaming.push(repository, content)
        assert streaming.client.get(path).content == content

    def test_range(self, streaming: Served, repository: str) -> None:
        """A part of a blob comes alone."""
        content = make_blob(5_000_000, repository)
        path = streaming.push(repository, content)
        part = streaming.client.get(path, headers={"Range": "bytes=5-4999998"})
        assert (part.status_code, part.content) == (206, content[5:4_999_999])

    def test_a_client_that_goes_away(self, streaming: Served, repository: str) -> None:
        """Nothing is read on for it, and nothing much was read ahead of it."""
        path = streaming.push(repository, bytes(64 * MIB))
        for wanted in ({}, {"Range": "bytes=1-60000000"}):
            streaming.way.forget()
            with streaming.client.stream("GET", path, headers=wanted) as answer:
                assert len(next(answer.iter_raw(MIB))) == MIB
            streaming.way.settle()
            assert MIB <= streaming.way.sent < 32 * MIB

    def test_a_store_that_fails(self, streaming: Served, repository: str) -> None:
        """Push and pull can be tried again, and what was acknowledged is there."""
        path = streaming.push(repository, b"acknowledged")
        streaming.way.fail(503, 1_000_000)
        pull = streaming.client.get(path)
        push = streaming.client.post(
            f"/v2/{repository}/blobs/uploads/?digest={digest_of(b'later')}", content=b"later"
        )
        for answer in (pull, push):
            assert answer.status_code == 503
            assert answer.json()["errors"][0]["code"] == "UNAVAILABLE"
        streaming.way.heal()
        assert streaming.client.get(path).content == b"acknowledged"
        later = streaming.push(repository, b"later")
        assert streaming.client.get(later).content == b"later"

    def test_a_session_over_both_workers(self, streaming: Served, repository: str) -> None:
        """Every request on a connection of its own; nothing of the session stays."""
        content = make_blob(4_000_000, repository)
        url = streaming.running.url
        where = httpx.post(f"{url}/v2/{repository}/blobs/uploads/", **ONCE).headers["location"]
        for start in range(0, len(content), 1_000_000):
            answer = httpx.patch(url + where, content=content[start : start + 1_000_000], **ONCE)
            assert answer.status_code == 202
            assert answer.headers["range"] == f"0-{start + 999_999}"
            where = answer.headers["location"]
        done = httpx.put(url + where, params={"digest": digest_of(content)}, **ONCE)
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
                env=streaming.environment,
            )
            assert (code, errors) == (0, ""), printed
            assert said in printed

    def test_check_without_the_store(self, streaming: Served, repository: str) -> None:
        """A store that does not answer is one line, however many blobs it should hold."""
        for number in range(3):
            streaming.push(repository, make_blob(100, f"{repository} {number}"))
        away = S3.environment_at("http://127.0.0.1:1")
        code, printed, errors = run_portside(
            "check", "--data", str(streaming.running.data), *streaming.storage, env=away
        )
        assert (code, printed, len(errors.splitlines())) == (1, "", 1)
        assert errors.startswith("portside: reading the mark: ")

    def test_nothing_is_on_the_disk(self, streaming: Served, repository: str) -> None:
        """The data directory holds the database alone."""
        streaming.push(repository, b"elsewhere")
        assert not (streaming.running.data / "blobs").exists()
        assert not (streaming.running.data / "uploads").exists()


class TestAzure:
    """The same over Azure Blob Storage."""

    def test_push_and_pull(self, data: Path, azure: Azure, repository: str) -> None:
        """A large blob, and its signed URL."""
        content = make_blob(9_000_000, repository)
        storage = ("--storage", f"az://{CONTAINER}/{uuid.uuid4().hex}")
        with running_registry(data, *storage, env=azure.environment) as running:
            url = f"{running.url}/v2/{repository}/blobs"
            pushed = httpx.post(
                f"{url}/uploads/?digest={digest_of(content)}", content=content, **ONCE
            )
            assert pushed.status_code == 201, pushed.text
            answer = httpx.get(f"{url}/{digest_of(content)}", **ONCE)
            assert answer.status_code == 307
            found = httpx.get(answer.headers["location"], **ONCE)
            assert found.content == content
            assert found.headers["content-type"] == "application/octet-stream"
            assert httpx.delete(f"{url}/{digest_of(content)}", **ONCE).status_code == 202
            assert httpx.get(answer.headers["location"], **ONCE).status_code == 404


class TestSharedDirectory:
    """file://: blobs in another directory than the database, as on a disk."""

    def test_life(self, data: Path, tmp_path: Path, repository: str) -> None:
        """Push, pull without a redirect, and check."""
        storage = ("--storage", f"file://{tmp_path}/shared%20disk")
        with running_registry(data, *storage) as running:
            url = f"{running.url}/v2/{repository}/blobs"
            digest = digest_of(b"shared")
            assert httpx.post(
                f"{url}/uploads/?digest={digest}", content=b"shared", **ONCE
            ).is_success
            assert httpx.get(f"{url}/{digest}", **ONCE).content == b"shared"
        kept = tmp_path / "shared disk" / "blobs" / "sha256" / digest[7:9] / digest[7:]
        assert kept.read_bytes() == b"shared"
        assert run_portside("check", "--data", str(data), *storage)[0] == 0
        kept.write_bytes(b"SHARED")
        assert run_portside("check", "--data", str(data), *storage)[0] == 1


HERE = Path().absolute().as_uri()


@pytest.mark.parametrize(
    ("storage", "env", "said"),
    [
        ("s3://no-such-bucket", {}, "{endpoint} has no such bucket or container; create it, or"),
        ("s3://registry", {"AWS_ACCESS_KEY_ID": "x"}, "does not know the key; check AWS_ACCESS_"),
        ("s3://registry", {"AWS_SECRET_ACCESS_KEY": "x"}, "refuses the key; check AWS_SECRET_"),
        ("s3://registry", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "(Connection refused)"),
        ("s3://registry", {"AWS_SECRET_ACCESS_KEY": None}, "set AWS_SECRET_ACCESS_KEY as well"),
        ("az://registry", {}, "set AZURE_STORAGE_ACCOUNT_NAME, and"),
        ("ftp://bucket", {}, "names no object store; it has to begin with s3://, az://, gs://"),
        ("https://bucket.example/x", {}, "such as s3://BUCKET/PREFIX, and set AWS_ENDPOINT_URL"),
        ("/srv/blobs", {}, "'/srv/blobs' is not a URL; write file:///srv/blobs for"),
        ("blobs", {}, f"'blobs' is not a URL; write {HERE}/blobs for the directory"),
        ("file://relative", {}, "three slashes"),
        ("file:///", {}, "names no directory"),
    ],
)
def test_no_storage(
    data: Path, s3: S3, storage: str, env: dict[str, str | None], said: str
) -> None:
    """A registry that cannot use its store ends with one line, which says what to do."""
    known = {**s3.environment, **env}
    code, printed, errors = run_portside(
        *("serve", "--data", str(data), "--listen", "127.0.0.1:0", "--storage", storage),
        env={name: value for name, value in known.items() if value is not None},
    )
    assert (code, printed) == (2 if "--help" in errors else 1, "")
    assert said.format(endpoint=s3.endpoint) in errors
    assert len(errors.splitlines()) == 1, errors


def test_bucket_that_is_gone(data: Path, s3: S3) -> None:
    """A registry that was served from a bucket asks for the bucket, and not for its mark."""
    with running_registry(data, "--storage", "s3://registry/gone", env=s3.environment):
        pass
    code, _, errors = run_portside(
        *("check", "--data", str(data), "--storage", "s3://no-such-bucket/gone"), env=s3.environment
    )
    assert code == 1
    assert "has no such bucket or container; create it, or correct the name" in errors


def test_container_that_does_not_exist(data: Path, azure: Azure) -> None:
    """Azure says it in other words, and refuses keys in others."""
    for storage, key, said in (
        ("az://no-such-container", None, "has no such bucket or container; create it, or correct"),
        ("az://registry", "d3Jvbmc=", "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACC"),
        ("az://registry", "x", "AZURE_STORAGE_ACCOUNT_KEY is not a key in base64; copy it again"),
    ):
        env = {**azure.environment, **({"AZURE_STORAGE_ACCOUNT_KEY": key} if key else {})}
        where = ("--data", str(data), "--storage", storage)
        _, _, errors = run_portside("serve", *where, "--listen", "127.0.0.1:0", env=env)
        assert said in errors
