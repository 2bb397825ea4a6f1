"""Waiting for other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE = 0.005

PATIENCE = 60.0
"""Seconds after which what has to come counts as lost, on a machine with much else to do. Where the
time itself is tested, a test has a bound of its own."""


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Check a condition until it holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(PAUSE)
