"""Once one node has acknowledged a change, every other node answers accordingly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.access import CHEAP
from support.content import digest_of, image, make_blob
from support.homes import Home
from support.nodes import Cluster, running_cluster
from support.waiting import until
from support.wire import connect, open_upload, push, push_blob, put_manifest

ROUNDS = 15
FRESHNESS = 0.2
"""Seconds within which every node sees a change of access control, as it is documented."""


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[list[httpx.Client]]:
    """Talk to each node by itself."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(connect(node.url, follow_redirects=True)) for node in cluster.nodes
        ]


@pytest.fixture(params=range(3))
def three(request: pytest.FixtureRequest, nodes: list[httpx.Client]) -> list[httpx.Client]:
    """Return the nodes, each of them once as the first, which writes."""
    return [*nodes[request.param :], *nodes[: request.param]]


class TestContent:
    """Tags, manifests and blobs, asked for at once."""

    def test_moved_tag(self, three: list[httpx.Client], repository: str) -> None:
        """Other nodes return the new manifest of a moved tag, even if they returned the old one."""
        writer, *readers = three
        contents = [image((repository, number)) for number in range(2)]
        for content in contents:
            push(writer, repository, content)
        path = f"/v2/{repository}/manifests/v1"
        for turn in range(ROUNDS):
            content = contents[turn % 2]
            assert put_manifest(writer, repository, content, "v1").status_code == 201
            for reader in readers:
                assert reader.get(path).content == content.manifest
                assert reader.head(path).headers["Docker-Content-Digest"] == content.digest

    def test_deleted(self, three: list[httpx.Client], repository: str) -> None:
        """Deleted content is gone on every node, and content that is pushed again is back."""
        writer, *readers = three
        content = image(repository)
        layer = digest_of(content.blobs[1])
        paths = [
            f"/v2/{repository}/{rest}"
            for rest in ("manifests/v1", f"manifests/{content.digest}", f"blobs/{layer}")
        ]
        for _ in range(ROUNDS // 5):
            push(writer, repository, content, "v1")
            for reader in readers:
                assert [reader.get(path).status_code for path in paths] == [200] * 3
                assert reader.get(f"/v2/{repository}/tags/list").json()["tags"] == ["v1"]
            assert writer.delete(paths[0]).status_code == 202
            for reader in readers:
                assert [reader.get(path).status_code for path in paths] == [404, 200, 200]
            assert writer.delete(paths[1]).status_code == 202
            assert writer.delete(paths[2]).status_code == 202
            for reader in readers:
                assert [reader.get(path).status_code for path in paths] == [404] * 3
                assert reader.get(f"/v2/{repository}/tags/list").json()["tags"] == []

    def test_upload(self, three: list[httpx.Client], repository: str) -> None:
        """An upload goes on at any node, and is gone everywhere when it is cancelled or ended."""
        first, second, third = three
        content = make_blob(10_000, repository)
        location = open_upload(first, repository)
        assert second.patch(location, content=content[:5000]).status_code == 202
        assert third.get(location).headers["Range"] == "0-4999"
        assert first.patch(location, content=content[5000:]).status_code == 202
        assert second.put(location, params={"digest": digest_of(content)}).status_code == 201
        for node in three:
            assert node.get(location).status_code == 404
            assert node.get(f"/v2/{repository}/blobs/{digest_of(content)}").content == content
        location = open_upload(first, repository)
        assert second.delete(location).status_code == 204
        assert third.patch(location, content=b"x").status_code == 404

    def test_mounted(self, three: list[httpx.Client], repository: str) -> None:
        """A blob can be mounted on other nodes as soon as it was pushed."""
        writer, *readers = three
        digest = push_blob(writer, repository, make_blob(100, repository))
        for number, reader in enumerate(readers):
            path = f"/v2/{repository}/{number}/blobs/uploads/"
            query = {"mount": digest, "from": repository}
            assert reader.post(path, params=query).status_code == 201
            assert writer.get(f"/v2/{repository}/{number}/blobs/{digest}").status_code == 200


@pytest.fixture(scope="module")
def guarded(
    make_home: Callable[[str], Home], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Serve a closed registry from two nodes, without a limit on failed logins."""
    home = make_home(kind)
    home = replace(home, env={**home.env, **CHEAP})
    folder = tmp_path_factory.mktemp("guarded")
    password = folder / "password"
    password.write_text("alice's password\n")
    home.manage("user", "add", "alice", "--create", "--password-file", str(password))
    with running_cluster(home, folder, "--login-failures", "0", count=2) as cluster:
        yield cluster


def wait_for_everybody() -> None:
    """Wait for the time within which every node has to see a change."""
    changed = time.monotonic()
    until(lambda: time.monotonic() > changed + FRESHNESS)


@pytest.fixture
def pair(guarded: Cluster) -> Iterator[list[httpx.Client]]:
    """Talk to each of the nodes that ask for credentials."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(node.url)) for node in guarded.nodes]


def statuses(nodes: list[httpx.Client], path: str = "/v2/", **options: Any) -> list[int]:
    """Ask each node."""
    return [node.get(path, **options).status_code for node in nodes]


class TestAccess:
    """Changes by the command line hold on every node, within the time that is promised."""

    def test_user(self, guarded: Cluster, pair: list[httpx.Client], tmp_path: Path) -> None:
        """A disabled or removed user is denied on every node, with earlier tokens as well."""
        password = tmp_path / "password"
        password.write_text("bob's password\n")
        bob = ("bob", "bob's password")
        guarded.home.manage("user", "add", "bob", "--password-file", str(password))
        for change in ("disable", "remove"):
            until(lambda: statuses(pair, auth=bob) == [200, 200])
            given = pair[0].get("/oauth2/token", auth=bob).json()["token"]
            headers = {"Authorization": f"Bearer {given}"}
            assert statuses(pair, headers=headers) == [200, 200]
            guarded.home.manage("user", change, "bob")
            wait_for_everybody()
            assert statuses(pair, headers=headers) == [401, 401]
            assert statuses(pair, auth=bob) == [401, 401]
            if change == "disable":
                guarded.home.manage("user", "enable", "bob")

    def test_token(self, guarded: Cluster, pair: list[httpx.Client]) -> None:
        """A token's scope map changes what it may do on every node; a deleted one ends there."""
        do = guarded.home.manage
        do("scope-map", "create", "readers", "--repository", "team/*:pull")
        printed = do("token", "create", "robot", "--scope-map", "readers", "--json")
        robot = ("robot", json.loads(printed)["passwords"][0]["value"])
        path = "/v2/team/app/tags/list"
        until(lambda: statuses(pair, path, auth=robot) == [404, 404])
        do(
            "scope-map", "update", "readers", "--repository", "other/*:pull",
            "--remove-repository", "team/*",
        )  # fmt: skip
        wait_for_everybody()
        assert statuses(pair, path, auth=robot) == [403, 403]
        do("token", "delete", "robot")
        wait_for_everybody()
        assert statuses(pair, path, auth=robot) == [401, 401]

    def test_signing_key(self, guarded: Cluster, pair: list[httpx.Client]) -> None:
        """A token that one node has signed with a new key is accepted by the other at once."""
        alice = ("alice", "alice's password")
        guarded.home.manage("keys", "rotate")
        wait_for_everybody()
        for one, other in permutations(pair):
            given = one.get("/oauth2/token", auth=alice).json()["token"]
            headers = {"Authorization": f"Bearer {given}"}
            assert other.get("/v2/", headers=headers).status_code == 200
