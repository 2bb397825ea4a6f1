"""The sweep ends all unused uploads, and nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from portside.operations.collect import expire_uploads
from portside.spec.digests import Algorithm, Digest
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.blobs.disk.layout import Layout
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.store import Metadata
from portside.stores.metadata.uploads import STALE_PAGE
from support.sqlite import open_database
from support.waiting import PATIENCE

LATE = 2**60


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[DiskBlobs]:
    """Make an empty store that waits for no lock."""
    with closing(DiskBlobs(tmp_path, hold_timeout=0)) as store:
        store.create()
        yield store


@pytest.fixture
async def metadata(tmp_path: Path) -> AsyncIterator[Metadata]:
    """Make an empty store at a time that is long ago."""
    with closing(await open_database(tmp_path, clock=lambda: 1)) as database:
        yield Metadata(database)


async def open_sessions(metadata: Metadata, number: int) -> list[UploadSession]:
    """Open sessions that are as old as each other."""
    opened = [
        UploadSession(
            id=UploadId.fresh(),
            repository=RepositoryName("a"),
            algorithm=Algorithm.SHA256,
            created=1,
            updated=1,
        )
        for _ in range(number)
    ]
    await asyncio.gather(*(metadata.open_upload(session) for session in opened))
    return opened


async def test_more_than_a_page(blobs: DiskBlobs, metadata: Metadata) -> None:
    """One sweep ends all sessions; one that is in use stays, and is not counted."""
    opened = await open_sessions(metadata, STALE_PAGE + 20)
    async with blobs.hold(opened[0].id) as staging:
        await staging.resume(0, Algorithm.SHA256)
        assert await expire_uploads(metadata, blobs, LATE) == len(opened) - 1
        assert await metadata.list_stale_uploads(LATE) == [opened[0]]


async def test_what_is_used_again_is_not_counted(blobs: DiskBlobs, metadata: Metadata) -> None:
    """A session that is young, and a time before which there is nothing, count for nothing."""
    await open_sessions(metadata, 3)
    assert await expire_uploads(metadata, blobs, 1) == 0
    assert len(await metadata.list_stale_uploads(LATE)) == 3


async def test_a_session_used_since_it_was_listed(tmp_path: Path) -> None:
    """The sweep waits for the request that uses it, and finds it young."""
    with (
        closing(DiskBlobs(tmp_path, hold_timeout=10)) as blobs,
        closing(await open_database(tmp_path, clock=lambda: 5)) as database,
    ):
        blobs.create()
        metadata = Metadata(database)
        opened = await open_sessions(metadata, 2)
        old, used = sorted(opened, key=lambda session: session.id)
        async with blobs.hold(used.id) as staging:
            await staging.resume(0, Algorithm.SHA256)
            await staging.write(b"bytes")
            sweeping = asyncio.create_task(expire_uploads(metadata, blobs, 2))
            async with asyncio.timeout(PATIENCE):
                while await metadata.has_upload(old.id):
                    await asyncio.wait([sweeping], timeout=0)
            await metadata.advance_upload(used.at(await staging.flush()), origin=0)
        assert await sweeping == 1
        assert (await metadata.get_upload(used.repository, used.id)).offset == 5
        assert await blobs.staged_size(used.id) == 5


async def test_old_bytes_of_a_session_stay(
    tmp_path: Path, blobs: DiskBlobs, metadata: Metadata
) -> None:
    """What is old on the disk belongs to a session that is young in the database."""
    (session,) = await open_sessions(metadata, 1)
    path = tmp_path / "uploads" / session.id
    path.write_bytes(b"bytes")
    os.utime(path, (0, 0))
    assert await expire_uploads(metadata, blobs, 1) == 0
    assert path.read_bytes() == b"bytes"


async def test_finished_sessions_are_forgotten(blobs: DiskBlobs, metadata: Metadata) -> None:
    """More of them than fit a page; they had ended before, and so they are not counted."""
    opened = await open_sessions(metadata, STALE_PAGE + 1)
    repository, digest = opened[0].repository, Digest.of(b"blob")
    await asyncio.gather(
        *(
            metadata.commit_blob(repository, digest, 4, session=session, place=lambda: None)
            for session in opened
        )
    )
    assert await expire_uploads(metadata, blobs, LATE) == 0
    for session in (opened[0], opened[-1]):
        assert not await metadata.was_finished(repository, session.id, digest, owner="")


async def test_leftovers(tmp_path: Path, blobs: DiskBlobs, metadata: Metadata) -> None:
    """What crashes left beside uploads goes when it is old; the session beside it stays."""
    uploads = tmp_path / "uploads"
    names = [f"{'0' * 32}.copy", f"{'0' * 32}.placing", ".probe-1", "0" * 32]
    for name in names:
        (uploads / name).touch()
        os.utime(uploads / name, (1, 1))
    (uploads / f"{'1' * 32}.copy").touch()

    assert await expire_uploads(metadata, blobs, 2_000_000) == len(names)
    assert [path.name for path in uploads.iterdir()] == [f"{'1' * 32}.copy"]


@pytest.mark.usefixtures("blobs")
def test_files_that_vanish(tmp_path: Path) -> None:
    """A file that goes while the store is listed was not there."""
    layout = Layout(tmp_path)
    for name in range(3):
        (tmp_path / "uploads" / f"{name:032}").touch()
        blob = tmp_path / "blobs" / "sha256" / "00" / f"{name:064}"
        blob.parent.mkdir(exist_ok=True)
        blob.touch()
    staged, objects = layout.list_uploads(), layout.list_blobs()
    assert len([next(staged), next(objects)]) == 2
    for path in (*(tmp_path / "uploads").iterdir(), *(tmp_path / "blobs/sha256/00").iterdir()):
        path.unlink()
    assert [*staged, *objects] == []
