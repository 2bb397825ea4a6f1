"""The rows that ask for a page of a long list."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from bench import loads
from bench.errors import BenchError
from bench.peer import Peer
from bench.works import Work

TAGS = 50_000
REPOSITORIES = 5_000
PAGE = 100
CLIENTS = 4
"""Connections that ask for pages at once: enough to keep both cores busy."""


class ListWork(Work):
    """GET a page from the middle of a list."""

    unit = "requests/s"
    floor: ClassVar[float | None] = 20
    key: ClassVar[str]
    path: ClassVar[str]

    def __init__(self, length: int) -> None:
        self.entries: Sequence[str] = [self.entry(number) for number in range(length)]
        middle = length // 2
        self._after = self.entries[middle : middle + PAGE]
        self._path = f"{self.path}?n={PAGE}&last={self.entries[middle - 1]}"

    @abstractmethod
    def entry(self, number: int) -> str:
        """Name one entry; the names sort like their numbers."""

    @abstractmethod
    def fill(self, peer: Peer) -> None:
        """Make the list."""

    def prepare(self, peer: Peer) -> None:
        """Make the list, and look whether the page is in the answer.

        docker-registry 2.8 ignores `n` and `last` for tags and sends the whole list.
        """
        self.fill(peer)
        with peer.connect() as connection:
            answer = connection.ask("GET", self._path).expect(200, f"{peer.name}, a page")
        listed = json.loads(answer.body)[self.key]
        if not set(self._after) <= set(listed):
            raise BenchError(f"{peer.name} answers {self._path} with another page: {listed[:3]}…")

    def measure(self, peer: Peer, seconds: int) -> float:
        """Let wrk ask for the page."""
        return loads.get_requests(peer, self._path, connections=CLIENTS, seconds=seconds)


class ListTags(ListWork):
    """GET a page of tags."""

    name = "list-tags"
    key = "tags"
    path = "/v2/bench/tags/tags/list"

    def __init__(self, length: int = TAGS) -> None:
        super().__init__(length)
        self.title = f"GET page of {PAGE} tags out of {length:,}"

    def entry(self, number: int) -> str:
        """Name a tag."""
        return f"v{number:06}"

    def fill(self, peer: Peer) -> None:
        """Tag one manifest often."""
        peer.add_tags("bench/tags", self.entries)


class ListRepositories(ListWork):
    """GET a page of repositories."""

    name = "list-repositories"
    key = "repositories"
    path = "/v2/_catalog"

    def __init__(self, length: int = REPOSITORIES) -> None:
        super().__init__(length)
        self.title = f"GET page of {PAGE} repositories out of {length:,}"

    def entry(self, number: int) -> str:
        """Name a repository."""
        return f"many/r{number:05}"

    def fill(self, peer: Peer) -> None:
        """Push one manifest into many repositories."""
        peer.add_repositories(self.entries)
