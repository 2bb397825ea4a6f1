"""nginx, configured as the documentation says, between clients and three nodes."""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from portside.config import make_settings
from support.balancer import CONFIGURATION, Balancer
from support.content import digest_of, image, make_blob
from support.nodes import Cluster
from support.waiting import until
from support.wire import OCTETS, connect, open_upload, push, push_blob, put_manifest

MIB = 2**20


class TestUpload:
    """The requests of one upload, of which each reaches another node."""

    def test_round_robin(self, cluster: Cluster, client: httpx.Client, repository: str) -> None:
        """POST, PATCHes, questions, and PUT: no two in a row are answered by the same node."""
        content = make_blob(MIB, repository)
        location = open_upload(client, repository)
        step = MIB // 8
        for start in range(0, MIB, step):
            headers = {**OCTETS, "Content-Range": f"{start}-{start + step - 1}"}
            piece = content[start : start + step]
            answer = client.patch(location, content=piece, headers=headers)
            assert answer.status_code == 202
            location = answer.headers["Location"]
            assert client.get(location).headers["Range"] == f"0-{start + step - 1}"
        answer = client.put(location, params={"digest": digest_of(content)})
        assert answer.status_code == 201
        assert client.get(answer.headers["Location"]).content == content

        prefix = f"/v2/{repository}/blobs/uploads/"
        until(lambda: len(cluster.balancer.answers(prefix)) == 18)
        answers = cluster.balancer.answers(prefix)
        methods = [*["PATCH", "GET"] * 8, "PUT"]
        assert [answer.method for answer in answers] == ["POST", *methods]
        ports = [node.port for node in cluster.nodes]
        turns = [ports.index(answer.port) for answer in answers]
        assert {(after - before) % 3 for before, after in pairwise(turns)} in ({1}, {2})
        for node, number in zip(cluster.nodes, range(3), strict=True):
            seen = [request for request in node.requests if request["path"].startswith(prefix)]
            assert len(seen) == turns.count(number) == 6

    def test_every_way(self, client: httpx.Client, repository: str) -> None:
        """A blob can be pushed in one request, in two, and in a stream of unknown length."""
        path = f"/v2/{repository}/blobs/uploads/"
        for way in range(3):
            content = make_blob(3 * MIB, (repository, way))
            query = {"digest": digest_of(content)}
            if way == 0:
                answer = client.post(path, params=query, content=content)
            elif way == 1:
                answer = client.put(open_upload(client, repository), params=query, content=content)
            else:
                location = open_upload(client, repository)
                pieces = (content[i : i + 100_000] for i in range(0, len(content), 100_000))
                assert client.patch(location, content=pieces).status_code == 202
                answer = client.put(location, params=query)
            assert answer.status_code == 201
            assert client.get(answer.headers["Location"]).content == content

    def test_cut_off(self, cluster: Cluster, client: httpx.Client, repository: str) -> None:
        """The bytes of an interrupted body are kept, and the upload continues on another node."""
        content = make_blob(2 * MIB, repository)
        location = open_upload(client, repository)
        head = f"PATCH {location} HTTP/1.1\r\nHost: [::1]\r\nContent-Length: {len(content)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", cluster.balancer.port)) as connection:
            connection.sendall(head.encode() + content[:MIB])
        until(lambda: client.get(location).headers["Range"] != "0-0")
        start = int(client.get(location).headers["Range"].removeprefix("0-")) + 1
        assert 0 < start <= MIB
        headers = {"Content-Range": f"{start}-{len(content) - 1}"}
        answer = client.patch(location, content=content[start:], headers=headers)
        assert answer.status_code == 202, answer.text
        answer = client.put(location, params={"digest": digest_of(content)})
        assert answer.status_code == 201


class TestRequests:
    """Requests that a balancer could damage."""

    def test_encoded_names(self, client: httpx.Client, repository: str) -> None:
        """Percent-encoded names and digests reach the nodes as they were sent, deletes too."""
        content = image(repository)
        push(client, repository, content, "v1")
        encoded = repository.replace("/", "%2F")
        digest = content.digest.replace(":", "%3A")
        assert client.get(f"/v2/{encoded}/manifests/{digest}").content == content.manifest
        assert client.delete(f"/v2/{encoded}/manifests/{digest}").status_code == 202
        assert client.get(f"/v2/{repository}/manifests/v1").status_code == 404

    def test_a_hundred_tags(self, client: httpx.Client, repository: str) -> None:
        """A push with as many tags as are allowed, all of full length, comes through and back."""
        content = image(repository)
        push(client, repository, content)
        tags = [f"{number:03}{'x' * 125}" for number in range(100)]
        path = f"/v2/{repository}/manifests/{content.digest}"
        headers = {"Content-Type": content.media_type}
        answer = client.put(path, params={"tag": tags}, content=content.manifest, headers=headers)
        assert answer.status_code == 201
        assert all(tag in answer.headers["OCI-Tag"] for tag in tags)

    def test_ranges_and_conditions(self, client: httpx.Client, repository: str) -> None:
        """A part of a blob, a head, and an answer that says that nothing has changed."""
        content = make_blob(1000, repository)
        path = f"/v2/{repository}/blobs/{push_blob(client, repository, content)}"
        part = client.get(path, headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, content[10:20])
        head = client.head(path)
        assert head.headers["Content-Length"] == "1000"
        match = {"If-None-Match": head.headers["ETag"]}
        assert client.get(path, headers=match).status_code == 304

    def test_tls(self, cluster: Cluster, repository: str) -> None:
        """With TLS it is the same."""
        trust = ssl.create_default_context(cafile=str(cluster.balancer.certificate))
        content = image(repository)
        with connect(cluster.balancer.tls_url, verify=trust) as client:
            push(client, repository, content, "v1")
            assert client.get(f"/v2/{repository}/manifests/v1").content == content.manifest

    def test_refusals(self, client: httpx.Client, repository: str) -> None:
        """The nodes' own errors come through, with a body that was refused half-way."""
        answer = client.put(
            f"/v2/{repository}/manifests/large",
            content=bytes(5 * MIB),
            headers={"Content-Type": image(1).media_type},
        )
        assert answer.status_code == 413
        assert answer.json()["errors"][0]["code"] == "MANIFEST_INVALID"
        # nginx may end the connection of the body that it could not pass on.
        with connect(str(client.base_url)) as another:
            assert put_manifest(another, repository, image(repository)).status_code == 400


def test_idle_connections() -> None:
    """The balancer ends them before a node does, by the defaults of both."""
    found = re.search(r"keepalive_timeout (\d+)s;", CONFIGURATION.read_text("utf-8"))
    assert found is not None
    assert int(found[1]) < make_settings({}).idle_timeout


class Deserter(socketserver.BaseRequestHandler):
    """A node that is killed as soon as it has read a request."""

    seen: list[str]

    def handle(self) -> None:
        """Read, note the method, and go."""
        received = self.request.recv(65536)
        if received:
            self.seen.append(received.split(b" ", 1)[0].decode())


@contextmanager
def deserters(count: int) -> Iterator[tuple[list[int], list[str]]]:
    """Run such nodes; returns their ports, and the methods that they have seen."""
    seen: list[str] = []
    handler = type("Handler", (Deserter,), {"seen": seen})
    servers = [socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) for _ in range(count)]
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        for server in servers
    ]
    for thread in threads:
        thread.start()
    yield [server.server_address[1] for server in servers], seen
    for server in servers:
        server.shutdown()
        server.server_close()


class TestRepeating:
    """Which requests are sent once, and which may be retried on another node."""

    @pytest.mark.parametrize(
        ("method", "body", "times"),
        [
            ("GET", None, 3),
            ("HEAD", None, 3),
            ("POST", None, 1),
            ("POST", b"body", 1),
            ("PATCH", b"body", 1),
            ("PUT", None, 1),
            ("PUT", b"body", 1),
            ("DELETE", None, 1),
        ],
    )
    def test_node_that_ends(
        self, tmp_path: Path, method: str, body: bytes | None, times: int
    ) -> None:
        """Only reads are retried; for other requests the client gets a 502."""
        with deserters(3) as (ports, seen):
            balancer = Balancer(tmp_path, ports)
            with balancer.running(), connect(balancer.url) as client:
                answer = client.request(method, "/v2/a/manifests/v1", content=body)
                assert answer.status_code == 502
        assert seen == [method] * times

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PATCH"])
    def test_node_that_is_away(self, cluster: Cluster, tmp_path: Path, method: str) -> None:
        """A request that no node has received is sent to another node."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            away = taken.getsockname()[1]
        balancer = Balancer(tmp_path, [away, cluster.nodes[0].port])
        with balancer.running(), connect(balancer.url) as client:
            for _ in range(4):
                path = "/v2/away/blobs/uploads/"
                assert client.request(method, path).status_code in {202, 405}
