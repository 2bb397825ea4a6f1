"""The garbage collector of several nodes: one works at a time, and it may be killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from portside.stores.blobs.objects.urls import open_store
from support.checks import assert_home_sound
from support.collecting import KEPT, OPTIONS, Pusher, keep_one
from support.content import digest_of
from support.homes import ON_S3, Home
from support.nodes import Cluster, Node, running_cluster
from support.waiting import PATIENCE, until
from support.wire import connect

LOAD = 12
"""Seconds, or more until two nodes were killed, in which three nodes collect."""


def stored(home: Home) -> set[str]:
    """Return the digests of the blobs in the object store."""
    store = open_store(home.storage, environment=home.env)
    objects = [item for page in store.list("blobs/") for item in page]
    return {f"sha256:{item['path'].rpartition('/')[2]}" for item in objects}


def collections(node: Node) -> int:
    """Count the rounds of a node that removed something."""
    return node.log.count("collected ")


def wait_for_a_round(cluster: Cluster, pushers: Sequence[Pusher]) -> Node | None:
    """Wait until some node has removed something, and return it; or until a client has failed."""
    before = {node: collections(node) for node in cluster.nodes}
    working: list[Node] = []

    def has_come() -> bool:
        working.extend(node for node in before if collections(node) > before[node])
        return bool(working) or any(pusher.failure for pusher in pushers)

    until(has_come)
    return working[0] if working else None


@pytest.mark.long
def test_the_node_that_collects_is_killed(
    make_home: Callable[[str], Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node takes over, and no client is told anything that turns out to be wrong."""
    home = make_home(ON_S3)
    for name, value in home.env.items():
        monkeypatch.setenv(name, value)
    options = (*OPTIONS, "--redirect", "never", "--upload-hold-timeout", "0.5")
    stop = threading.Event()
    with running_cluster(home, tmp_path, *options) as cluster:
        pushers = [Pusher(cluster.url, f"{n}", stop, retries=True) for n in range(3)]
        for pusher in pushers:
            pusher.start()
        ends = time.monotonic() + LOAD
        killed: list[Node] = []
        while time.monotonic() < ends or len(set(killed)) < 2:
            working = wait_for_a_round(cluster, pushers)
            if working is None:
                break
            working.kill()
            killed.append(working)
            working.start()
        stop.set()
        for pusher in pushers:
            pusher.join(PATIENCE)
        assert [pusher.failure for pusher in pushers if pusher.failure] == []
        assert all(pusher.pushes and pusher.found and pusher.missing for pusher in pushers)
        with connect(cluster.nodes[0].url) as client:
            keep_one(client)
        code, printed, errors = home.run("collect", "--grace", "0", "--keep-deleted", "0")
        assert (code, errors) == (0, ""), printed
        assert stored(home) == {digest_of(blob) for blob in KEPT.blobs}
    assert_home_sound(home, crashed=True)
