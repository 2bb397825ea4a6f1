"""Stores to hold to their contracts; another implementation is one more parameter here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from portside.stores.access import AccessStore
from portside.stores.blobs.local import LocalBlobs
from portside.stores.inspection import CheckableMetadata
from portside.stores.interfaces import MetadataStore
from portside.stores.metadata.database import Database
from portside.stores.metadata.postgres import pool as postgres
from portside.stores.metadata.postgres.migrations import migrate
from portside.stores.metadata.postgres.pool import Terms
from portside.stores.metadata.postgres.store import PostgresAccess, PostgresMetadata
from portside.stores.metadata.sqlite import SqliteAccess, SqliteMetadata
from support.postgres import Server


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


class CheckableStore(MetadataStore, CheckableMetadata, Protocol):
    """A metadata store with all its abilities."""


class Shelf(Protocol):
    """An empty database of some kind, and all that opens it as processes do."""

    def metadata(self) -> CheckableStore:
        """Open its metadata store."""
        ...

    def access(self) -> AccessStore:
        """Open its access store."""
        ...

    def close(self) -> None:
        """Close all that was opened."""
        ...


class SqliteShelf:
    """A file."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._opened = ExitStack()
        self._open().create()

    def _open(self) -> Database:
        database = Database(self._root, clock=self._clock)
        self._opened.callback(database.close)
        return database

    def metadata(self) -> SqliteMetadata:
        """Open the file."""
        return SqliteMetadata(self._open())

    def access(self) -> SqliteAccess:
        """Open the file."""
        return SqliteAccess(self._open())

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


class PostgresShelf:
    """A database of a server."""

    def __init__(self, server: Server, clock: Clock, runner: asyncio.Runner) -> None:
        self.terms = Terms(url=server.make_database(), connections=5)
        self._clock = clock
        self._runner = runner
        self._opened = ExitStack()
        runner.run(migrate(self.open()))

    def open(self) -> postgres.Database:
        """Open connections of another process."""
        database = postgres.Database(self.terms, clock=self._clock)
        self._opened.callback(lambda: self._runner.run(database.close()))
        return database

    def metadata(self) -> PostgresMetadata:
        """Open a metadata store."""
        store = PostgresMetadata(self.open())
        self._opened.callback(store.close_facts)
        return store

    def access(self) -> PostgresAccess:
        """Open an access store in which nothing is believed for a while."""
        return PostgresAccess(self.open(), freshness=0)

    def close(self) -> None:
        """Hang up."""
        self._opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def shelf(
    tmp_path: Path, clock: Clock, runner: asyncio.Runner, request: pytest.FixtureRequest
) -> Iterator[Shelf]:
    """Make an empty database of each kind."""
    shelf: Shelf
    if request.param == "sqlite":
        shelf = SqliteShelf(tmp_path, clock)
    else:
        shelf = PostgresShelf(request.getfixturevalue("postgresql"), clock, runner)
    yield shelf
    shelf.close()


@pytest.fixture
def metadata(shelf: Shelf) -> MetadataStore:
    """Open an empty metadata store of each kind."""
    return shelf.metadata()


@pytest.fixture
def access(shelf: Shelf) -> AccessStore:
    """Open an empty access store of each kind."""
    return shelf.access()
