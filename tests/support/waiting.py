"""Waiting for what others do."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE = 0.005


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Look again and again until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(PAUSE)
