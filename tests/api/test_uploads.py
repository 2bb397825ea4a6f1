"""Uploads: POST (end-4), PATCH (end-5), PUT (end-6), mount (end-11), GET (end-13), DELETE (-14)."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from support.content import digest_of, image, make_blob
from support.server import RunningRegistry, running_registry
from support.wire import OCTETS, assert_error, connect, open_upload, push, push_blob

EMPTY = digest_of(b"")


def patch(
    client: httpx.Client, location: str, content: bytes, content_range: str | None = None
) -> httpx.Response:
    """Send one chunk."""
    headers = dict(OCTETS)
    if content_range is not None:
        headers["Content-Range"] = content_range
    return client.patch(location, content=content, headers=headers)


def finish(
    client: httpx.Client, location: str, content: bytes, last: bytes = b"", **headers: str
) -> httpx.Response:
    """End a session with the digest of `content`."""
    params = {"digest": digest_of(content)}
    return client.put(location, params=params, content=last, headers={**OCTETS, **headers})


# Uploads are staged in the blob store and committed with the database: other code in every home.
pytestmark = pytest.mark.every_home


class TestStart:
    """end-4: open a session, or push in one request."""

    @pytest.mark.one_home
    @pytest.mark.parametrize("slash", ["", "/"])
    def test_open(self, client: httpx.Client, repository: str, slash: str) -> None:
        """A session is opened, with and without the slash, at a relative location."""
        answer = client.post(f"/v2/{repository}/blobs/uploads{slash}")
        assert (answer.status_code, answer.content) == (202, b"")
        location = answer.headers["Location"]
        upload = answer.headers["Docker-Upload-UUID"]
        assert location == f"/v2/{repository}/blobs/uploads/{upload}"
        assert answer.headers["Range"] == "0-0"
        assert answer.headers["Content-Length"] == "0"
        status = client.get(location)
        assert (status.status_code, status.headers["Range"]) == (204, "0-0")

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("size", [0, 2, 1_500_000])
    def test_one_request(
        self, client: httpx.Client, repository: str, size: int, algorithm: str
    ) -> None:
        """POST with a digest pushes a blob at once."""
        content = make_blob(size, repository)
        digest = digest_of(content, algorithm)
        path = f"/v2/{repository}/blobs/uploads/"
        answer = client.post(path, params={"digest": digest}, content=content, headers=OCTETS)
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/v2/{repository}/blobs/{digest}"
        assert answer.headers["Docker-Content-Digest"] == digest
        assert client.get(answer.headers["Location"]).content == content

    @pytest.mark.one_home
    @pytest.mark.parametrize(
        "query",
        [{"digest": "sha256:bad"}, {"digest": EMPTY}, {"digest": ""}, {"digest-algorithm": "md5"}],
    )
    def test_refused(self, client: httpx.Client, repository: str, query: dict[str, str]) -> None:
        """A digest that is malformed or does not fit, or an unknown algorithm, is refused."""
        answer = client.post(f"/v2/{repository}/blobs/uploads/", params=query, content=b"content")
        assert_error(answer, 400, "DIGEST_INVALID")
        assert client.get(f"/v2/{repository}/blobs/{EMPTY}").status_code == 404


class TestChunks:
    """end-5 and end-6: PATCH and PUT."""

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("announced", [True, False])
    def test_ranged(
        self, client: httpx.Client, repository: str, algorithm: str, announced: bool
    ) -> None:
        """Chunks with Content-Range add up, whether or not the algorithm was announced."""
        content = make_blob(2_500_000, repository)
        query = {"digest-algorithm": algorithm} if announced else {}
        location = open_upload(client, repository, **query)
        for start in range(0, 2_000_000, 1_000_000):
            chunk = content[start : start + 1_000_000]
            answer = patch(client, location, chunk, f"{start}-{start + len(chunk) - 1}")
            assert answer.status_code == 202
            location = answer.headers["Location"]
            assert answer.headers["Range"] == f"0-{start + len(chunk) - 1}"
            assert client.get(location).headers["Range"] == answer.headers["Range"]
        digest = digest_of(content, algorithm)
        answer = client.put(
            location,
            params={"digest": digest},
            content=content[2_000_000:],
            headers={**OCTETS, "Content-Range": "2000000-2499999"},
        )
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/v2/{repository}/blobs/{digest}"
        assert answer.headers["Docker-Content-Digest"] == digest
        assert client.get(answer.headers["Location"]).content == content
        assert_error(client.get(location), 404, "BLOB_UPLOAD_UNKNOWN")

    @pytest.mark.parametrize("headers", [{}, OCTETS, {"Content-Type": "text/x; a=b"}])
    def test_streamed(self, client: httpx.Client, repository: str, headers: dict[str, str]) -> None:
        """Several PATCHes without a range, with chunked encoding and any type, are appended."""
        content = make_blob(300_000, repository)
        location = open_upload(client, repository)
        for start in range(0, 300_000, 100_000):
            pieces = (content[i : i + 10_000] for i in range(start, start + 100_000, 10_000))
            answer = client.patch(location, content=pieces, headers=headers)
            assert answer.status_code == 202
        assert finish(client, location, content).status_code == 201
        assert client.get(f"/v2/{repository}/blobs/{digest_of(content)}").content == content

    def test_empty(self, client: httpx.Client, repository: str) -> None:
        """An empty blob can be pushed with and without an empty chunk."""
        for chunks in (0, 1):
            location = open_upload(client, repository)
            for _ in range(chunks):
                answer = patch(client, location, b"")
                assert (answer.status_code, answer.headers["Range"]) == (202, "0-0")
            assert finish(client, location, b"").status_code == 201
            assert client.get(f"/v2/{repository}/blobs/{EMPTY}").content == b""
            assert client.delete(f"/v2/{repository}/blobs/{EMPTY}").status_code == 202

    @pytest.mark.one_home
    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    @pytest.mark.parametrize("start", [0, 9, 11, 10**18])
    def test_out_of_order(
        self, client: httpx.Client, repository: str, method: str, start: int
    ) -> None:
        """A chunk that does not start at the offset is 416; the session goes on from there."""
        content = make_blob(20, repository)
        location = open_upload(client, repository)
        assert patch(client, location, content[:10], "0-9").status_code == 202
        answer = client.request(
            method,
            location,
            params={"digest": digest_of(content)},
            content=content[10:],
            headers={**OCTETS, "Content-Range": f"{start}-{start + 9}"},
        )
        assert_error(answer, 416, "RANGE_INVALID")
        assert answer.headers["Range"] == "0-9"
        assert answer.headers["Location"] == location
        last = finish(client, location, content, content[10:], **{"Content-Range": "10-19"})
        assert last.status_code == 201

    @pytest.mark.one_home
    @pytest.mark.parametrize("content_range", ["0-8", "0-10"])
    @pytest.mark.parametrize("streamed", [True, False])
    def test_wrong_length(
        self, client: httpx.Client, repository: str, content_range: str, streamed: bool
    ) -> None:
        """A chunk of another length than its range is SIZE_INVALID and leaves no byte."""
        location = open_upload(client, repository)
        answer = client.patch(
            location,
            content=iter([b"0123456789"]) if streamed else b"0123456789",
            headers={"Content-Range": content_range},
        )
        assert_error(answer, 400, "SIZE_INVALID")
        assert client.get(location).headers["Range"] == "0-0"
        assert patch(client, location, b"ab", "0-1").headers["Range"] == "0-1"
        assert finish(client, location, b"ab").status_code == 201

    @pytest.mark.one_home
    @pytest.mark.parametrize("content_range", ["x", "5-1", "-5", "0-", "0-9/x", "\u0660-\u0669"])
    def test_malformed_range(
        self, client: httpx.Client, repository: str, content_range: str
    ) -> None:
        """A Content-Range that is none is refused, and changes nothing."""
        location = open_upload(client, repository)
        headers = {b"Content-Range": content_range.encode()}
        answer = client.patch(location, content=b"0123456789", headers=headers)
        assert_error(answer, 416, "RANGE_INVALID")
        assert client.get(location).headers["Range"] == "0-0"

    @pytest.mark.one_home
    def test_range_in_the_long_form(self, client: httpx.Client, repository: str) -> None:
        """The form of RFC 9110 is understood as well."""
        location = open_upload(client, repository)
        assert patch(client, location, b"0123456789", "bytes 0-9/20").status_code == 202

    def test_wrong_digest(self, client: httpx.Client, repository: str) -> None:
        """A PUT that fails on the digest leaves the session as it was before."""
        content = make_blob(20, repository)
        location = open_upload(client, repository)
        patch(client, location, content[:10])
        for last in (b"", b"wrong"):
            answer = finish(client, location, content, last)
            assert_error(answer, 400, "DIGEST_INVALID")
            assert client.get(location).headers["Range"] == "0-9"
        assert finish(client, location, content, content[10:]).status_code == 201
        assert client.get(f"/v2/{repository}/blobs/{digest_of(content)}").content == content

    @pytest.mark.one_home
    @pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:bad", "?digest=md5:00"])
    def test_no_digest(self, client: httpx.Client, repository: str, query: str) -> None:
        """A PUT has to name a digest, and the session survives one that does not."""
        location = open_upload(client, repository)
        assert_error(client.put(location + query), 400, "DIGEST_INVALID")
        assert finish(client, location, b"").status_code == 201

    def test_any_worker(self, registry: RunningRegistry, repository: str) -> None:
        """Every request of a session may come over a new connection, to another worker."""
        url = registry.url
        content = make_blob(200_000, repository)
        with connect(url) as client:
            location = open_upload(client, repository)
        for start in range(0, 200_000, 10_000):
            with connect(url) as client:
                chunk = content[start : start + 10_000]
                answer = patch(client, location, chunk, f"{start}-{start + 9_999}")
                assert answer.status_code == 202
        with connect(url) as client:
            assert finish(client, location, content).status_code == 201
            path = f"/v2/{repository}/blobs/{digest_of(content)}"
            assert client.get(path).content == content

    def test_blob_limit(self, data: Path, repository: str) -> None:
        """A setting limits the size of a blob, announced or not, in one request or several."""
        with (
            running_registry(data, "--max-blob-bytes", "1000", "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            push_blob(client, repository, bytes(1000))
            path = f"/v2/{repository}/blobs/uploads/"
            large = {"digest": digest_of(bytes(1001))}
            answer = client.post(path, params=large, content=bytes(1001))
            assert_error(answer, 413, "SIZE_INVALID")
            location = open_upload(client, repository)
            assert patch(client, location, bytes(900)).status_code == 202
            answer = client.patch(location, content=iter([bytes(100), b"1"]))
            assert_error(answer, 413, "SIZE_INVALID")
            assert client.get(location).headers["Range"] == "0-899"


class TestSession:
    """end-13, end-14: ask and cancel."""

    def test_cancel(self, client: httpx.Client, repository: str) -> None:
        """A cancelled session is unknown to every request."""
        location = open_upload(client, repository)
        patch(client, location, b"abc")
        assert client.delete(location).status_code == 204
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            params = {"digest": digest_of(b"abc")}
            answer = client.request(method, location, params=params)
            assert_error(answer, 404, "BLOB_UPLOAD_UNKNOWN")

    def test_finished_twice(self, client: httpx.Client, repository: str) -> None:
        """A PUT whose answer was lost may be repeated, with its body; the session has ended."""
        content = make_blob(100_000, repository)
        location = open_upload(client, repository)
        assert patch(client, location, content[:50_000]).status_code == 202
        first = finish(client, location, content, content[50_000:])
        for last in (content[50_000:], b""):
            again = finish(client, location, content, last)
            assert again.status_code == first.status_code == 201
            for header in ("Location", "Docker-Content-Digest"):
                assert again.headers[header] == first.headers[header]
        streamed = client.put(
            location, params={"digest": digest_of(content)}, content=iter([content])
        )
        assert streamed.status_code == 201
        push_blob(client, repository, b"another")
        assert_error(finish(client, location, b"another"), 404, "BLOB_UPLOAD_UNKNOWN")
        for method in ("GET", "PATCH", "DELETE"):
            assert_error(client.request(method, location), 404, "BLOB_UPLOAD_UNKNOWN")
        push_blob(client, f"{repository}/other", content)
        other = location.replace(repository, f"{repository}/other")
        assert_error(finish(client, other, content), 404, "BLOB_UPLOAD_UNKNOWN")
        assert client.delete(first.headers["Location"]).status_code == 202
        assert_error(finish(client, location, content), 404, "BLOB_UPLOAD_UNKNOWN")

    @pytest.mark.one_home
    @pytest.mark.parametrize("upload", ["unknown", "0" * 32, "../../x", "0" * 500])
    def test_unknown(self, client: httpx.Client, repository: str, upload: str) -> None:
        """An id that no session has is BLOB_UPLOAD_UNKNOWN."""
        path = f"/v2/{repository}/blobs/uploads/{upload.replace('/', '%2F')}"
        answer = client.get(path)
        assert answer.status_code == 404
        if "/" not in upload:
            assert_error(answer, 404, "BLOB_UPLOAD_UNKNOWN")

    def test_belongs_to_its_repository(self, client: httpx.Client, repository: str) -> None:
        """A session cannot be used through another repository."""
        location = open_upload(client, repository)
        other = location.replace(repository, f"{repository}/other")
        assert_error(patch(client, other, b"x"), 404, "BLOB_UPLOAD_UNKNOWN")
        assert_error(client.delete(other), 404, "BLOB_UPLOAD_UNKNOWN")
        assert client.get(location).headers["Range"] == "0-0"

    @pytest.mark.one_home
    def test_too_many(self, data: Path, repository: str) -> None:
        """So many sessions are open in a repository at once; one that ends makes room."""
        with (
            running_registry(data, "--max-open-uploads", "2", "--workers", "1") as registry,
            connect(registry.url) as client,
        ):
            first, second = (open_upload(client, repository) for _ in range(2))
            path = f"/v2/{repository}/blobs/uploads/"
            for _ in range(2):
                answer = client.post(path)
                assert "sessions" in assert_error(answer, 429, "TOOMANYREQUESTS")
                assert answer.headers["Retry-After"] == "60"
            at_once = client.post(path, params={"digest": EMPTY}, content=b"")
            assert at_once.status_code == 201
            open_upload(client, f"{repository}/other")
            assert client.delete(first).status_code == 204
            open_upload(client, repository)
            assert finish(client, second, b"content", b"content").status_code == 201
            open_upload(client, repository)
            assert client.post(path).status_code == 429

    def test_opening_makes_no_repository(self, client: httpx.Client, repository: str) -> None:
        """A repository exists once something is pushed, not before."""
        open_upload(client, repository)
        assert_error(client.get(f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN")


class TestMount:
    """end-11: link a blob from another repository."""

    @pytest.mark.parametrize("named", [True, False])
    def test_mounted(self, client: httpx.Client, repository: str, named: bool) -> None:
        """A blob is linked at once, with and without the name of the source."""
        content = make_blob(100, repository)
        digest = push_blob(client, f"{repository}/source", content)
        query = {"mount": digest, **({"from": f"{repository}/source"} if named else {})}
        answer = client.post(f"/v2/{repository}/blobs/uploads/", params=query)
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/v2/{repository}/blobs/{digest}"
        assert answer.headers["Docker-Content-Digest"] == digest
        assert client.get(answer.headers["Location"]).content == content

    def test_not_there(self, client: httpx.Client, repository: str) -> None:
        """What cannot be mounted opens a session, never an error."""
        digest = push_blob(client, f"{repository}/source", make_blob(10, repository))
        for query in (
            {"mount": digest, "from": f"{repository}/elsewhere"},
            {"mount": digest_of(b"nowhere"), "from": f"{repository}/source"},
            {"mount": digest_of(b"nowhere")},
        ):
            answer = client.post(f"/v2/{repository}/blobs/uploads/", params=query)
            assert answer.status_code == 202
            assert re.fullmatch(
                f"/v2/{repository}/blobs/uploads/[0-9a-f]+", answer.headers["Location"]
            )
            assert client.head(f"/v2/{repository}/blobs/{digest}").status_code == 404

    @pytest.mark.one_home
    def test_malformed(self, client: httpx.Client, repository: str) -> None:
        """A malformed digest or name names nothing that could be mounted."""
        path = f"/v2/{repository}/blobs/uploads/"
        for query in (
            {"mount": "sha256:bad"},
            {"mount": "md5:abc", "from": f"{repository}/source"},
            {"mount": EMPTY, "from": "Bad Name"},
            {"mount": EMPTY, "from": f"127.0.0.1:5000/{repository}"},
        ):
            assert client.post(path, params=query).status_code == 202

    def test_manifest_over_mounted_blobs(self, client: httpx.Client, repository: str) -> None:
        """A manifest is complete when its blobs were mounted."""
        content = image(repository)
        push(client, f"{repository}/source", content, "v1")
        for blob in content.blobs:
            query = {"mount": digest_of(blob), "from": f"{repository}/source"}
            answer = client.post(f"/v2/{repository}/blobs/uploads/", params=query)
            assert answer.status_code == 201
        push(client, repository, content, "v1")
