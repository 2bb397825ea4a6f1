"""Locks on files that are removed by those who held them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from portside.stores.blobs.disk.locks import try_lock


def test_a_lock_is_on_the_file_that_is_there(tmp_path: Path) -> None:
    """Between the opening of a file and its lock, its last holder may have removed it."""
    path = str(tmp_path / "upload")

    def lock_and_remove(_: int) -> bool:
        descriptor = try_lock(path)
        if descriptor is None:
            return True
        try:
            # Nobody else may remove or make the file now.
            with suppress(FileNotFoundError):
                is_there = os.path.samestat(os.stat(path), os.fstat(descriptor))
                os.unlink(path)
                return is_there
            return False
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lock_and_remove, range(4000)))
