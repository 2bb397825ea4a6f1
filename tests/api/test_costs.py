"""What a request costs: queries to PostgreSQL, requests to the object store, passes over bytes.

These are promises: a node is as fast as what it asks of others, and they are what grows with nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from servers.counts import Counting, Counts
from support.content import Content, digest_of, image, index, make_blob
from support.postgres import Server
from support.s3 import BUCKET, S3, running_s3
from support.schema1 import SIGNED, built
from support.server import running_registry
from support.wire import ANYBODY, connect

LARGE = 20_000_000
"""Bytes: more than a push keeps in memory, so that it goes to the store in parts."""

QUERIES = 4
"""At most, for a push in one request, with what begins and ends its transaction."""


class Node:
    """One node of a registry, and what it asks for."""

    def __init__(self, client: httpx.Client, counting: Counting) -> None:
        self.client = client
        self._counting = counting

    def cost(self, ask: Callable[[], httpx.Response], status: int) -> Counts:
        """Count what a request asks for, whose answer is as expected."""

        def asked() -> None:
            answer = ask()
            assert answer.status_code == status, answer.text

        return self._counting.count(asked)

    def push(self, repository: str, content: bytes) -> httpx.Response:
        """Push a blob in one request."""
        path = f"/v2/{repository}/blobs/uploads/"
        return self.client.post(path, params={"digest": digest_of(content)}, content=content)


@contextmanager
def serving(data: Path, postgresql: Server, s3: S3, *options: str) -> Iterator[Node]:
    """Serve with one worker and no collector; what is done once, at the start, is done."""
    database = postgresql.make_database()
    storage = ("--database", database, "--storage", f"s3://{BUCKET}/{data.parent.name}")
    one = (*storage, "--workers", "1", "--no-gc", *options)
    with (
        running_registry(data, *one, env=s3.environment) as running,
        connect(running.url) as client,
    ):
        node = Node(client, Counting(postgresql, database, s3))
        assert node.push("first", b"first").status_code == 201
        yield node


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Serve S3 for these tests alone: requests that others broke off may stay in its counts."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, postgresql: Server, s3: S3) -> Iterator[Node]:
    """Serve with the settings that a registry has by default."""
    with serving(tmp_path_factory.mktemp("costs") / "data", postgresql, s3) as node:
        yield node


class TestPulls:
    """What is asked for most."""

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_manifest(self, node: Node, repository: str, method: str) -> None:
        """One query, and nothing of the object store."""
        content = image(repository)
        for blob in content.blobs:
            assert node.push(repository, blob).status_code == 201
        kind = {"Content-Type": content.media_type}
        path = f"/v2/{repository}/manifests"
        put = node.client.put(f"{path}/v1", content=content.manifest, headers=kind)
        assert put.status_code == 201
        for reference in ("v1", digest_of(content.manifest)):
            cost = node.cost(lambda: node.client.request(method, f"{path}/{reference}"), 200)  # noqa: B023
            assert (cost.queries, cost.frames) == (1, 0), cost.statements
            assert cost.requests == Counter()

    def test_a_manifest_of_schema_1(self, node: Node, repository: str) -> None:
        """Two queries, for the manifest and for its config, which is read once."""
        content = built(repository)
        for blob in content.blobs:
            assert node.push(repository, blob).status_code == 201
        kind = {"Content-Type": content.media_type}
        path = f"/v2/{repository}/manifests/v1"
        assert node.client.put(path, content=content.manifest, headers=kind).status_code == 201
        cost = node.cost(lambda: node.client.get(path, headers={"Accept": SIGNED}), 200)
        assert (cost.queries, cost.frames) == (2, 0), cost.statements
        assert cost.requests == Counter(GET=1)

    def test_a_blob(self, node: Node, repository: str) -> None:
        """One query and one signature, for which nothing is asked."""
        node.push(repository, b"content")
        path = f"/v2/{repository}/blobs/{digest_of(b'content')}"
        cost = node.cost(lambda: node.client.get(path), 307)
        assert (cost.queries, cost.frames) == (1, 0), cost.statements
        assert cost.requests == Counter()

    def test_the_size_of_a_blob(self, node: Node, repository: str) -> None:
        """One query, and one look whether the bytes are there."""
        node.push(repository, b"sized")
        path = f"/v2/{repository}/blobs/{digest_of(b'sized')}"
        cost = node.cost(lambda: node.client.head(path), 200)
        assert (cost.queries, cost.frames) == (1, 0), cost.statements
        assert cost.requests == Counter(GET=1)


class TestPushes:
    """A blob in one request, and a manifest."""

    @pytest.mark.parametrize(("size", "queries"), [(1000, QUERIES), (LARGE, QUERIES + 1)])
    def test_queries(self, node: Node, repository: str, size: int, queries: int) -> None:
        """A handful, however large the blob; the event of a large one comes after its bytes."""
        # A connection asks once for the types of the parameters.
        node.push(repository, make_blob(size, "the first of the repository"))
        content = make_blob(size, repository)
        cost = node.cost(lambda: node.push(repository, content), 201)
        assert cost.queries + cost.frames <= queries, cost.statements

    def test_queries_of_the_first(self, node: Node, repository: str) -> None:
        """A small one makes the repository on the way."""
        cost = node.cost(lambda: node.push(repository, b"first"), 201)
        assert cost.queries + cost.frames <= QUERIES, cost.statements

    def test_queries_with_a_quota(self, tmp_path: Path, postgresql: Server, s3: S3) -> None:
        """Five more where a quota governs the repository, and none elsewhere."""
        rules = tmp_path / "rules.toml"
        rules.write_text('[[repositories]]\nmatch = "team/*"\nquota = "1GiB"\n')
        with serving(tmp_path / "data", postgresql, s3, "--rules", str(rules)) as node:
            for repository, most in (("free", QUERIES), ("team/app", QUERIES + 5)):
                node.push(repository, b"the first of the repository")
                content = make_blob(1000, repository)
                cost = node.cost(lambda: node.push(repository, content), 201)  # noqa: B023
                assert cost.queries + cost.frames <= most, cost.statements

    def test_queries_of_a_chunk(self, node: Node, repository: str) -> None:
        """One finds the session and the locks of its repository, one stores the offset."""
        path = node.client.post(f"/v2/{repository}/blobs/uploads/").headers["Location"]
        for chunk in (b"first", b"second"):
            cost = node.cost(lambda: node.client.patch(path, content=chunk), 202)  # noqa: B023
            assert (cost.queries, cost.frames) == (2, 0), cost.statements

    def test_a_manifest(self, node: Node, repository: str) -> None:
        """The config is read once; of a manifest that is known, times and an event are written."""
        path, kind = f"/v2/{repository}/manifests/v1", {"Content-Type": image("any").media_type}

        def push(content: Content) -> httpx.Response:
            return node.client.put(path, content=content.manifest, headers=kind)

        # A connection asks once for the types of the parameters.
        contents = [image(f"{repository}{number}") for number in range(2)]
        for content in contents:
            for blob in content.blobs:
                assert node.push(repository, blob).status_code == 201
        assert push(contents[0]).status_code == 201
        for queries, requests in ((12, 2), (8, 0), (8, 0)):
            cost = node.cost(lambda: push(contents[1]), 201)
            assert (cost.queries, cost.frames) == (queries, 2), cost.statements
            assert cost.requests == Counter(GET=requests)

    @pytest.mark.parametrize("size", [1000, LARGE])
    def test_bytes(self, node: Node, repository: str, size: int) -> None:
        """They go to the store once, and nothing comes back."""
        content = make_blob(size, repository)
        cost = node.cost(lambda: node.push(repository, content), 201)
        assert (cost.received, cost.sent) == (size, 0), cost.requests

    def test_a_wrong_digest_again(self, node: Node, repository: str) -> None:
        """What was received is read once for each algorithm, and not for each wrong digest."""
        path = node.client.post(f"/v2/{repository}/blobs/uploads/").headers["Location"]
        assert node.client.patch(path, content=make_blob(1000, repository)).status_code == 202
        wrong = {"digest": digest_of(b"wrong", "sha512")}
        for last, read in ((b"", 1000), (b"", 0), (b"more", 4), (b"", 0)):
            cost = node.cost(lambda: node.client.put(path, params=wrong, content=last), 400)  # noqa: B023
            assert cost.sent == read, cost.requests

    def test_requests_of_a_small_blob(self, node: Node, repository: str) -> None:
        """It is put where it stays."""
        cost = node.cost(lambda: node.push(repository, b"a small blob"), 201)
        assert cost.requests == Counter(PUT=1)


IMAGE = image("costs")
TAG_PATH, MANIFEST_PATH = "/_tags/v1", f"/_manifests/{IMAGE.digest}"


class TestProperties:
    """ACR's own API."""

    @pytest.fixture(scope="class")
    @staticmethod
    def filled(node: Node) -> str:
        """Push an image under several tags, and an index of it."""
        for blob in IMAGE.blobs:
            assert node.push("costs/app", blob).status_code == 201
        for content, tags in ((IMAGE, ["v1", "v2", "v3"]), (index(IMAGE), ["all"])):
            put = node.client.put(
                f"/v2/costs/app/manifests/{content.digest}",
                params={"tag": tags},
                content=content.manifest,
                headers={"Content-Type": content.media_type},
            )
            assert put.status_code == 201
        return "/acr/v1/costs/app"

    @pytest.mark.parametrize(
        ("place", "queries"),
        [
            ("", 1),
            (TAG_PATH, 2),
            (MANIFEST_PATH, 3),
            (f"/_manifests/{index(IMAGE).digest}", 4),
            ("/_tags", 2),
            ("/_tags?n=1&orderby=timedesc", 2),
            (f"/_tags?digest={IMAGE.digest}", 3),
            ("/_manifests?orderby=timeasc", 4),
        ],
    )
    def test_reads(self, node: Node, filled: str, place: str, queries: int) -> None:
        """The repository, what is asked for, its tags, and payloads only of indexes."""
        cost = node.cost(lambda: node.client.get(filled + place, headers=ANYBODY), 200)
        assert (cost.queries, cost.frames) == (queries, 0), cost.statements
        assert cost.requests == Counter()

    def test_the_catalog(self, node: Node, filled: str) -> None:
        """One query."""
        assert filled
        cost = node.cost(lambda: node.client.get("/acr/v1/_catalog", headers=ANYBODY), 200)
        assert (cost.queries, cost.frames) == (1, 0), cost.statements

    @pytest.mark.parametrize(("place", "queries"), [("", 5), (TAG_PATH, 5), (MANIFEST_PATH, 6)])
    def test_changes(self, node: Node, filled: str, place: str, queries: int) -> None:
        """A transaction that locks the repository, changes a row, reads it, and records it."""
        path = filled + place
        change = {"readEnabled": True}
        cost = node.cost(lambda: node.client.patch(path, json=change, headers=ANYBODY), 200)
        assert (cost.queries, cost.frames) == (queries, 2), cost.statements
        assert cost.requests == Counter()
