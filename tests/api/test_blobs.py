"""Blobs: pull, whole and in parts (end-2), and delete (end-10)."""

from __future__ import annotations

import email
import email.policy
import os
from typing import Any

import httpx
import pytest

from support.content import digest_of, image, make_blob
from support.server import RunningRegistry
from support.waiting import until
from support.wire import assert_error, push, push_blob

SIZE = 2048


# Each blob store reads, and reads ranges, in its own way.
pytestmark = pytest.mark.every_home


class TestPull:
    """end-2: GET and HEAD."""

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("size", [0, 1, 2048, 3 * 1024 * 1024 + 1])
    def test_whole(self, client: httpx.Client, repository: str, size: int, algorithm: str) -> None:
        """A blob of any size comes back whole, with everything that clients look for."""
        content = make_blob(size, repository)
        digest = push_blob(client, repository, content, algorithm)
        for method in ("GET", "HEAD"):
            answer = client.request(method, f"/v2/{repository}/blobs/{digest}")
            assert answer.status_code == 200
            assert answer.content == (content if method == "GET" else b"")
            assert answer.headers["Content-Length"] == str(size)
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Docker-Content-Digest"] == digest
            assert answer.headers["ETag"] == f'"{digest}"'
            assert answer.headers["Accept-Ranges"] == "bytes"
            assert answer.headers["Cache-Control"] == "max-age=31536000"

    def test_not_modified(self, client: httpx.Client, repository: str) -> None:
        """A client that has the blob is told so."""
        digest = push_blob(client, repository, make_blob(10, repository))
        headers = {"If-None-Match": f'"{digest}"'}
        for method in ("GET", "HEAD"):
            answer = client.request(method, f"/v2/{repository}/blobs/{digest}", headers=headers)
            assert (answer.status_code, answer.content) == (304, b"")

    def test_only_through_a_repository_that_links_it(
        self, client: httpx.Client, repository: str
    ) -> None:
        """A blob that another repository holds is unknown here."""
        digest = push_blob(client, repository, make_blob(10, repository))
        path = f"/v2/{repository}/other/blobs/{digest}"
        assert_error(client.get(path), 404, "BLOB_UNKNOWN")
        assert client.head(path).status_code == 404

    @pytest.mark.one_home
    @pytest.mark.parametrize("digest", ["sha256:bad", "nodigest", "sha256:" + "A" * 64, "md5:00"])
    def test_malformed_digest(self, client: httpx.Client, repository: str, digest: str) -> None:
        """A malformed digest is DIGEST_INVALID."""
        answer = client.get(f"/v2/{repository}/blobs/{digest}")
        assert_error(answer, 400, "DIGEST_INVALID")


def parts_of(answer: httpx.Response) -> list[tuple[Any, Any]]:
    """Read multipart/byteranges: the Content-Range and the bytes of each part."""
    assert answer.status_code == 206
    assert answer.headers["Content-Length"] == str(len(answer.content))
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    return [
        (part["Content-Range"], part.get_payload(decode=True))
        for part in message.walk()
        if not part.is_multipart()
    ]


class TestRanges:
    """RFC 9110, section 14: parts of a blob."""

    @pytest.fixture
    def blob(self, client: httpx.Client, repository: str) -> tuple[str, bytes]:
        """Return the path and the content of a blob of 2,048 bytes."""
        content = make_blob(SIZE, repository)
        return f"/v2/{repository}/blobs/{push_blob(client, repository, content)}", content

    @pytest.mark.parametrize(
        ("header", "start", "stop"),
        [
            ("bytes=500-1499", 500, 1500),
            ("bytes=0-0", 0, 1),
            ("bytes=500-", 500, SIZE),
            ("bytes=-500", SIZE - 500, SIZE),
            ("bytes=-5000", 0, SIZE),
            ("bytes=0-2047", 0, SIZE),
            ("bytes=2000-99999999999999999999999999", 2000, SIZE),
            ("Bytes = 1-2", 1, 3),
        ],
    )
    def test_one(
        self, client: httpx.Client, blob: tuple[str, bytes], header: str, start: int, stop: int
    ) -> None:
        """One range is answered with exactly these bytes and with the size of the whole."""
        path, content = blob
        answer = client.get(path, headers={"Range": header})
        assert answer.status_code == 206
        assert answer.content == content[start:stop]
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert answer.headers["Content-Length"] == str(stop - start)

    @pytest.mark.one_home
    @pytest.mark.parametrize("header", ["bytes=2048-", "bytes=-0", "bytes=9999999999999999999-"])
    def test_unsatisfiable(
        self, client: httpx.Client, blob: tuple[str, bytes], header: str
    ) -> None:
        """A range outside the blob is 416, and the answer says the size."""
        answer = client.get(blob[0], headers={"Range": header})
        assert_error(answer, 416, "RANGE_INVALID")
        assert answer.headers["Content-Range"] == f"bytes */{SIZE}"

    @pytest.mark.one_home
    def test_backwards(self, client: httpx.Client, blob: tuple[str, bytes]) -> None:
        """The conformance suite expects 416 for a range that ends before it starts."""
        answer = client.get(blob[0], headers={"Range": "bytes=500-0"})
        assert answer.status_code == 416

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        "header", ["lines=1-2", "bytes", "bytes=", "bytes=a-b", "bytes=1", "bytes=1-2,x", "bytes=-"]
    )
    def test_ignored(self, client: httpx.Client, blob: tuple[str, bytes], header: str) -> None:
        """A Range header that is not in bytes is ignored."""
        answer = client.get(blob[0], headers={"Range": header})
        assert (answer.status_code, answer.content) == (200, blob[1])

    def test_head_ignores_it(self, client: httpx.Client, blob: tuple[str, bytes]) -> None:
        """A HEAD answers for the whole."""
        answer = client.head(blob[0], headers={"Range": "bytes=0-1"})
        assert answer.status_code == 200
        assert answer.headers["Content-Length"] == str(SIZE)

    def test_several(self, client: httpx.Client, blob: tuple[str, bytes]) -> None:
        """Several ranges come as multipart/byteranges, in the order in which they were asked."""
        answer = client.get(blob[0], headers={"Range": "bytes=100-199, 0-9, -5, 9999-"})
        content = blob[1]
        assert parts_of(answer) == [
            (f"bytes 100-199/{SIZE}", content[100:200]),
            (f"bytes 0-9/{SIZE}", content[:10]),
            (f"bytes 2043-2047/{SIZE}", content[-5:]),
        ]

    def test_a_thousand(self, client: httpx.Client, repository: str) -> None:
        """As many ranges as zstd:chunked asks for come in one answer, near and far ones alike."""
        content = make_blob(3_000_000, repository)
        path = f"/v2/{repository}/blobs/{push_blob(client, repository, content)}"
        starts = [*range(0, 900 * 20, 20), *range(100_000, 2_600_000, 25_000), 2_999_990, 50_000]
        header = ",".join(f"{start}-{start + 9}" for start in starts)
        answer = client.get(path, headers={"Range": f"bytes={header}"})
        assert answer.status_code == 206
        assert parts_of(answer) == [
            (f"bytes {start}-{start + 9}/{len(content)}", content[start : start + 10])
            for start in starts
        ]

    def test_large_parts(self, client: httpx.Client, repository: str) -> None:
        """A part of several pieces has one head, and what lies between two parts is left out."""
        content = make_blob(5_000_000, repository)
        path = f"/v2/{repository}/blobs/{push_blob(client, repository, content)}"
        wanted = [(10, 2_500_000), (2_500_100, 2_500_200), (2_510_000, 5_000_000)]
        header = ",".join(f"{start}-{stop - 1}" for start, stop in wanted)
        answer = client.get(path, headers={"Range": f"bytes={header}"})
        assert parts_of(answer) == [
            (f"bytes {start}-{stop - 1}/{len(content)}", content[start:stop])
            for start, stop in wanted
        ]

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            (",".join(["0-1"] * 17), (0, 2)),
            ("0-,0-,0-", (0, SIZE)),
            ("0-2000,0-2000", (0, 2001)),
            ("10-19,0-9", (0, 20)),
            ("0-5,4-9,-9999", (0, SIZE)),
            ("5-9,9999-", (5, 10)),
        ],
    )
    def test_coalesced_to_one(
        self, client: httpx.Client, blob: tuple[str, bytes], header: str, expected: tuple[int, int]
    ) -> None:
        """Ranges that overlap or touch are one, and one range is no multipart."""
        start, stop = expected
        answer = client.get(blob[0], headers={"Range": f"bytes={header}"})
        assert (answer.status_code, answer.content) == (206, blob[1][start:stop])
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"

    @pytest.mark.one_home
    def test_coalesced_in_order(self, client: httpx.Client, blob: tuple[str, bytes]) -> None:
        """A coalesced range stands where its first one did."""
        header = "bytes=500-599,100-109,550-700,0-9,105-120"
        answer = client.get(blob[0], headers={"Range": header})
        assert [part for part, _ in parts_of(answer)] == [
            f"bytes 500-700/{SIZE}",
            f"bytes 100-120/{SIZE}",
            f"bytes 0-9/{SIZE}",
        ]

    @pytest.mark.one_home
    def test_too_many(self, client: httpx.Client, blob: tuple[str, bytes]) -> None:
        """More ranges than the limit get the whole blob, once."""
        answer = client.get(blob[0], headers={"Range": "bytes=" + ",".join(["0-1"] * 1025)})
        assert (answer.status_code, answer.content) == (200, blob[1])

    def test_if_range(self, client: httpx.Client, blob: tuple[str, bytes]) -> None:
        """A part is sent only if the client's other parts are of the same blob."""
        path, content = blob
        tag = f'"{path.rpartition("/")[2]}"'
        for value, status in ((tag, 206), ('"other"', 200), (f"W/{tag}", 200)):
            headers = {"Range": "bytes=0-1", "If-Range": value}
            answer = client.get(path, headers=headers)
            assert answer.status_code == status
            assert answer.content == (content[:2] if status == 206 else content)


class TestDelete:
    """end-10."""

    def test_delete(self, client: httpx.Client, repository: str) -> None:
        """A deleted blob is gone here at once, and stays in other repositories."""
        content = make_blob(100, repository)
        digest = push_blob(client, repository, content)
        push_blob(client, f"{repository}/other", content)
        path = f"/v2/{repository}/blobs/{digest}"
        assert client.delete(path).status_code == 202
        assert_error(client.get(path), 404, "BLOB_UNKNOWN")
        assert_error(client.delete(path), 404, "BLOB_UNKNOWN")
        assert client.get(f"/v2/{repository}/other/blobs/{digest}").content == content

    def test_pushed_again(self, client: httpx.Client, repository: str) -> None:
        """A blob whose last link went can be pushed again."""
        content = make_blob(100, repository)
        for _ in range(2):
            digest = push_blob(client, repository, content)
            assert client.get(f"/v2/{repository}/blobs/{digest}").content == content
            assert client.delete(f"/v2/{repository}/blobs/{digest}").status_code == 202

    def test_in_use(self, client: httpx.Client, repository: str) -> None:
        """A blob that a manifest needs can go only after the manifest."""
        content = image(repository)
        push(client, repository, content, "v1")
        path = f"/v2/{repository}/blobs/{digest_of(content.blobs[1])}"
        detail = assert_error(client.delete(path), 405, "UNSUPPORTED")
        assert content.digest in detail
        assert client.get(path).status_code == 200
        assert client.delete(f"/v2/{repository}/manifests/{content.digest}").status_code == 202
        assert client.delete(path).status_code == 202


@pytest.mark.one_home
class TestDamaged:
    """A file that lost its end."""

    @staticmethod
    def cut(registry: RunningRegistry, digest: str) -> None:
        """Cut the blob's file down to a megabyte."""
        _, _, encoded = digest.partition(":")
        os.truncate(registry.data / "blobs" / "sha256" / encoded[:2] / encoded, 1_000_000)

    def test_while_it_is_sent(
        self, registry: RunningRegistry, client: httpx.Client, repository: str
    ) -> None:
        """The body breaks off, which no client takes for its end, and the log says why."""
        digest = push_blob(client, repository, make_blob(24_000_000, repository))
        with client.stream("GET", f"/v2/{repository}/blobs/{digest}") as answer:
            assert answer.status_code == 200
            self.cut(registry, digest)
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()
        until(lambda: "is shorter than it should be" in registry.log)

    def test_is_not_mounted(
        self, registry: RunningRegistry, client: httpx.Client, repository: str
    ) -> None:
        """It is unknown, with a source and without, until it is pushed again."""
        content = make_blob(3_000_000, repository)
        digest = push_blob(client, repository, content)
        self.cut(registry, digest)
        path = f"/v2/{repository}/blobs/{digest}"
        assert_error(client.get(path), 404, "BLOB_UNKNOWN")
        for query in ({"mount": digest, "from": repository}, {"mount": digest}):
            answer = client.post(f"/v2/{repository}/other/blobs/uploads/", params=query)
            assert answer.status_code == 202
        push_blob(client, f"{repository}/other", content)
        assert client.get(path).content == content
