"""Stores that fail are counted as failing, and those that refuse are not."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, StorageFull, Unavailable
from portside.spec.names import RepositoryName
from portside.spec.ranges import ByteRange
from portside.spec.uploads import UploadId
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.engine import Transaction
from portside.stores.metadata.sqlite.database import LOCK, SqliteDatabase
from portside.stores.metadata.store import Metadata
from portside.telemetry import catalogue
from portside.telemetry.calls import CountedCalls, database_load
from portside.telemetry.stores import ObservedBlobs, ObservedDatabase
from portside.telemetry.tallies import Sample, Tally
from support.sqlite import open_database
from support.waiting import until

A = RepositoryName("a")
BLOB = Digest.of(b"blob")


def counts(samples: Iterator[Sample]) -> dict[tuple[str, ...], float]:
    """Return the number of calls by call, and of failures by call and kind."""
    return {
        labels: sum(value.counts) if isinstance(value, Tally) else value
        for metric, value, labels in samples
        if labels
    }


def values(samples: Iterator[Sample]) -> dict[str, float | Tally]:
    """Return the values without labels, by their names."""
    return {metric.name: value for metric, value, labels in samples if not labels}


def files_in(directory: Path) -> list[Path]:
    """List all files below a directory."""
    return [path for path in directory.rglob("*") if path.is_file()]


def database_calls() -> CountedCalls:
    """Return what counts the calls of a database."""
    return CountedCalls(catalogue.DATABASE_SECONDS, catalogue.DATABASE_ERRORS)


@pytest.fixture
async def sqlite(tmp_path: Path) -> SqliteDatabase:
    """Make a database."""
    return await open_database(tmp_path, clock=lambda: 1)


async def test_database(sqlite: SqliteDatabase) -> None:
    """Each call counts once, by what it is; what a job refuses is no failure of the database."""
    calls = database_calls()
    database = ObservedDatabase(sqlite, calls)
    metadata = Metadata(database)
    assert counts(calls.samples()) == {("read",): 0}
    with pytest.raises(BlobUnknown):
        await metadata.get_blob(A, BLOB)
    await metadata.commit_blob(A, BLOB, 4, session=None, place=lambda: None)
    with pytest.raises(BlobUnknown):
        await metadata.unlink_blob(A, Digest.of(b"other"), remove=lambda: None)
    await database.execute("DELETE FROM uploads")
    assert counts(calls.samples()) == {
        ("read",): 1,
        ("place",): 1,
        ("remove",): 1,
        ("write",): 1,
    }
    sqlite.close()


async def test_failures(sqlite: SqliteDatabase) -> None:
    """A failure is counted by its call and kind, with the time that it took."""
    calls = database_calls()
    database = ObservedDatabase(sqlite, calls)

    async def full(_: Transaction) -> None:
        raise StorageFull("no space")

    with pytest.raises(StorageFull):
        await database.write(full)
    for find in (database.find, database.find_all):
        with pytest.raises(Unavailable):
            await find("SELECT * FROM nothing")
    assert counts(calls.samples()) == {
        ("read",): 2,
        ("write",): 1,
        ("read", "unavailable"): 2,
        ("write", "full"): 1,
    }
    sqlite.close()


async def test_blobs(tmp_path: Path) -> None:
    """A read counts when its first piece comes, a failure whenever it comes."""
    disk = DiskBlobs(tmp_path, hold_timeout=1)
    disk.create()
    calls = CountedCalls(catalogue.STORAGE_SECONDS, catalogue.STORAGE_ERRORS)
    blobs = ObservedBlobs(disk, calls)
    content = b"x" * 1_000_000
    digest = Digest.of(content)
    async with blobs.hold(UploadId.fresh(), fresh=True) as staging:
        await staging.resume(0, digest.algorithm)
        await staging.write(content)
        assert await staging.finish(digest.algorithm) == digest
        (await staging.place(digest))()
    assert await blobs.stat(digest) == len(content)
    part = ByteRange(0, len(content))
    assert b"".join([piece async for piece in blobs.read(digest, part)]) == content
    with pytest.raises(BlobUnknown):
        await anext(blobs.read(BLOB, part))
    (path,) = files_in(tmp_path)
    pieces = blobs.read(digest, part)
    assert await anext(pieces)
    path.write_bytes(b"short")
    with pytest.raises(Unavailable):
        _ = [piece async for piece in pieces]
    blobs.remove(digest)()
    expected: dict[tuple[str, ...], int] = {("read",): 3, ("read", "unavailable"): 1}
    done = ("hold", "resume", "write", "finish", "prepare", "place", "stat", "remove")
    assert counts(calls.samples()) == expected | {(call,): 1 for call in done}
    assert not path.exists()
    blobs.close()


async def test_write_queue(sqlite: SqliteDatabase) -> None:
    """Writes wait in the queue while another process holds the lock of all writers."""
    database = ObservedDatabase(sqlite, database_calls())
    await database.execute("DELETE FROM uploads")
    lock = os.open(sqlite.file.with_name(LOCK), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    writing = [asyncio.create_task(database.execute("DELETE FROM uploads"))]
    await asyncio.sleep(0)
    until(lambda: values(database_load(database))[catalogue.WRITE_QUEUE.name] == 0)
    writing += [asyncio.create_task(database.execute("DELETE FROM uploads")) for _ in range(3)]
    await asyncio.sleep(0)
    assert values(database_load(database))[catalogue.WRITE_QUEUE.name] == 3
    os.close(lock)
    await asyncio.gather(*writing)
    assert values(database_load(database))[catalogue.WRITE_QUEUE.name] == 0
    sqlite.close()
