"""`portside check` beside a running registry: it finds damage, and reports nothing else."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from portside.bootstrap import connected_stores
from portside.config import make_settings
from portside.operations.check import Tally, check
from portside.operations.repair import Outcome, Repairer
from support.blobs import listed
from support.content import digest_of, image, make_blob
from support.damage import Bytes
from support.homes import Home
from support.server import RunningRegistry, run_portside, running_registry
from support.waiting import PATIENCE, until
from support.wire import OCTETS, connect, push, push_blob

CLIENTS = 4
SECONDS = 5.0


class Client(threading.Thread):
    """Pushes images and uploads in all ways, and deletes them again, until it is told to stop."""

    def __init__(self, registry: RunningRegistry, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.registry = registry
        self.number = number
        self.stop = stop
        self.rounds = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Work, and keep the error that ended it."""
        try:
            with connect(self.registry.url) as client:
                while not self.stop.is_set():
                    self.work(client)
                    self.rounds += 1
        except BaseException as error:  # noqa: BLE001  # the test's thread raises it again
            self.failure = error

    def work(self, client: httpx.Client) -> None:
        """Push an image and delete it; some blobs come and go under other clients."""
        chance = random.Random(f"{self.number}-{self.rounds}")
        repository = f"load/{self.number % 2}"
        content = image(
            (self.number, self.rounds), layers=1, layer_size=chance.choice([9, 300_000])
        )
        push(client, repository, content, f"tag-{self.number}")
        shared = make_blob(200_000, ("shared", chance.randrange(2)))
        push_blob(client, repository, shared)
        location = client.post(f"/v2/{repository}/blobs/uploads/").headers["Location"]
        client.patch(location, content=shared[:1000], headers=OCTETS)
        client.delete(location)
        client.delete(f"/v2/{repository}/manifests/{content.digest}")
        for blob in (*content.blobs, shared):
            client.delete(f"/v2/{repository}/blobs/{digest_of(blob)}")


@contextmanager
def load(registry: RunningRegistry) -> Iterator[None]:
    """Run clients for the length of a block."""
    stop = threading.Event()
    clients = [Client(registry, number, stop) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    until(lambda: all(client.rounds or client.failure for client in clients))
    try:
        yield
    finally:
        stop.set()
        for client in clients:
            client.join(PATIENCE)
    for client in clients:
        if client.failure is not None:
            raise client.failure


def problems(data: Path) -> list[str]:
    """Check the store in this process, which takes less time than to start a command."""

    async def run() -> list[str]:
        async with connected_stores(make_settings({"data": str(data)}), read_only=True) as stores:
            found = await listed(check(stores.metadata, stores.blobs, Tally(), pause=0.5))
            return [finding.text for finding in found]

    return asyncio.run(run())


@pytest.mark.long
def test_nothing_is_wrong_under_load(data: Path) -> None:
    """However often a store is checked while clients push and delete, nothing is found in it."""
    with running_registry(data) as registry, load(registry):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert problems(data) == []
        code, printed, errors = run_portside("check", "--data", str(data))
        assert (code, errors) == (0, ""), printed
    assert problems(data) == []


def test_damage_is_found_under_load(data: Path) -> None:
    """Damage is found under load as well."""
    content = image("kept")
    lost = digest_of(content.blobs[1])
    with running_registry(data) as registry, connect(registry.url) as client:
        push(client, "kept", content, "v1")
        (data / "blobs" / "sha256" / lost[7:9] / lost[7:]).unlink()
        with load(registry):
            for _ in range(3):
                assert problems(data) == [f"blob {lost} is missing; needed by kept:v1"]


def repairs(data: Path) -> list[tuple[str, Outcome]]:
    """Check and repair the store; returns what was damaged, and what became of it."""

    async def run() -> list[tuple[str, Outcome]]:
        async with connected_stores(make_settings({"data": str(data)})) as stores:
            repairer = Repairer(stores.metadata, stores.blobs)
            return [
                (finding.text, (await repairer.repair(finding)).outcome)
                async for finding in check(stores.metadata, stores.blobs, Tally(), pause=0.5)
            ]

    return asyncio.run(run())


def test_repairs_under_load(data: Path) -> None:
    """Damage is dropped again and again beside clients, who see no error, and nothing else is."""
    content = image("kept")
    kept = Bytes(Home(data), content.blobs[1])
    with running_registry(data) as registry, connect(registry.url) as client:
        push(client, "kept", content, "v1")
        with load(registry):
            for _ in range(3):
                kept.flip()
                ((problem, outcome),) = repairs(data)
                assert problem.startswith(f"blob {digest_of(kept.content)} is damaged")
                assert (outcome, kept.read()) == (Outcome.WAITING, None)
                push_blob(client, "kept", kept.content)
        assert repairs(data) == []


async def test_the_log_does_not_grow(data: Path) -> None:
    """No cursor is open while a blob is read, so the log can be checkpointed."""
    with running_registry(data) as registry, connect(registry.url) as client:
        push(client, "a", image("first", layers=3), "v1")
        async with connected_stores(make_settings({"data": str(data)}), read_only=True) as stores:
            async for _ in stores.metadata.blob_records():
                assert not is_reading(data)
            async for _ in stores.metadata.manifest_records():
                assert not is_reading(data)
            async for _ in stores.metadata.tag_names():
                assert not is_reading(data)


def is_reading(data: Path) -> bool:
    """Whether a connection keeps the log from starting anew."""
    with closing(sqlite3.connect(data / "portside.db", timeout=0)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return bool(busy)
