"""kill -9 at random moments under load: nothing that was acknowledged is lost, nothing dangles."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from support.checks import assert_sound
from support.content import Content, digest_of, image, index, make_blob
from support.server import RunningRegistry, start_registry
from support.waiting import PATIENCE
from support.wire import OCTETS, connect

CLIENTS = 6
REPOSITORIES = ("load/a", "load/b")


@dataclass
class Ledger:
    """What the registry acknowledged to one client, which alone writes these names.

    What was asked for and never answered may or may not have happened: it is forgotten here.
    """

    changed: threading.Condition
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], Content] = field(default_factory=dict)
    tags: dict[tuple[str, str], Content] = field(default_factory=dict)
    acknowledged: int = 0

    def note(self, repository: str, tag: str, content: Content) -> None:
        """Record a push that was acknowledged, and wake the waiting test."""
        self.manifests[repository, content.digest] = content
        self.tags[repository, tag] = content
        with self.changed:
            self.acknowledged += 1
            self.changed.notify()

    def forget(self, repository: str, content: Content) -> None:
        """Leave out a manifest with its tags while its fate is unknown."""
        self.manifests.pop((repository, content.digest), None)
        for key, tagged in list(self.tags.items()):
            if key[0] == repository and tagged.digest == content.digest:
                del self.tags[key]


class Pusher(threading.Thread):
    """A client that pushes, moves tags, deletes and pulls until the registry is gone."""

    def __init__(self, registry: RunningRegistry, number: int, seed: str, ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self.random = random.Random(f"{seed}-{number}")
        self.number = number
        self.ledger = ledger
        self.registry = registry
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Work until a request fails on the connection."""
        try:
            with connect(self.registry.url) as client:
                while True:
                    self.step(client)
        except httpx.TransportError:
            return
        except BaseException as error:  # noqa: BLE001  # the test's thread raises it again
            with self.ledger.changed:
                self.failure = error
                self.ledger.changed.notify()

    def step(self, client: httpx.Client) -> None:
        """Do one thing."""
        repository = self.random.choice(REPOSITORIES)
        kind = self.random.random()
        if kind < 0.7:
            self.push_image(client, repository)
        elif kind < 0.9 and self.ledger.manifests:
            self.delete(client)
        elif self.ledger.tags:
            (repository, tag), content = self.random.choice(list(self.ledger.tags.items()))
            answer = client.get(f"/v2/{repository}/manifests/{tag}")
            assert answer.content == content.manifest

    def push_image(self, client: httpx.Client, repository: str) -> None:
        """Push an image in one of the ways there are, and tag it."""
        seed = f"{self.number}-{self.random.random()}"
        content = image(seed, layers=2, layer_size=self.random.choice([100, 50_000, 400_000]))
        for blob in content.blobs:
            self.push_blob(client, repository, blob)
        shared = make_blob(1000, ("shared", self.random.randrange(5)))
        self.push_blob(client, repository, shared)
        tag = f"c{self.number}-{self.random.randrange(4)}"
        self.ledger.tags.pop((repository, tag), None)
        answer = client.put(
            f"/v2/{repository}/manifests/{tag}",
            content=content.manifest,
            headers={"Content-Type": content.media_type},
        )
        assert answer.status_code == 201, answer.text
        self.ledger.note(repository, tag, content)

    def push_blob(self, client: httpx.Client, repository: str, blob: bytes) -> None:
        """Push a blob in one request, in two, or in chunks."""
        digest = digest_of(blob)
        path = f"/v2/{repository}/blobs/uploads/"
        way = self.random.randrange(3)
        if way == 0:
            answer = client.post(path, params={"digest": digest}, content=blob, headers=OCTETS)
        else:
            location = client.post(path).headers["Location"]
            if way == 2:
                middle = len(blob) // 2
                answer = client.patch(location, content=blob[:middle], headers=OCTETS)
                assert answer.status_code == 202, answer.text
                blob = blob[middle:]
            answer = client.put(location, params={"digest": digest}, content=blob, headers=OCTETS)
        assert answer.status_code == 201, answer.text

    def delete(self, client: httpx.Client) -> None:
        """Delete a manifest that this client pushed."""
        (repository, digest), content = self.random.choice(list(self.ledger.manifests.items()))
        self.ledger.forget(repository, content)
        answer = client.delete(f"/v2/{repository}/manifests/{digest}")
        assert answer.status_code == 202, answer.text
        for blob in content.blobs[1:]:
            answer = client.delete(f"/v2/{repository}/blobs/{digest_of(blob)}")
            assert answer.status_code == 202, answer.text


def assert_kept(client: httpx.Client, ledger: Ledger) -> None:
    """Read back everything that was acknowledged."""
    for (repository, digest), content in ledger.manifests.items():
        answer = client.get(f"/v2/{repository}/manifests/{digest}")
        assert answer.content == content.manifest
        for blob in content.blobs:
            answer = client.get(f"/v2/{repository}/blobs/{digest_of(blob)}")
            assert answer.content == blob
    for (repository, tag), content in ledger.tags.items():
        assert client.get(f"/v2/{repository}/manifests/{tag}").content == content.manifest


def is_time(pushers: list[Pusher], wanted: int) -> bool:
    """Whether so many pushes were acknowledged, or something went wrong."""
    done = sum(pusher.ledger.acknowledged for pusher in pushers)
    return done >= wanted or any(pusher.failure for pusher in pushers)


@pytest.mark.long
@pytest.mark.parametrize("seed", ["one", "two"])
def test_nothing_acknowledged_is_lost(data: Path, seed: str) -> None:
    """Three times in a row: load, kill -9, restart, read everything back, check the store."""
    changed = threading.Condition()
    ledgers = [Ledger(changed) for _ in range(CLIENTS)]
    moments = random.Random(seed)
    for _ in range(3):
        registry = start_registry(data)
        pushers = [Pusher(registry, i, f"{seed}{_}", ledgers[i]) for i in range(CLIENTS)]
        before = sum(ledger.acknowledged for ledger in ledgers)
        for pusher in pushers:
            pusher.start()
        wanted = before + moments.randrange(20, 60)
        with changed:
            assert changed.wait_for(partial(is_time, pushers, wanted), PATIENCE)
        registry.kill()
        for pusher in pushers:
            pusher.join(PATIENCE)
            if pusher.failure:
                raise pusher.failure
        registry = start_registry(data)
        try:
            with connect(registry.url) as client:
                for ledger in ledgers:
                    assert_kept(client, ledger)
        finally:
            assert registry.stop() == 0
        assert_sound(data, crashed=True)


def test_an_index_never_dangles(data: Path) -> None:
    """Children cannot go while their index is there, before and after a crash."""
    registry = start_registry(data)
    parent = index(image(1), image(2))
    with connect(registry.url) as client:
        for child in parent.children:
            for blob in child.blobs:
                path = "/v2/a/blobs/uploads/"
                client.post(path, params={"digest": digest_of(blob)}, content=blob)
            headers = {"Content-Type": child.media_type}
            path = f"/v2/a/manifests/{child.digest}"
            assert client.put(path, content=child.manifest, headers=headers).status_code == 201
        headers = {"Content-Type": parent.media_type}
        answer = client.put("/v2/a/manifests/v1", content=parent.manifest, headers=headers)
        assert answer.status_code == 201
    registry.kill()
    registry = start_registry(data)
    with connect(registry.url) as client:
        for child in parent.children:
            assert client.delete(f"/v2/a/manifests/{child.digest}").status_code == 405
    assert registry.stop() == 0
    assert_sound(data, crashed=True)
