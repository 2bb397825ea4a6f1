"""Two clocks and an empty store for tests of access control."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portside.stores.metadata.store import Access
from support.sqlite import open_database

SECOND = 1_000_000


class Clock:
    """A clock that a test moves, in microseconds since 1970; it starts with the time of day.

    Signatures of tokens are judged by the machine's own clock, so that it has to start there.
    """

    def __init__(self) -> None:
        self.now = time.time_ns() // 1000

    def __call__(self) -> int:
        """Return the time."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Move the clock on, or back."""
        self.now += int(seconds * SECOND)


class Elapsed:
    """A clock of seconds since some moment, that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def elapsed() -> Elapsed:
    """Return the other clock, which stands still too."""
    return Elapsed()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Access]:
    """Open an empty store."""
    database = await open_database(tmp_path, clock=clock)
    yield Access(database)
    database.close()
