"""Stores to hold to their contracts; another implementation is one more parameter here."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from obstore.store import MemoryStore, ObjectStore

from portside.stores.access import AccessStore
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.blobs.objects.urls import open_store
from portside.stores.copying import CopyableMetadata
from portside.stores.inspection import InspectableMetadata
from portside.stores.interfaces import InspectableBlobs, MetadataStore
from portside.stores.metadata.postgres.database import PostgresDatabase, Terms
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Access, Metadata
from support import postgres, sqlite
from support.azure import CONTAINER, Azure
from support.s3 import BUCKET, S3

HOLD_TIMEOUT = 0.1

BlobFactory = Callable[[], InspectableBlobs]


class Clock:
    """A clock that a test sets, in microseconds."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Make a clock that does not move."""
    return Clock()


def now() -> int:
    """Return the real time, by which an object store says when something was written."""
    return time.time_ns() // 1000


Opener = Callable[..., ObjectStore]


@pytest.fixture
def make_s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Open a prefix of the server's bucket, with the settings that the environment gives."""

    def make(prefix: str, bucket: str = BUCKET) -> ObjectStore:
        server: S3 = request.getfixturevalue("s3")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return open_store(f"s3://{bucket}/{prefix}", environment=server.environment)

    return make


@pytest.fixture
def make_azure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Open a prefix of the server's container."""

    def make(prefix: str) -> ObjectStore:
        server: Azure = request.getfixturevalue("azure")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return open_store(f"az://{CONTAINER}/{prefix}", environment=server.environment)

    return make


@pytest.fixture
def make_objects(make_s3: Opener, make_azure: Opener) -> Callable[[str], ObjectStore]:
    """Open an empty object store of a kind; each test has memory or a prefix to itself."""

    def make(kind: str) -> ObjectStore:
        if kind == "memory":
            return MemoryStore()
        return (make_s3 if kind == "s3" else make_azure)(uuid.uuid4().hex)

    return make


@pytest.fixture(params=["memory", "s3"])
def object_store(
    request: pytest.FixtureRequest, make_objects: Callable[[str], ObjectStore]
) -> ObjectStore:
    """Make an empty object store of each kind."""
    return make_objects(request.param)


@pytest.fixture(params=["local disk", "memory", "s3", "azure"])
def make_blobs(
    tmp_path: Path, request: pytest.FixtureRequest, make_objects: Callable[[str], ObjectStore]
) -> Iterator[BlobFactory]:
    """Open an empty blob store of each kind as often as there are processes or nodes."""
    with ExitStack() as stack:
        if request.param == "local disk":

            def make() -> InspectableBlobs:
                local = DiskBlobs(tmp_path, hold_timeout=HOLD_TIMEOUT)
                local.create()
                stack.callback(local.close)
                return local
        else:
            store = make_objects(request.param)

            def make() -> InspectableBlobs:
                objects = ObjectBlobs(store, hold_timeout=HOLD_TIMEOUT, clock=now)
                stack.callback(objects.close)
                return objects

        yield make


@pytest.fixture
def blobs(make_blobs: BlobFactory) -> InspectableBlobs:
    """Open the store once."""
    return make_blobs()


class CheckableStore(MetadataStore, InspectableMetadata, CopyableMetadata, Protocol):
    """A metadata store with all its abilities."""


class Shelf(Protocol):
    """An empty database of some kind, and all that opens it as processes do."""

    def metadata(self) -> CheckableStore:
        """Open its metadata store."""
        ...

    def access(self) -> AccessStore:
        """Open its access store."""
        ...

    async def execute(self, sql: str) -> None:
        """Change it behind the stores' back."""
        ...

    async def read(self, sql: str) -> list[Any]:
        """Return rows of it."""
        ...

    async def close(self) -> None:
        """Close all that was opened."""
        ...


class SqliteShelf:
    """A file."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._opened = ExitStack()

    @classmethod
    async def create(cls, root: Path, clock: Clock) -> SqliteShelf:
        """Make an empty file."""
        (await sqlite.open_database(root, clock=clock)).close()
        return cls(root, clock)

    def _open(self) -> SqliteDatabase:
        database = SqliteDatabase(self._root, clock=self._clock)
        self._opened.callback(database.close)
        return database

    def metadata(self) -> Metadata:
        """Open the file."""
        return Metadata(self._open())

    def access(self) -> Access:
        """Open the file."""
        return Access(self._open())

    async def execute(self, sql: str) -> None:
        """Change the file."""
        await self._open().execute(sql)

    async def read(self, sql: str) -> list[Any]:
        """Read the file."""
        return await self._open().find_all(sql)

    async def close(self) -> None:
        """Close the file."""
        self._opened.close()


class PostgresShelf:
    """A database of a server, which goes when all that was opened is closed."""

    def __init__(self, url: str, clock: Clock, opened: AsyncExitStack) -> None:
        self.terms = Terms(url=url, connections=5)
        self._clock = clock
        self._opened = opened

    @classmethod
    async def create(cls, server: postgres.Server, clock: Clock) -> PostgresShelf:
        """Make an empty database."""
        opened = AsyncExitStack()
        url = await opened.enter_async_context(postgres.new_database(server))
        return cls(url, clock, opened)

    def open(self) -> PostgresDatabase:
        """Open connections of another process."""
        database = PostgresDatabase(self.terms, clock=self._clock)
        self._opened.push_async_callback(database.disconnect)
        return database

    def metadata(self) -> Metadata:
        """Open a metadata store."""
        return Metadata(self.open())

    def access(self) -> Access:
        """Open an access store in which nothing is believed for a while."""
        return Access(self.open(), freshness=0)

    async def execute(self, sql: str) -> None:
        """Change the database."""
        await self.open().execute(sql)

    async def read(self, sql: str) -> list[Any]:
        """Read the database."""
        return await self.open().find_all(sql)

    async def close(self) -> None:
        """Hang up."""
        await self._opened.aclose()


@pytest.fixture(params=["sqlite", "postgresql"])
async def shelf(
    tmp_path: Path, clock: Clock, request: pytest.FixtureRequest
) -> AsyncIterator[Shelf]:
    """Make an empty database of each kind."""
    shelf: Shelf
    if request.param == "sqlite":
        shelf = await SqliteShelf.create(tmp_path, clock)
    else:
        shelf = await PostgresShelf.create(request.getfixturevalue("postgresql"), clock)
    yield shelf
    await shelf.close()


@pytest.fixture
def metadata(shelf: Shelf) -> MetadataStore:
    """Open an empty metadata store of each kind."""
    return shelf.metadata()


@pytest.fixture
def access(shelf: Shelf) -> AccessStore:
    """Open an empty access store of each kind."""
    return shelf.access()
