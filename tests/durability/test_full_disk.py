"""A disk that pushes have filled: what is deleted and collected makes room for pushes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.checks import assert_sound
from support.content import Content, digest_of, image
from support.server import run_portside, running_registry
from support.waiting import until
from support.wire import OCTETS, assert_error, connect, put_manifest

MIB = 1024 * 1024

RESERVE = 4 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 32 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(client: httpx.Client) -> list[Content]:
    """Push images until even a small one is refused; return those that were not."""
    pushed: list[Content] = []
    for size in (MIB, 20_000):
        while (refusal := push_image(client, len(pushed), size)) is None:
            pushed.append(make_image(len(pushed), size))
        assert_error(refusal, 507, "UNAVAILABLE")
    return pushed


def make_image(number: int, size: int) -> Content:
    """Make an image with a layer of its own."""
    return image((number, size), layers=1, layer_size=size)


def push_image(client: httpx.Client, number: int, size: int) -> httpx.Response | None:
    """Push an image with a tag of its own; return the answer that refuses it, if one does."""
    content = make_image(number, size)
    for blob in content.blobs:
        query = {"digest": digest_of(blob)}
        answer = client.post("/v2/a/blobs/uploads/", params=query, content=blob, headers=OCTETS)
        if answer.status_code != 201:
            return answer
    answer = put_manifest(client, "a", content, f"v{number}")
    return answer if answer.status_code != 201 else None


class TestFilledByPushes:
    """The reserve is what is left."""

    @pytest.mark.parametrize("beside_server", [True, False])
    def test_delete_collect_and_push(self, small_disk: Path, *, beside_server: bool) -> None:
        """Every delete succeeds, a collection frees the space, and pushes go on."""
        data = small_disk / "data"
        options = ("--reserve-bytes", str(RESERVE))
        with running_registry(data, *options) as registry, connect(registry.url) as client:
            pushed = fill(client)
            assert len(pushed) > 15
            kept, *deleted = pushed
            for number, content in enumerate(deleted, 1):
                for reference in (f"v{number}", content.digest):
                    answer = client.delete(f"/v2/a/manifests/{reference}")
                    assert answer.status_code == 202, answer.text
            if beside_server:
                self.collect(data, len(deleted))
                self.push_again(client, kept)
        if not beside_server:
            self.collect(data, len(deleted))
            with running_registry(data, *options) as registry, connect(registry.url) as client:
                self.push_again(client, kept)
        assert_sound(data)

    def collect(self, data: Path, images: int) -> None:
        """Have all that was deleted collected at once."""
        options = ("--data", str(data), "--grace", "0", "--keep-deleted", "0")
        code, printed, errors = run_portside("collect", *options)
        assert (code, errors) == (0, ""), printed
        assert f"{images} deleted manifests purged" in printed
        (freed,) = [line for line in printed.splitlines() if line.endswith(" bytes freed.")]
        assert int(freed.split()[0].replace(",", "")) > 15 * MIB

    def push_again(self, client: httpx.Client, kept: Content) -> None:
        """As much can be pushed as before, and what was kept is there."""
        assert client.get("/v2/a/manifests/v0").content == kept.manifest
        until(lambda: client.get("/readyz/writes").status_code == 200)
        assert len(fill(client)) > 15
