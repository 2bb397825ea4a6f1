"""A registry that tests of the garbage collector share, with a clock that a test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from portside.operations.admission import Admission
from portside.operations.collect import Collector, Step
from portside.operations.delete import Delete
from portside.operations.grace import GracePeriod
from portside.operations.last_pulls import LastPulls
from portside.operations.mount import Mount
from portside.operations.pull import Pull
from portside.operations.push import Chunk, Push
from portside.operations.retain import Retain
from portside.spec.digests import Digest
from portside.spec.names import RepositoryName, Tag
from portside.spec.patterns import RepositoryPattern
from portside.spec.rules import Rules, RuleTable
from portside.stores.actors import Actor
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.engine import Database
from portside.stores.metadata.store import Metadata
from stores.conftest import Clock
from support.content import Content, image
from support.sqlite import open_database

MINUTE = 60_000_000
HOUR = 60 * MINUTE
IMAGE = image("collected")


class Registry:
    """A registry that keeps unreferenced blobs for an hour, and deleted content for two."""

    def __init__(self, database: Database, blobs: DiskBlobs, clock: Clock) -> None:
        metadata = Metadata(database)
        self.database = database
        self.metadata, self.blobs, self.clock = metadata, blobs, clock
        self.grace = GracePeriod(HOUR, clock)
        self.quota: int | None = None
        admission = Admission(rules=self.rules)
        self.push = Push(
            metadata,
            blobs,
            max_blob_bytes=0,
            max_open_uploads=0,
            sparse_indexes=False,
            clock=clock,
            admission=admission,
        )
        self.last_pulls = LastPulls(metadata, clock=clock)
        self.pull = Pull(metadata, blobs, None, grace=self.grace, last_pulls=self.last_pulls)
        self.mount = Mount(metadata, blobs, admission=admission)
        self.delete = Delete(metadata, blobs, allowed=True)
        self.retain = Retain(metadata, clock=clock, by=Actor("retention"))
        self.collector = self.collector_with(nullcontext)

    def rules(self) -> Rules:
        """Return rules of a quota that each repository has."""
        table = RuleTable(match=RepositoryPattern("*"), quota=self.quota or 0)
        return Rules([table])

    async def push_blobs(self, repository: RepositoryName, content: Content = IMAGE) -> None:
        """Push the blobs of an image."""
        for blob in content.blobs:
            await self.push.blob(repository, Digest.of(blob), Chunk(body(blob)))

    async def push_image(self, repository: RepositoryName, content: Content = IMAGE) -> None:
        """Push an image whole."""
        await self.push_blobs(repository, content)
        await self.push.manifest(repository, Tag("v1"), content.manifest, content_type=None)

    async def stored(self) -> set[Digest]:
        """Return the blobs that take up space."""
        return {digest async for digest, _ in self.blobs.stored_blobs()}

    def collector_with(self, step: Step) -> Collector:
        """Return another collector."""
        return Collector(
            self.metadata,
            self.blobs,
            grace=self.grace,
            keep_deleted=2 * HOUR,
            tag_history=5 * HOUR,
            step=step,
        )


async def body(content: bytes) -> AsyncIterator[bytes]:
    """Send a body in one piece."""
    yield content


@pytest.fixture
def clock() -> Clock:
    """Make a clock that does not move."""
    made = Clock()
    made.now = 100 * HOUR
    return made


@pytest.fixture
async def registry(tmp_path: Path, clock: Clock) -> AsyncIterator[Registry]:
    """Open an empty registry."""
    database = await open_database(tmp_path, clock=clock)
    blobs = DiskBlobs(tmp_path, hold_timeout=1)
    blobs.create()
    yield Registry(database, blobs, clock)
    database.close()
    blobs.close()
