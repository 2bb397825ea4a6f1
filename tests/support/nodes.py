"""A cluster: several nodes of one registry, in processes of their own, behind a balancer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.balancer import Balancer, listens, take_port
from support.homes import Home
from support.server import RunningRegistry, start_registry
from support.waiting import until


class Node:
    """One of the nodes; it keeps its port when it is started again."""

    def __init__(self, home: Home, log: Path, *options: str) -> None:
        self.port = take_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._home = home
        self._log = log
        self._options = options
        self._running: RunningRegistry | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        self._running = start_registry(
            self._home.data,
            *self._home.options,
            *("--listen", f"127.0.0.1:{self.port}", "--workers", "1", "--access-log"),
            *self._options,
            env=self._home.env,
            log=self._log,
        )

    def kill(self) -> None:
        """End all of its processes at once, as a power cut would."""
        if self._running is not None:
            self._running.kill()
            self._running = None
            # The workers end a little later, and the port is theirs until then.
            until(lambda: not listens(self.port))

    def terminate(self) -> RunningRegistry:
        """Send SIGTERM; return the process to wait for."""
        running = self._running
        assert running is not None
        self._running = None
        running.process.terminate()
        return running

    def stop(self) -> None:
        """Ask it to end, and expect exit code 0."""
        if self._running is not None:
            assert self.terminate().wait() == 0

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._running is not None and self._running.process.poll() is None

    @property
    def log(self) -> str:
        """What it has written to standard error, over all of its lives."""
        return self._log.read_text()

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The requests that it has answered."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]


class Cluster:
    """Nodes behind a balancer."""

    def __init__(self, home: Home, nodes: list[Node], balancer: Balancer) -> None:
        self.home = home
        self.nodes = nodes
        self.balancer = balancer

    @property
    def url(self) -> str:
        """The root of every path, at the balancer."""
        return self.balancer.url

    @property
    def urls(self) -> list[str]:
        """The roots of every path: at the balancer, and at each node."""
        return [self.url, *(node.url for node in self.nodes)]


@contextmanager
def running_cluster(home: Home, folder: Path, *options: str, count: int = 3) -> Iterator[Cluster]:
    """Run nodes over one home, all started at once, for the length of a block."""
    nodes = [Node(home, folder / f"node-{number}.log", *options) for number in range(count)]
    balancer = Balancer(folder, [node.port for node in nodes])
    try:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(Node.start, nodes))
        with balancer.running():
            yield Cluster(home, nodes, balancer)
        for node in nodes:
            node.stop()
    finally:
        for node in nodes:
            node.kill()
