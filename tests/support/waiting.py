"""Waiting for other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE = 0.005


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Check a condition until it holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(PAUSE)
