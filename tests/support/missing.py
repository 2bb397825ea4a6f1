"""Tests whose server is not installed: they are skipped, and fail in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from servers import ServerMissing


@contextmanager
def server_needed() -> Iterator[None]:
    """Skip the test if the server that is started in the block is missing; in CI, fail it."""
    try:
        yield
    except ServerMissing as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
