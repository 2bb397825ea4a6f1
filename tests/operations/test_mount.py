"""A blob is mounted only if its bytes are there."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from portside.operations.mount import Mount
from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown
from portside.spec.names import RepositoryName
from portside.stores.blobs.disk.layout import Layout
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.store import Metadata
from support.sqlite import open_database

A, B = RepositoryName("a"), RepositoryName("b")
CONTENT = b"content"
DIGEST = Digest.of(CONTENT)


def damage(file: Path, left: int | None) -> None:
    """Leave so many bytes of a file, or no file."""
    if left is None:
        file.unlink()
    else:
        os.truncate(file, left)


def write(file: Path) -> None:
    """Write the file of the blob."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(CONTENT)


@pytest.mark.parametrize("source", [A, None])
@pytest.mark.parametrize("left", [None, 0, len(CONTENT) - 1, len(CONTENT) + 1])
async def test_damaged(tmp_path: Path, source: RepositoryName | None, left: int | None) -> None:
    """One that is missing, or has another size, is pushed again instead, which heals it."""
    with (
        closing(await open_database(tmp_path, clock=lambda: 1)) as database,
        closing(DiskBlobs(tmp_path, hold_timeout=0)) as blobs,
    ):
        blobs.create()
        metadata = Metadata(database)
        mount = Mount(metadata, blobs)
        file = Path(Layout(tmp_path).blob(DIGEST))
        write(file)
        await metadata.commit_blob(A, DIGEST, len(CONTENT), session=None, place=lambda: None)
        damage(file, left)
        assert not await mount.blob(B, DIGEST, source)
        with pytest.raises(BlobUnknown):
            await metadata.get_blob(B, DIGEST)
        write(file)
        assert await mount.blob(B, DIGEST, source)


async def test_any_source(tmp_path: Path) -> None:
    """Without a source, one that the caller may pull from is found among all that there are."""
    names = [RepositoryName(f"source{number}") for number in range(5)]
    with (
        closing(await open_database(tmp_path, clock=lambda: 1)) as database,
        closing(DiskBlobs(tmp_path, hold_timeout=0)) as blobs,
    ):
        blobs.create()
        metadata = Metadata(database)
        mount = Mount(metadata, blobs)
        write(Path(Layout(tmp_path).blob(DIGEST)))
        for name in names:
            await metadata.commit_blob(name, DIGEST, len(CONTENT), session=None, place=lambda: None)
        assert not await mount.blob(B, DIGEST, None, may_pull=lambda _: False)
        assert not await mount.blob(B, DIGEST, None, may_pull=lambda name: name == B)
        for name in names:
            target = RepositoryName(f"target/{name}")
            assert await mount.blob(target, DIGEST, None, may_pull=name.__eq__)
            assert (await metadata.get_blob(target, DIGEST)).size == len(CONTENT)
        # A source that was named is looked at alone; the caller was asked for it before.
        assert not await mount.blob(B, DIGEST, A, may_pull=lambda _: True)
