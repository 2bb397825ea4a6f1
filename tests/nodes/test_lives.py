"""When a node is ready, how it starts without what it needs, and how it ends behind a balancer."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from support.balancer import listens, take_port
from support.content import digest_of, image, make_blob
from support.faulty_http import Faulty
from support.homes import Home
from support.nodes import Cluster, Node
from support.postgres import Server
from support.s3 import BUCKET, S3
from support.waiting import PATIENCE, until
from support.wire import ONCE, assert_error, connect, open_upload, push


def readiness(mortal: Cluster) -> list[httpx.Response]:
    """Ask each node whether it is ready."""
    return [httpx.get(f"{node.url}/readyz", **ONCE) for node in mortal.nodes]


def trouble(node: Node, *stores: str) -> str:
    """Ask a node until it says that the stores are not ready; returns its line."""
    # The workers of a node notice it one after the other, within a second.
    answers: list[httpx.Response] = []

    def is_noticed() -> bool:
        answers.append(httpx.get(f"{node.url}/readyz", **ONCE))
        is_refused = answers[-1].status_code == 503
        return is_refused and all(store in answers[-1].text for store in stores)

    until(is_noticed)
    answer = answers[-1]
    detail = assert_error(answer, 503, "UNAVAILABLE")
    assert "\n" not in detail
    assert answer.headers["Retry-After"]
    return detail


def is_ready(mortal: Cluster) -> bool:
    """Whether all nodes are running."""
    return [answer.status_code for answer in readiness(mortal)] == [200] * 3


class TestReadiness:
    """`/readyz`: both the database and the blob store have to do their part."""

    def test_database(self, mortal: Cluster, database: Server, repository: str) -> None:
        """Without the database no node is ready, and says so; with it, all are, by themselves."""
        assert is_ready(mortal)
        database.stop()
        try:
            for node in mortal.nodes:
                assert trouble(node).startswith("the database")
            # It is alive: a restart would not help.
            assert httpx.get(f"{mortal.nodes[0].url}/healthz", **ONCE).status_code == 200
            answer = httpx.get(f"{mortal.url}/v2/{repository}/tags/list", **ONCE)
            assert_error(answer, 503, "UNAVAILABLE")
        finally:
            database.start()
        until(lambda: is_ready(mortal))
        with connect(mortal.url) as client:
            push(client, repository, image(repository), "v1")

    def test_blob_store(self, mortal: Cluster, way: Faulty) -> None:
        """Without the blob store no node is ready, and says so; with it, all are."""
        way.fail(503, 10_000)
        try:
            with ThreadPoolExecutor(3) as pool:
                for detail in pool.map(trouble, mortal.nodes):
                    assert detail.startswith("the blob store does not work")
                    assert "database" not in detail
        finally:
            way.heal()
        until(lambda: is_ready(mortal))

    def test_both(self, mortal: Cluster, way: Faulty, database: Server) -> None:
        """If both are down, and one of them does not answer, one line names both."""
        way.stall()
        database.stop()
        try:
            with ThreadPoolExecutor(3) as pool:
                names = ("the database", "the blob store")
                for detail in pool.map(lambda node: trouble(node, *names), mortal.nodes):
                    assert detail.startswith("the database")
        finally:
            way.heal()
            database.start()
        until(lambda: is_ready(mortal))


class TestStart:
    """`portside serve` without its database or its object store."""

    def test_no_database(self, tmp_path: Path) -> None:
        """One line says what is missing, and where it was looked for."""
        home = Home(tmp_path / "data", f"postgresql:///registry?host={tmp_path}")
        code, printed, errors = home.run("serve", "--listen", "127.0.0.1:0")
        assert (code, printed) == (1, "")
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith("portside: ")
        assert "database" in errors
        assert str(tmp_path) in errors

    def test_no_blob_store(self, tmp_path: Path, database: Server) -> None:
        """Likewise without an object store."""
        endpoint = f"http://127.0.0.1:{take_port()}"
        storage = (f"s3://{BUCKET}", S3.environment_at(endpoint))
        home = Home(tmp_path / "data", database.make_database(), *storage)
        code, printed, errors = home.run("serve", "--listen", "127.0.0.1:0")
        assert (code, printed) == (1, "")
        assert len(errors.splitlines()) == 1, errors
        assert endpoint in errors


class TestEnd:
    """SIGTERM, with requests in flight."""

    def test_requests_in_flight(self, mortal: Cluster, way: Faulty, repository: str) -> None:
        """Each node has half of a chunk when it is told to stop: all chunks are taken whole."""
        content = make_blob(100_000, repository)
        port = mortal.balancer.port
        with connect(mortal.url) as client, ExitStack() as stack:
            locations = [open_upload(client, repository) for _ in mortal.nodes]
            connections = []
            for location in locations:
                connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
                connections.append(stack.enter_context(connection))
                head = f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                head += f"Content-Length: {len(content)}\r\n\r\n"
                connection.sendall(head.encode() + content[:50_000])
            until(lambda: all(is_held(way, location) for location in locations))
            first = mortal.nodes[0].terminate()
            until(lambda: not listens(mortal.nodes[0].port))
            for connection in connections:
                connection.sendall(content[50_000:])
            answers = [connection.recv(65536) for connection in connections]
            assert [answer.split(b" ")[1] for answer in answers] == [b"202"] * 3
            assert first.wait() == 0
            # Two nodes go on with all uploads, and with everything else.
            for location in locations:
                assert client.get(location).headers["Range"] == f"0-{len(content) - 1}"
                finish(client, location, content)
            served = {request["status"] for request in patches(mortal, 0, repository)}
            assert served == {202}
        mortal.nodes[0].start()

    @pytest.mark.long
    def test_one_after_another(self, mortal: Cluster, repository: str) -> None:
        """Nodes are replaced, and the balancer asks each again before the next: no read fails."""
        content = image(repository)
        with connect(mortal.url) as client:
            push(client, repository, content, "v1")
            path = f"/v2/{repository}/manifests/v1"

            def is_back(port: int) -> bool:
                assert client.get(path).status_code == 200
                return any(answer.port == port for answer in mortal.balancer.answers(path)[-3:])

            for node in mortal.nodes[:2]:
                first = node.terminate()
                while first.process.poll() is None:
                    assert client.get(path).status_code == 200
                assert first.wait() == 0
                node.start()
                until(partial(is_back, node.port))


def is_held(way: Faulty, location: str) -> bool:
    """Whether a node has begun to write to an upload: it asked the store for it."""
    upload = location.rpartition("/")[2]
    return any(upload in line for line in way.requests)


def finish(client: httpx.Client, location: str, content: bytes) -> None:
    """End an upload; the balancer may take a while to notice that a node is gone."""
    answer = client.put(location, params={"digest": digest_of(content)})
    if answer.status_code == 502:
        answer = client.put(location, params={"digest": digest_of(content)})
    assert answer.status_code == 201


def patches(mortal: Cluster, node: int, repository: str) -> list[dict[str, object]]:
    """List the chunks that a node has taken."""
    return [
        request
        for request in mortal.nodes[node].requests
        if request["method"] == "PATCH" and request["path"].startswith(f"/v2/{repository}/")
    ]
