"""Copying a running registry, and a copy that is killed: no acknowledged write is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from support.content import Content, digest_of, image
from support.copying import copy, finish, opened_side, problems, push, unequal
from support.postgres import Server
from support.server import RunningRegistry, running_registry
from support.waiting import PATIENCE
from support.wire import OCTETS, assert_error, connect, put_manifest

REPOSITORY = "library/app"


class Pusher(threading.Thread):
    """A client that pushes, moves a tag and deletes, until it is told that nothing may change."""

    def __init__(self, registry: RunningRegistry, tag: str) -> None:
        super().__init__(daemon=True)
        self._registry = registry
        self._tag = tag
        self.kept: list[Content] = []
        self.begun = threading.Event()
        self.refusal: httpx.Response | None = None

    def run(self) -> None:
        """Push one image after another; every third one replaces the one before it."""
        with connect(self._registry.url) as client:
            number = 0
            while self.refusal is None:
                content = image((self._tag, number), layer_size=2000)
                if self._push(client, content) and number % 3 == 2:
                    self._delete_one(client)
                number += 1
                if number == 5:
                    self.begun.set()

    def _push(self, client: httpx.Client, content: Content) -> bool:
        for blob in content.blobs:
            answer = client.post(
                f"/v2/{REPOSITORY}/blobs/uploads/",
                params={"digest": digest_of(blob)},
                content=blob,
                headers=OCTETS,
            )
            if not self._is_done(answer):
                return False
        if not self._is_done(put_manifest(client, REPOSITORY, content, self._tag)):
            return False
        self.kept.append(content)
        return True

    def _delete_one(self, client: httpx.Client) -> None:
        gone = self.kept.pop(-2)
        answer = client.delete(f"/v2/{REPOSITORY}/manifests/{gone.digest}")
        if not self._is_done(answer):
            self.kept.insert(-1, gone)

    def _is_done(self, answer: httpx.Response) -> bool:
        if answer.is_success:
            return True
        self.refusal = answer
        return False


def test_while_it_serves(tmp_path: Path) -> None:
    """Pushes go on until the switch; all that was acknowledged is served from the copy."""
    with running_registry(tmp_path / "source") as registry:
        pushers = [Pusher(registry, tag) for tag in ("first", "second")]
        for pusher in pushers:
            pusher.start()
        assert all(pusher.begun.wait(PATIENCE) for pusher in pushers)

        async def move() -> None:
            async with (
                opened_side(tmp_path / "source") as source,
                opened_side(tmp_path / "target") as target,
            ):
                await copy(source, target)
                ending, tally = await finish(source, target)
                assert (ending.is_moved, tally.problems) == (True, [])
                assert await unequal(source, target) == []
                assert await problems(target) == []

        asyncio.run(move())
        for pusher in pushers:
            pusher.join(PATIENCE)
            assert pusher.refusal is not None
            assert "try again" in assert_error(pusher.refusal, 503, "UNAVAILABLE")
            assert pusher.refusal.headers["Retry-After"] == "10"
        with connect(registry.url) as client:
            assert client.get("/readyz").status_code == 200
            assert client.get(f"/v2/{REPOSITORY}/manifests/first").status_code == 200
        assert "Traceback" not in registry.log
    with (
        running_registry(tmp_path / "target", "--workers", "1") as moved,
        connect(moved.url) as client,
    ):
        for content in (content for pusher in pushers for content in pusher.kept):
            answer = client.get(f"/v2/{REPOSITORY}/manifests/{content.digest}")
            assert answer.content == content.manifest
            for blob in content.blobs:
                found = client.get(f"/v2/{REPOSITORY}/blobs/{digest_of(blob)}")
                assert found.content == blob
        assert put_manifest(client, REPOSITORY, pushers[0].kept[0], "again").status_code == 201


@pytest.mark.parametrize("after", [3, 40])
def test_kill(tmp_path: Path, postgresql: Server, after: int) -> None:
    """A copy that is killed at any moment is whole when it was run again."""
    url = postgresql.make_database()

    async def fill() -> None:
        async with opened_side(tmp_path / "source") as source:
            for number in range(20):
                await push(source, REPOSITORY, image(number, layer_size=5000), f"v{number}")

    async def go_on() -> None:
        async with (
            opened_side(tmp_path / "source") as source,
            opened_side(tmp_path / "target", url) as target,
        ):
            assert await unequal(source, target) != []
            ending, tally = await finish(source, target)
            assert (ending.is_moved, tally.problems) == (True, [])
            assert tally.blobs <= 60 - after + 4
            assert await unequal(source, target) == []
            assert await problems(target) == []

    asyncio.run(fill())
    command = [sys.executable, "-m", "support.copying"]
    command += [str(tmp_path / "source"), str(tmp_path / "target"), url]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as copier:
        assert copier.stdout is not None
        for line in copier.stdout:
            if int(line) >= after:
                break
        copier.send_signal(signal.SIGKILL)
    assert copier.returncode == -signal.SIGKILL
    asyncio.run(go_on())
