"""Concurrent calls to many nodes are linearizable: one order of the calls explains all answers."""

from __future__ import annotations

import random
import threading
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import httpx
import pytest

from support.content import digest_of, image
from support.histories import Call, History, Sequential
from support.nodes import Cluster
from support.waiting import PATIENCE
from support.wire import connect, push, push_blob, put_manifest

CLIENTS = 4
CALLS = 25
OTHER = {"a": "b", "b": "a"}


class Contents(NamedTuple):
    """What is linked in two repositories, and what is tagged in the first, as one state."""

    blob: frozenset[str]
    manifest: bool
    tag: str


def step(state: Contents, request: tuple[str, ...]) -> tuple[Contents, Hashable]:
    """Do one thing, as the specification has it, and nothing else at the same time."""
    kind, *rest = request
    if kind in {"push", "mount", "unlink", "head"}:
        return _blob_step(state, kind, rest[0])
    if kind == "delete":
        tag = "" if state.tag == "needy" else state.tag
        return state._replace(manifest=False, tag=tag), 202 if state.manifest else 404
    if kind == "manifest":
        if "a" not in state.blob:
            return state, 400
        return state._replace(manifest=True, tag="needy"), 201
    return _tag_step(state, kind, *rest)


def _tag_step(state: Contents, kind: str, target: str = "") -> tuple[Contents, Hashable]:
    if kind == "tag":
        return state._replace(tag=target), 201
    if kind == "untag":
        return state._replace(tag=""), 202 if state.tag else 404
    assert kind == "pull"
    return state, state.tag or 404


def _blob_step(state: Contents, kind: str, repository: str) -> tuple[Contents, Hashable]:
    here = repository in state.blob
    linked = state._replace(blob=state.blob | {repository})
    if kind == "push":
        return linked, 201
    if kind == "mount":
        return (linked, 201) if OTHER[repository] in state.blob else (state, 202)
    if kind == "head":
        return state, 200 if here else 404
    if repository == "a" and state.manifest:
        return state, 405
    return state._replace(blob=state.blob - {repository}), 202 if here else 404


REGISTRY = Sequential(Contents(frozenset(), manifest=False, tag=""), step)
REQUESTS = [
    *(("push", name) for name in "ab"),
    *(("mount", name) for name in "ab"),
    *(("unlink", name) for name in "ab"),
    *(("head", name) for name in "ab"),
    ("manifest",),
    ("manifest",),
    ("delete",),
    ("tag", "one"),
    ("tag", "two"),
    ("untag",),
    ("pull",),
    ("pull",),
]


class Objects:
    """What the calls of one history are about: one blob, one manifest that needs it, and one tag.

    What else a manifest needs is there all the time.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.contents = {name: image((prefix, name), layers=1) for name in ("needy", "one", "two")}
        self.blob = self.contents["needy"].blobs[1]
        self.names = {content.digest: name for name, content in self.contents.items()}

    def prepare(self, client: httpx.Client) -> None:
        """Push the content that is never deleted."""
        push_blob(client, f"{self.prefix}/a", self.contents["needy"].blobs[0])
        for name in ("one", "two"):
            push(client, f"{self.prefix}/a", self.contents[name])

    def ask(self, client: httpx.Client, request: tuple[str, ...]) -> Hashable:
        """Make one call; returns the status, or which manifest is tagged."""
        kind, *rest = request
        if kind in {"push", "mount", "unlink", "head"}:
            return self._ask_for_blob(client, kind, rest[0])
        path = f"/v2/{self.prefix}/a/manifests"
        if kind == "delete":
            return client.delete(f"{path}/{self.contents['needy'].digest}").status_code
        if kind == "untag":
            return client.delete(f"{path}/v1").status_code
        if kind == "pull":
            answer = client.get(f"{path}/v1")
            return self.names[digest_of(answer.content)] if answer.is_success else 404
        content = self.contents[rest[0] if rest else "needy"]
        return put_manifest(client, f"{self.prefix}/a", content, "v1").status_code

    def _ask_for_blob(self, client: httpx.Client, kind: str, repository: str) -> int:
        digest = digest_of(self.blob)
        path = f"/v2/{self.prefix}/{repository}/blobs"
        if kind == "head":
            return client.head(f"{path}/{digest}").status_code
        if kind == "unlink":
            return client.delete(f"{path}/{digest}").status_code
        query = {"digest": digest}
        if kind == "mount":
            query = {"mount": digest, "from": f"{self.prefix}/{OTHER[repository]}"}
        content = self.blob if kind == "push" else b""
        answer = client.post(f"{path}/uploads/", params=query, content=content)
        if answer.status_code == 202:
            assert client.delete(answer.headers["Location"]).status_code == 204
        return answer.status_code


@pytest.mark.parametrize("turn", range(6))
def test_every_history_has_an_order(cluster: Cluster, repository: str, turn: int) -> None:
    """Pushes, mounts, deletes and moved tags at all nodes at once exclude one another."""
    objects, history = Objects(repository), History()
    begin = threading.Barrier(CLIENTS)

    def work(number: int) -> None:
        chance = random.Random(f"{turn}-{number}")
        with ExitStack() as stack:
            nodes = [
                stack.enter_context(connect(url, follow_redirects=True)) for url in cluster.urls
            ]
            begin.wait(PATIENCE)
            for _ in range(CALLS):
                node, request = chance.choice(nodes), chance.choice(REQUESTS)
                history.note(request, partial(objects.ask, node, request))

    with connect(cluster.url) as client:
        objects.prepare(client)
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
    assert len(history.calls) == CLIENTS * CALLS
    assert REGISTRY.explains(history.calls)


def told(*calls: tuple[float, float, str, Hashable]) -> list[Call]:
    """Write a history down."""
    return [Call(start, end, tuple(text.split()), answer) for start, end, text, answer in calls]


@pytest.mark.parametrize(
    ("calls", "has_order"),
    [
        (told((0, 1, "push a", 201), (2, 3, "head a", 200)), True),
        (told((0, 1, "push a", 201), (2, 3, "head a", 404)), False),
        (told((0, 3, "push a", 201), (1, 2, "head a", 404)), True),
        # Two that do not overlap cannot see a push in the other order.
        (told((0, 9, "push a", 201), (1, 2, "head a", 200), (3, 4, "head a", 404)), False),
        # What was never answered may have happened, now or later, or not at all.
        (told((0, float("inf"), "push a", None), (1, 2, "head a", 200)), True),
        (told((0, float("inf"), "push a", None), (1, 2, "head a", 404)), True),
        (
            told((0, 1, "push a", 201), (2, 5, "manifest", 201), (3, 4, "unlink a", 202)),
            False,
        ),
        (
            told((0, 1, "push a", 201), (2, 5, "manifest", 400), (3, 4, "unlink a", 202)),
            True,
        ),
    ],
)
def test_the_search_tells_them_apart(calls: list[Call], has_order: bool) -> None:
    """The search finds an order if there is one, and none otherwise."""
    assert REGISTRY.explains(calls) == has_order
