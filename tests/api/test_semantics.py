"""What HTTP says of every resource: HEAD, conditions, encodings, hosts, and answers that arrive."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.content import OCI_MANIFEST, artifact, digest_of, image, index, make_blob
from support.server import RunningRegistry, run_portside, running_registry
from support.waiting import PATIENCE
from support.wire import OCTETS, ONCE, assert_error, connect, exchange, open_upload, push, push_blob


class TestHead:
    """RFC 9110, section 9.3.2: what a GET would send, without the body."""

    @pytest.mark.parametrize(
        "path", ["/v2/", "/v2/_catalog", "/v2/{}/tags/list", "/v2/{}/referrers/{digest}"]
    )
    def test_lists(self, client: httpx.Client, repository: str, path: str) -> None:
        """Everything that can be read has a HEAD."""
        content = image(repository)
        push(client, repository, content, "v1")
        target = path.format(repository, digest=content.digest)
        head, got = client.head(target), client.get(target)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"] == got.headers["Content-Type"]

    def test_upload(self, client: httpx.Client, repository: str) -> None:
        """The offset of a session can be asked for with a HEAD too."""
        answer = client.head(open_upload(client, repository))
        assert (answer.status_code, answer.headers["Range"]) == (204, "0-0")


# Conditions hold within the database's transaction; the rest of this module is HTTP alone.
@pytest.mark.every_database
class TestConditions:
    """RFC 9110, section 13: conditions hold for reading and deleting as for writing."""

    def test_get(self, client: httpx.Client, repository: str) -> None:
        """If-Match with another digest is 412, with this one nothing."""
        content = image(repository)
        push(client, repository, content, "v1")
        blob = digest_of(content.blobs[0])
        for path, digest in (("manifests/v1", content.digest), (f"blobs/{blob}", blob)):
            target = f"/v2/{repository}/{path}"
            wrong = client.get(target, headers={"If-Match": '"sha256:other"'})
            assert_error(wrong, 412, "PRECONDITION_FAILED")
            unmet = {"If-Match": '"sha256:other"', "If-None-Match": f'"{digest}"'}
            assert client.head(target, headers=unmet).status_code == 412
            held = client.head(target, headers={"If-None-Match": f'W/"{digest}"'})
            assert (held.status_code, held.headers["ETag"]) == (304, f'"{digest}"')
            assert_error(client.delete(target, headers=unmet), 412, "PRECONDITION_FAILED")
            for several in ([digest, "other"], ["other", digest]):
                lines = [("If-None-Match", f'"{each}"') for each in several]
                assert client.get(target, headers=lines).status_code == 304
            right = client.get(target, headers={"If-Match": f'"other", "{digest}"'})
            assert right.status_code == 200
            assert client.head(target, headers={"If-Match": "*"}).status_code == 200

    @pytest.mark.parametrize(
        "headers", [{"If-Match": '"other"'}, {"If-None-Match": "*"}, {"If-Match": 'W/"{digest}"'}]
    )
    def test_delete(self, client: httpx.Client, repository: str, headers: dict[str, str]) -> None:
        """A DELETE whose condition does not hold deletes nothing."""
        content = image(repository)
        push(client, repository, content, "v1")
        given = {name: value.format(digest=content.digest) for name, value in headers.items()}
        for reference in ("v1", content.digest):
            target = f"/v2/{repository}/manifests/{reference}"
            assert_error(client.delete(target, headers=given), 412, "PRECONDITION_FAILED")
            assert client.get(target).status_code == 200

    def test_delete_as_known(self, client: httpx.Client, repository: str) -> None:
        """A tag is deleted if it still is what the client thinks."""
        content = image(repository)
        push(client, repository, content, "v1")
        target = f"/v2/{repository}/manifests/v1"
        answer = client.delete(target, headers={"If-Match": f'"{content.digest}"'})
        assert answer.status_code == 202
        assert client.get(target).status_code == 404

    def test_weak_match(self, client: httpx.Client, repository: str) -> None:
        """If-Match needs a strong tag."""
        content = image(repository)
        push(client, repository, content, "v1")
        weak = {"Content-Type": OCI_MANIFEST, "If-Match": f'W/"{content.digest}"'}
        target = f"/v2/{repository}/manifests/v1"
        answer = client.put(target, content=content.manifest, headers=weak)
        assert_error(answer, 412, "PRECONDITION_FAILED")


class TestBrowsers:
    """Content comes from whoever may push; no browser may take it for a page."""

    def test_every_body(self, client: httpx.Client, repository: str) -> None:
        """Its type is as declared, and nothing in it runs, loads or is framed."""
        content = image(repository)
        push(client, repository, content, "v1")
        blob = f"blobs/{digest_of(content.blobs[1])}"
        for path, ranges, status in (
            ("manifests/v1", "", 200),
            ("manifests/absent", "", 404),
            (blob, "", 200),
            (blob, "bytes=0-1", 206),
            (blob, "bytes=0-1,5-6", 206),
            (blob, "bytes=999-", 416),
            (f"referrers/{content.digest}", "", 200),
            ("tags/list", "", 200),
        ):
            headers = {"Range": ranges} if ranges else {}
            for method in ("GET", "HEAD"):
                answer = client.request(method, f"/v2/{repository}/{path}", headers=headers)
                assert answer.status_code == status or method == "HEAD"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                policy = answer.headers["Content-Security-Policy"]
                assert policy == "default-src 'none'; frame-ancestors 'none'; sandbox"


class TestTypes:
    """The type of a manifest says what is read of it."""

    def test_capitals(self, client: httpx.Client, repository: str) -> None:
        """A type in capitals is the same type, with the same checks, and comes back as usual."""
        content = image(repository, subject=image("subject").descriptor)
        target = f"/v2/{repository}/manifests/v1"
        loud = {"Content-Type": OCI_MANIFEST.upper().replace("APPLICATION", "application")}
        answer = client.put(target, content=content.manifest, headers=loud)
        assert_error(answer, 400, "MANIFEST_BLOB_UNKNOWN")
        for blob in content.blobs:
            push_blob(client, repository, blob)
        answer = client.put(target, content=content.manifest, headers=loud)
        assert answer.status_code == 201
        assert answer.headers["OCI-Subject"] == image("subject").digest
        assert client.get(target).headers["Content-Type"] == OCI_MANIFEST

    def test_taken_away(self, client: httpx.Client, repository: str) -> None:
        """Under a type that refers to nothing, an image would be left without layers."""
        subject = image("subject")
        document = json.loads(image(repository, subject=subject.descriptor).manifest)
        del document["mediaType"]
        payload = json.dumps(document).encode()
        for blob in image(repository).blobs:
            push_blob(client, repository, blob)
        target = f"/v2/{repository}/manifests/v1"
        typed = {"Content-Type": OCI_MANIFEST}
        assert client.put(target, content=payload, headers=typed).status_code == 201
        untyped = {"Content-Type": "application/json"}
        answer = client.put(f"/v2/{repository}/manifests/v2", content=payload, headers=untyped)
        assert_error(answer, 400, "MANIFEST_INVALID")
        assert client.get(target).headers["Content-Type"] == OCI_MANIFEST
        layer = document["layers"][0]["digest"]
        refused = client.delete(f"/v2/{repository}/blobs/{layer}")
        assert_error(refused, 405, "UNSUPPORTED")
        assert refused.headers["Allow"] == "GET, HEAD"
        found = client.get(f"/v2/{repository}/referrers/{subject.digest}").json()["manifests"]
        assert [item["digest"] for item in found] == [digest_of(payload)]

    def test_corrected(self, client: httpx.Client, repository: str) -> None:
        """Bytes that were pushed without their type can be pushed again with it."""
        document = json.loads(image(repository).manifest)
        del document["mediaType"]
        payload = json.dumps(document).encode()
        for blob in image(repository).blobs:
            push_blob(client, repository, blob)
        target = f"/v2/{repository}/manifests/v1"
        for media_type in ("application/json", OCI_MANIFEST):
            headers = {"Content-Type": media_type}
            assert client.put(target, content=payload, headers=headers).status_code == 201
            assert client.get(target).headers["Content-Type"] == media_type
        layer = document["layers"][0]["digest"]
        assert client.delete(f"/v2/{repository}/blobs/{layer}").status_code == 405

    def test_fields_of_other_types(self, client: httpx.Client, repository: str) -> None:
        """A field that means something elsewhere is an unknown one here."""
        odd: dict[str, Any] = {"history": "x", "signatures": [{"digest": "?"}], "manifests": None}
        push(client, repository, image(repository, **odd), "image")
        push(client, repository, index(image("child"), history=1, config=None), "index")

    def test_not_utf_8(self, client: httpx.Client, repository: str) -> None:
        """JSON is UTF-8, in unknown fields as well."""
        content = artifact(repository, note="\N{LATIN SMALL LETTER Y WITH DIAERESIS}")
        for blob in content.blobs:
            push_blob(client, repository, blob)
        payload = content.manifest.replace(b"\\u00ff", b"\xff")
        assert payload != content.manifest
        answer = client.put(
            f"/v2/{repository}/manifests/v1",
            content=payload,
            headers={"Content-Type": OCI_MANIFEST},
        )
        assert_error(answer, 400, "MANIFEST_INVALID")


class TestHeads:
    """Heads of requests that say what cannot be done."""

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ("Host: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n", 415),
            ("Host: localhost\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
            ("Content-Length: 2\r\n", 400),
            ("Host: a\r\nHost: b\r\nContent-Length: 2\r\n", 400),
        ],
    )
    def test_refused(
        self, registry: RunningRegistry, repository: str, headers: str, status: int
    ) -> None:
        """An encoding or a host that cannot be right gets an error, and stores nothing."""
        target = f"/v2/{repository}/manifests/v1"
        body = "2\r\n{}\r\n0\r\n\r\n" if "Transfer" in headers else "{}"
        request = f"PUT {target} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n{body}"
        with socket.create_connection((registry.host, registry.port)) as connection:
            connection.sendall(request.encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b'"code":"UNSUPPORTED"' in answer
        assert httpx.get(f"{registry.url}{target}", **ONCE).status_code == 404

    @pytest.mark.parametrize(
        ("path", "status"),
        [("/healthz", 200), ("/readyz", 200), ("/", 200), ("/v2/", 400), ("/v2/_catalog", 400)],
    )
    def test_no_host(self, registry: RunningRegistry, path: str, status: int) -> None:
        """Probes of load balancers may have no Host; clients of the API must."""
        head = f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n"
        answer = exchange(registry.host, registry.port, head.encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())

    def test_chunk_of_a_whole_blob(self, client: httpx.Client, repository: str) -> None:
        """A blob in one request cannot start in its middle."""
        digest = digest_of(b"hello")
        answer = client.post(
            f"/v2/{repository}/blobs/uploads/",
            params={"digest": digest},
            content=b"hello",
            headers={**OCTETS, "Content-Range": "5-9"},
        )
        assert_error(answer, 416, "RANGE_INVALID")
        assert client.head(f"/v2/{repository}/blobs/{digest}").status_code == 404


class TestQueries:
    """Parameters of lists."""

    def test_link_keeps_what_it_does_not_know(self, client: httpx.Client, repository: str) -> None:
        """A proxy's parameters are on the next page as well."""
        for number in range(3):
            push(client, repository, image(repository), f"v{number}")
        answer = client.get(f"/v2/{repository}/tags/list?n=1&ns=docker.io")
        assert "ns=docker.io" in answer.headers["Link"]
        assert answer.headers["Link"].count("n=1") == 1

    def test_plus(self, client: httpx.Client, repository: str) -> None:
        """The plus of a media type need not be encoded."""
        subject = image(repository)
        push(client, repository, artifact(repository, subject=subject.descriptor))
        path = f"/v2/{repository}/referrers/{subject.digest}"
        found = client.get(f"{path}?artifactType=application/vnd.example+type").json()
        assert len(found["manifests"]) == 1

    def test_large_number(self, client: httpx.Client, repository: str) -> None:
        """More than there can be is as much as there is."""
        push(client, repository, image(repository), "v1")
        answer = client.get(f"/v2/{repository}/tags/list?n={'9' * 40}")
        assert answer.json()["tags"] == ["v1"]


def test_no_ranges(tmp_path: Path) -> None:
    """A registry that takes no ranges does not offer them."""
    with (
        running_registry(tmp_path / "data", "--max-ranges", "0") as registry,
        connect(registry.url) as client,
    ):
        digest = push_blob(client, "a", b"hello")
        assert client.head(f"/v2/a/blobs/{digest}").headers["Accept-Ranges"] == "none"
        answer = client.get(f"/v2/a/blobs/{digest}", headers={"Range": "bytes=0-1"})
        assert (answer.status_code, answer.content) == (200, b"hello")


class TestFarewell:
    """RFC 9112, section 9.6: the answer to a body that is not read arrives."""

    @pytest.mark.parametrize("size", [1_000_000, 64_000_000])
    def test_client_that_sends_on(
        self, registry: RunningRegistry, client: httpx.Client, repository: str, size: int
    ) -> None:
        """A client that writes all of its body before it reads gets to read the refusal."""
        location = open_upload(client, repository)
        head = (
            f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
            f"Content-Range: 5-{size + 4}\r\n\r\n"
        )
        for _ in range(3):
            with socket.create_connection((registry.host, registry.port), PATIENCE) as connection:
                connection.sendall(head.encode())
                connection.sendall(bytes(size))
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 416 ")
            assert b"range: 0-0" in answer.lower()

    def test_connection_is_kept(self, client: httpx.Client, repository: str) -> None:
        """A short body that is not wanted costs no connection."""
        answer = client.put(f"/v2/{repository}/manifests/v1", content=make_blob(1000, repository))
        assert answer.status_code == 400
        assert "Connection" not in answer.headers


def test_race_leaves_nothing(tmp_path: Path) -> None:
    """Requests that wait for a session that ends leave no file behind."""
    data = tmp_path / "data"
    with running_registry(data) as registry:
        finish_at_once(registry, 10)
    code, found, _ = run_portside("check", "--data", str(data))
    assert (code, found.splitlines()[0][:10]) == (0, "No problem")


def finish_at_once(registry: RunningRegistry, rounds: int) -> None:
    """End one session from four clients at the same time, again and again."""
    with (
        connect(registry.url) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        for number in range(rounds):
            content = make_blob(1000, number)
            location = open_upload(client, "a")
            query = {"digest": digest_of(content)}
            answers = [
                pool.submit(client.put, location, params=query, content=content) for _ in range(4)
            ]
            statuses = sorted(answer.result().status_code for answer in answers)
            assert statuses[0] == 201
            assert set(statuses[1:]) == {201}
