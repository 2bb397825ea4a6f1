"""Names, routes, and requests that no honest client sends."""

from __future__ import annotations

import httpx
import pytest

from portside import __version__
from support.content import OCI_MANIFEST, digest_of, image
from support.server import RunningRegistry
from support.wire import assert_error, exchange, open_upload, push, raw_request

REFUSED_BEFORE = {(400, 501), (400, 431), (431, 431)}
"""Statuses of the server itself, which may refuse a head before the registry sees it."""


class TestNames:
    """Repository names with every component that the grammar allows."""

    @pytest.mark.parametrize(
        "name",
        [
            "a",
            "blobs",
            "manifests/tags/list",
            "blobs/uploads",
            "a/blobs/uploads/b",
            "uploads/referrers",
            "referrers/manifests/blobs",
            "tags/list/tags",
            "v2/v2",
            "a.b/c__d/e---f/0",
            "/".join(["x"] * 128),
        ],
    )
    def test_words_of_paths(self, client: httpx.Client, repository: str, name: str) -> None:
        """A name may hold the words of paths; everything works in such a repository."""
        name = f"{name}/{repository.rpartition('/')[2]}"[:255]
        content = image(name)
        push(client, name, content, "list")
        assert client.get(f"/v2/{name}/manifests/list").content == content.manifest
        assert client.get(f"/v2/{name}/tags/list").json() == {"name": name, "tags": ["list"]}
        assert client.get(f"/v2/{name}/referrers/{content.digest}").status_code == 200
        blob = digest_of(content.blobs[0])
        assert client.get(f"/v2/{name}/blobs/{blob}").content == content.blobs[0]

    def test_percent_encoded(self, client: httpx.Client, repository: str) -> None:
        """Names and digests may arrive percent-encoded, as Microsoft's clients send them."""
        content = image(repository)
        name = repository.replace("/", "%2F")
        push(client, name, content, "v1")
        digest = content.digest.replace(":", "%3A")
        for path in (f"manifests/{digest}", "manifests/v1", "manifests/%76%31"):
            answer = client.get(f"/v2/{name}/{path}")
            assert answer.content == content.manifest
        assert client.get(f"/v2/{repository}/tags/list").json()["tags"] == ["v1"]

    @pytest.mark.parametrize(
        "name",
        ["A", "a//b", "-a", "a_", "a___b", "a/.b", "a/../b", "_catalog", "a b", "ä", "x" * 256],
    )
    def test_refused(self, client: httpx.Client, name: str) -> None:
        """A name outside the grammar is NAME_INVALID, for every method."""
        name = name.replace("/../", "/%2E%2E/")
        answer = client.get(f"/v2/{name}/tags/list")
        assert_error(answer, 400, "NAME_INVALID")
        answer = client.post(f"/v2/{name}/blobs/uploads/")
        assert_error(answer, 400, "NAME_INVALID")


class TestRoutes:
    """Paths and methods that do not exist."""

    @pytest.mark.parametrize("path", ["/v2", "/v2/"])
    def test_ping(self, client: httpx.Client, path: str) -> None:
        """Both spellings say that this is a registry (end-1)."""
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (200, {})
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        assert answer.headers["Content-Length"] == "2"

    @pytest.mark.parametrize(
        "path",
        [
            "/x/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/a/b/c",
            "/v2/a/tags",
            "/v2/tags/list",
            "/v2//",
            "/v3",
        ],
    )
    def test_unknown(self, client: httpx.Client, path: str) -> None:
        """An unknown path is 404 with an error body."""
        assert_error(client.get(path), 404, "UNSUPPORTED")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("POST", "/v2/", "GET, HEAD"),
            ("POST", "/v2/a/manifests/v1", "DELETE, GET, HEAD, PUT"),
            ("PUT", "/v2/a/tags/list", "GET, HEAD"),
            ("OPTIONS", "/v2/a/blobs/uploads/", "POST"),
            ("BREW", "/v2/_catalog", "GET, HEAD"),
            ("POST", "/", "GET, HEAD"),
            ("OPTIONS", "/readyz", "GET, HEAD"),
            ("DELETE", "/v2/NOT/a/name/tags/list", "GET, HEAD"),
        ],
    )
    def test_method(self, client: httpx.Client, method: str, path: str, allowed: str) -> None:
        """Another method on a known path is 405 and says which there are."""
        answer = client.request(method, path)
        assert_error(answer, 405, "UNSUPPORTED")
        assert answer.headers["Allow"] == allowed

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_root(self, client: httpx.Client, method: str) -> None:
        """The root is 200, for the checks of load balancers, and leads to the API."""
        answer = client.request(method, "/")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        if method == "GET":
            links = {"api": "/v2/", "description": "/openapi.json"}
            assert answer.json() == {"name": "Portside", "version": __version__, "links": links}
            assert {client.get(link).status_code for link in links.values()} == {200}

    def test_health(self, client: httpx.Client) -> None:
        """The registry says that it lives and that it is ready."""
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert client.head("/healthz").status_code == 200
        assert client.post("/healthz").status_code == 405


class TestBytes:
    """Requests as raw bytes, for what client libraries would not send."""

    @pytest.mark.parametrize(
        "path",
        [
            b"/v2/a%00b/tags/list",
            b"/v2/a/manifests/%00",
            b"/v2/%ff%fe/tags/list",
            b"/v2/a/manifests/%C3%28",
            b"/v2/../../etc/passwd",
            b"/v2/a/blobs/..%2F..%2F..%2Fetc%2Fpasswd",
            b"/v2/a/blobs/uploads/..%2F..%2Fportside.db",
            b"/v2/%2E%2E/%2E%2E/tags/list",
            b"/v2/a/manifests/" + b"x" * 5000,
            b"/v2/%zz/tags/list",
            b"/v2/a/tags/list?last=%ff%00%zz",
        ],
    )
    def test_paths(self, registry: RunningRegistry, path: bytes) -> None:
        """A path with bad UTF-8, NUL, dots or broken escapes is a client's error."""
        status, rest = raw_request(registry.host, registry.port, "GET", path)
        assert status in {400, 404}
        assert '{"errors":[{"code":' in rest
        assert "root:" not in rest

    @pytest.mark.parametrize(
        "length", ["-1", "abc", "99999999999999999999999", "1, 2", "+5", "0x5"]
    )
    def test_content_length(
        self, registry: RunningRegistry, client: httpx.Client, repository: str, length: str
    ) -> None:
        """An absurd Content-Length is refused, and the session is as it was."""
        location = open_upload(client, repository)
        status, _ = raw_request(
            registry.host,
            registry.port,
            "PATCH",
            location.encode(),
            f"Content-Length: {length}\r\n",
            b"hello",
        )
        assert 400 <= status < 500
        assert client.get(location).headers["Range"] == "0-0"

    def test_broken_chunks(
        self, registry: RunningRegistry, client: httpx.Client, repository: str
    ) -> None:
        """A chunked body that breaks the rules is cut off at the break."""
        location = open_upload(client, repository)
        head = (
            f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        exchange(registry.host, registry.port, head.encode() + b"3\r\nabc\r\nZZ\r\n")
        assert client.get(location).headers["Range"] in {"0-0", "0-2"}
        assert client.get("/v2/").status_code == 200

    @pytest.mark.parametrize("is_chunked_first", [True, False])
    def test_two_lengths(
        self,
        registry: RunningRegistry,
        client: httpx.Client,
        repository: str,
        is_chunked_first: bool,
    ) -> None:
        """Where a length and chunks are announced, the chunks count (RFC 9112, section 6.3)."""
        location = open_upload(client, repository)
        lengths = ["Transfer-Encoding: chunked\r\n", "Content-Length: 8\r\n"]
        both = "".join(lengths if is_chunked_first else reversed(lengths))
        body = b"3\r\nabc\r\n0\r\n\r\n"
        path = location.encode()
        status, _ = raw_request(registry.host, registry.port, "PATCH", path, both, body)
        assert status == 202
        assert client.get(location).headers["Range"] == "0-2"

    def test_body_longer_than_announced(
        self, registry: RunningRegistry, client: httpx.Client, repository: str
    ) -> None:
        """What follows the announced body is not part of it."""
        location = open_upload(client, repository)
        head = (
            f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            "Content-Length: 3\r\n\r\n"
        )
        answer = exchange(registry.host, registry.port, head.encode() + b"abcdefgh\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 202 ")
        assert client.get(location).headers["Range"] == "0-2"

    def test_large_headers(self, client: httpx.Client) -> None:
        """Header fields over the limit are 431, with an error body."""
        answer = client.get("/v2/", headers={"X-Large": "x" * 33_000})
        assert_error(answer, 431, "UNSUPPORTED")
        many = [(f"X-{number}", "y" * 600) for number in range(60)]
        assert client.get("/v2/", headers=many).status_code == 431

    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            ("/v2/_catalog?n=1&x={}", ""),
            ("/v2/_catalog", "X: {}\r\n"),
            ("/v2/_catalog", "X{}: 1\r\n"),
            ("/v2/_catalog?n=1&x=1", "X: 1\r\nX: {}\r\n"),
        ],
    )
    def test_largest_head(self, registry: RunningRegistry, path: str, headers: str) -> None:
        """The limit counts the path, the query, and the names and values of header fields."""
        counted = "/v2/_catalogHostlocalhostConnectionclose"
        given = path.partition("?")[2] + headers.replace("\r\n", "").replace(": ", "")
        room = 32 * 1024 - len(counted) - len(given) + len("{}")
        for size, expected in ((room, 200), (room + 1, 431)):
            padding = "a" * size
            target = path.format(padding).encode()
            fields = headers.format(padding)
            status, _ = raw_request(registry.host, registry.port, "GET", target, fields)
            assert status == expected

    @pytest.mark.parametrize("path", ["/v2/", "/oauth2/token", "/healthz", "/", "/nothing"])
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ("Host: other\r\n", 400),
            ("Transfer-Encoding: chunked, chunked\r\n", 501),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
            ("Content-Encoding: gzip\r\n", 415),
            ("".join(f"X-{number}: {'x' * 5000}\r\n" for number in range(80)), 431),
        ],
    )
    def test_heads_of_every_path(
        self, registry: RunningRegistry, path: str, headers: str, status: int
    ) -> None:
        """The limits of a head hold for every path, whether it exists or not."""
        # A server may wait for what is missing of a body, so that one is sent as a whole.
        body = b"0\r\n\r\n" if "chunked" in headers else b""
        found, _ = raw_request(registry.host, registry.port, "GET", path.encode(), headers, body)
        assert found == status or (found, status) in REFUSED_BEFORE

    @pytest.mark.parametrize("path", ["/v2/", "/v2/a/tags/list", "/oauth2/token", "/nothing"])
    def test_many_parameters(self, client: httpx.Client, path: str) -> None:
        """A query has at most 200 parameters, wherever it is sent."""
        fields = "&".join(f"a{number}" for number in range(200))
        assert client.get(f"{path}?{fields}").status_code in {200, 404}
        detail = assert_error(client.get(f"{path}?{fields}&a"), 414, "UNSUPPORTED")
        assert detail == "a query may have at most 200 parameters"

    def test_continue(self, registry: RunningRegistry, repository: str) -> None:
        """A refused push is answered before the body is asked for; an accepted one asks for it."""
        for digest, expected in (
            ("sha256:bad", b"HTTP/1.1 400 "),
            (digest_of(b"hello"), b"HTTP/1.1 100 "),
        ):
            head = (
                f"POST /v2/{repository}/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: [::1]\r\n"
                "Connection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            answer = exchange(registry.host, registry.port, head.encode() + b"hello")
            assert answer.startswith(expected)

    def test_continue_too_large(self, registry: RunningRegistry, repository: str) -> None:
        """A manifest that is announced to be too large is not asked for."""
        head = (
            f"PUT /v2/{repository}/manifests/v1 HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n"
            f"Expect: 100-continue\r\nContent-Length: {4 * 1024 * 1024 + 1}\r\n\r\n"
        )
        answer = exchange(registry.host, registry.port, head.encode())
        assert answer.startswith(b"HTTP/1.1 413 ")

    def test_pipelined(self, registry: RunningRegistry) -> None:
        """Requests that come in one piece are answered in order."""
        one = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = exchange(registry.host, registry.port, one * 3 + last)
        assert answer.count(b"HTTP/1.1 200 ") == 3
        assert answer.count(b"HTTP/1.1 404 ") == 1

    def test_unread_bodies(
        self, registry: RunningRegistry, client: httpx.Client, repository: str
    ) -> None:
        """A body that was not read is not taken for the next request."""
        body = b"GET /v2/_catalog HTTP/1.1\r\nHost: localhost\r\n\r\n"
        head = (
            f"PUT /v2/{repository}/blobs/uploads/{'0' * 32}?digest={digest_of(b'')} HTTP/1.1\r\n"
            f"Host: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        last = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = exchange(registry.host, registry.port, head.encode() + body + last)
        assert b"repositories" not in answer
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert client.get("/v2/").status_code == 200

    def test_a_manifest_as_a_header(self, client: httpx.Client, repository: str) -> None:
        """A type that cannot be a header again is not stored."""
        answer = client.put(
            f"/v2/{repository}/manifests/v1",
            content=b'{"mediaType": "a\\r\\nX-Evil: 1"}',
        )
        assert_error(answer, 400, "MANIFEST_INVALID")
        answer = client.put(
            f"/v2/{repository}/manifests/v1",
            content='{"mediaType": "ä€"}'.encode(),
        )
        assert_error(answer, 400, "MANIFEST_INVALID")

    def test_errors_do_not_echo_without_end(self, client: httpx.Client) -> None:
        """An error quotes only the start of what was wrong."""
        answer = client.get(f"/v2/a/manifests/sha256:{'x' * 20_000}")
        assert_error(answer, 400, "DIGEST_INVALID")
        assert len(answer.content) < 1000
        answer = client.put(
            f"/v2/a/manifests/{'y' * 20_000}", content=b"{}", headers={"Content-Type": OCI_MANIFEST}
        )
        assert len(answer.content) < 1000
