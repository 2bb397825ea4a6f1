"""Stores to hold to their contracts; another implementation is one more parameter here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from portside.stores.blobs.local import LocalBlobs
from portside.stores.metadata.database import Database
from portside.stores.metadata.sqlite import SqliteAccess, SqliteMetadata


class Clock:
    """A clock that a test sets, in microseconds."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        """Give the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Give a clock that stands still."""
    return Clock()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Give the event loop of the test."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=["local disk"])
def blobs(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalBlobs]:
    """Make an empty blob store of each kind."""
    assert request.param == "local disk"
    store = LocalBlobs(tmp_path, hold_timeout=0.1)
    store.create()
    yield store
    store.close()


@pytest.fixture(params=["sqlite"])
def metadata(
    tmp_path: Path, clock: Clock, request: pytest.FixtureRequest
) -> Iterator[SqliteMetadata]:
    """Make an empty metadata store of each kind."""
    assert request.param == "sqlite"
    database = Database(tmp_path, clock=clock)
    database.create()
    yield SqliteMetadata(database)
    database.close()


@pytest.fixture(params=["sqlite"])
def access(tmp_path: Path, clock: Clock, request: pytest.FixtureRequest) -> Iterator[SqliteAccess]:
    """Make an empty access store of each kind."""
    assert request.param == "sqlite"
    database = Database(tmp_path, clock=clock)
    database.create()
    yield SqliteAccess(database)
    database.close()
