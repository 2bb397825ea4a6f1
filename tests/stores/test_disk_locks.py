"""Locks on the files of uploads, at the moments when another request removes them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from portside.stores.blobs.disk.locks import try_lock


def unlink(path: Path) -> None:
    """Remove the file, as the end of an upload does."""
    path.unlink()


def replace(path: Path) -> None:
    """Replace the file, as an upload that goes on after it was placed does."""
    beside = path.with_suffix(".copy")
    beside.write_bytes(b"copy")
    beside.replace(path)


@pytest.mark.parametrize("change", [unlink, replace])
def test_a_file_that_goes_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """A lock on a file that has no name any more holds nothing."""
    path = tmp_path / "upload"
    path.touch()
    lock = fcntl.flock

    def late(descriptor: int, kind: int) -> None:
        change(path)
        lock(descriptor, kind)

    with monkeypatch.context() as racing:
        racing.setattr(fcntl, "flock", late)
        assert try_lock(str(path)) is None
    descriptor = try_lock(str(path))
    assert descriptor is not None
    assert try_lock(str(path)) is None
    os.close(descriptor)
