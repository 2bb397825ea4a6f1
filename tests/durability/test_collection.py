"""A registry that serves frees the space of what nothing refers to."""

from __future__ import annotations

from pathlib import Path

from support.commands import run_inside
from support.content import digest_of, image
from support.server import running_registry
from support.waiting import until
from support.wire import connect, push, push_blob

SOON = ("--gc-interval", "1", "--gc-grace", "1", "--keep-deleted", "1")
DELETED, KEPT = image("deleted"), image("kept")


def stored(data: Path) -> set[str]:
    """Return the digests of the blobs that take up space."""
    return {f"sha256:{path.name}" for path in (data / "blobs" / "sha256").glob("*/*")}


def test_while_serving(data: Path) -> None:
    """What was deleted and what was never referred to goes by itself; all else stays."""
    with (
        running_registry(data, *SOON) as registry,
        connect(registry.url) as client,
    ):
        push(client, "a", KEPT, "kept")
        push(client, "a", DELETED, "deleted")
        push_blob(client, "a", b"never referred to")
        path = f"/v2/a/manifests/{DELETED.digest}"
        assert client.delete(path).status_code == 202
        assert client.get(path).status_code == 404
        kept = {digest_of(blob) for blob in KEPT.blobs}
        until(lambda: stored(data) == kept)
        assert client.get("/v2/a/manifests/kept").content == KEPT.manifest
    assert run_inside("check", "--data", str(data))[0] == 0


def test_turned_off(data: Path, tmp_path: Path) -> None:
    """With `--no-gc`, space is freed by the command alone."""
    with (
        running_registry(data, *SOON, "--no-gc", "--workers", "1") as off,
        connect(off.url) as quiet,
        running_registry(tmp_path / "other", *SOON, "--workers", "1") as on,
        connect(on.url) as client,
    ):
        for each in (quiet, client):
            push_blob(each, "a", b"never referred to")
        until(lambda: not stored(tmp_path / "other"))
        assert stored(data)
        code, printed, errors = run_inside("collect", "--data", str(data), "--grace", "0")
        assert (code, errors) == (0, "")
        assert "1 unreferenced blob unlinked, 1 blob removed." in printed
        assert not stored(data)
