"""Nodes, the database and the blob store fail under load: no acknowledged write is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.checks import assert_home_sound
from support.faulty_http import Faulty
from support.loads import Worker
from support.nodes import Cluster
from support.postgres import Server
from support.waiting import PATIENCE, until
from support.wire import connect

WORKERS = 3
STEP = 8
"""What the clients get done between two events."""

TRIES = 10
"""How often something is done until a client notices it."""


class Load:
    """Clients at work."""

    def __init__(self, cluster: Cluster, seed: str) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self.workers = [Worker(cluster.url, number, seed, self._stop) for number in range(WORKERS)]

    @property
    def interruptions(self) -> int:
        """How often a client had to try again."""
        return sum(worker.interruptions for worker in self.workers)

    def _done(self) -> int:
        for worker in self.workers:
            if worker.failure is not None:
                raise worker.failure
        return sum(worker.ledger.acknowledged for worker in self.workers)

    def go_on(self, steps: int = STEP) -> None:
        """Wait until so much more was acknowledged."""
        wanted = self._done() + steps
        until(lambda: self._done() >= wanted)

    def is_interrupted(self) -> None:
        """Wait until a client had to try again."""
        before = self.interruptions
        until(lambda: self.interruptions > before and self._done() > 0)

    def disturb(self, *ways: Callable[[], object]) -> None:
        """Do each of these while they go on; all again if there was no request to disturb."""
        for _ in range(TRIES):
            for way in ways:
                way()
                self.go_on()
            if self.interruptions:
                return

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run them for the length of a block; afterwards, read everything back from every node."""
        for worker in self.workers:
            worker.start()
        try:
            self.go_on()
            yield
            self.go_on()
        finally:
            self._stop.set()
            for worker in self.workers:
                worker.join(PATIENCE)
        self._done()
        for url in self._cluster.urls:
            with connect(url, follow_redirects=True) as client:
                for worker in self.workers:
                    assert worker.ledger.differences(client) == [], url


@pytest.mark.long
def test_nodes_are_killed(mortal: Cluster) -> None:
    """The others go on without one, and with it when it is back."""
    load = Load(mortal, "killed")
    with load.running():
        load.disturb(*(way for node in mortal.nodes[:2] for way in (node.kill, node.start)))
    assert load.interruptions > 0
    assert_home_sound(mortal.home, crashed=True)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_database_restarts(mortal: Cluster, database: Server, mode: str) -> None:
    """Requests fail during the restart and succeed after it; no node has to be restarted."""
    load = Load(mortal, mode)
    with load.running():
        load.disturb(*[lambda: database.restart(mode)] * 2)
    assert load.interruptions > 0
    assert all(node.is_running for node in mortal.nodes)


def test_the_database_is_away_for_a_while(mortal: Cluster, database: Server) -> None:
    """It is away until clients have noticed, and a node is killed during that time."""
    load = Load(mortal, "away")
    with load.running():
        database.stop()
        load.is_interrupted()
        mortal.nodes[0].kill()
        load.is_interrupted()
        database.start()
        mortal.nodes[0].start()


def test_the_blob_store_fails(mortal: Cluster, way: Faulty) -> None:
    """It answers with errors, more often than nodes retry, and loses some answers."""
    load = Load(mortal, "fails")
    with load.running():
        for status in (500, 503):
            way.fail(status, 60)
            load.is_interrupted()
            way.heal()
        way.lose(5)
        way.cut(5, after=10)


@pytest.mark.long
def test_the_blob_store_stalls(mortal: Cluster, way: Faulty) -> None:
    """It does not answer at all until clients have noticed."""
    load = Load(mortal, "stalls")
    with load.running():
        way.stall()
        load.is_interrupted()
        way.heal()
    assert all(node.is_running for node in mortal.nodes)
    assert_home_sound(mortal.home, crashed=True)
