"""What is kept through crashes is kept where temporary files are, which is mostly a disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Make a directory that is not in memory, unlike those of other tests."""
    with TemporaryDirectory(prefix="portside-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
