"""What every store promises to a repair."""

from __future__ import annotations

import asyncio

import pytest

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown
from portside.spec.names import RepositoryName, Tag
from portside.spec.uploads import UploadId
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.inspection import BlobRecord
from portside.stores.metadata.store import Metadata
from portside.stores.repairing import BytesReplaced
from stores.conftest import BlobFactory, Shelf
from stores.test_metadata_contract import add, add_blob, parsed
from support.blobs import finish, listed, stage
from support.content import image

A, B, C = RepositoryName("a"), RepositoryName("b"), RepositoryName("c")
CONTENT = b"some content"
DIGEST = Digest.of(CONTENT)


def nothing() -> None:
    """Do nothing where bytes would be placed or removed."""


def replaced() -> None:
    """Say that the bytes are others by now."""
    raise BytesReplaced


async def test_versions_of_bytes(make_blobs: BlobFactory) -> None:
    """Each write of the same bytes is another version; without a write, there is one."""
    blobs = make_blobs()
    assert isinstance(blobs, DiskBlobs | ObjectBlobs)
    assert await blobs.version(DIGEST) is None
    blobs.require_version(DIGEST, None)()
    versions: list[str | None] = []
    for _ in range(2):
        upload = UploadId.fresh()
        await stage(blobs, upload, 0, CONTENT, keep=True)
        await finish(blobs, upload, len(CONTENT))
        version = await blobs.version(DIGEST)
        assert version == await blobs.version(DIGEST)
        blobs.require_version(DIGEST, version)()
        for other in (None, *versions):
            with pytest.raises(BytesReplaced):
                blobs.require_version(DIGEST, other)()
        versions.append(version)
        # An object store tells times in whole seconds, and the tag of the same bytes is the same.
        if not isinstance(blobs, DiskBlobs):
            break
    await asyncio.to_thread(blobs.remove(DIGEST))
    with pytest.raises(BytesReplaced):
        blobs.require_version(DIGEST, versions[-1])()
    assert await blobs.version(DIGEST) is None


@pytest.fixture
async def repairable(shelf: Shelf) -> Metadata:
    """Open an empty metadata store of each kind."""
    metadata = shelf.metadata()
    assert isinstance(metadata, Metadata)
    return metadata


async def test_links_that_a_manifest_needs_stay(repairable: Metadata) -> None:
    """The bytes go, and the links that no manifest needs; a weak reference is no need."""
    content = image(1)
    lost = Digest.of(content.blobs[0])
    await add(repairable, A, content)
    await add_blob(repairable, B, lost)
    await add_blob(repairable, C, lost)
    await add(repairable, C, image(2, annotations={"key": str(lost)}))
    removed: list[Digest] = []
    await repairable.drop_damaged_blob(lost, confirm=nothing, remove=lambda: removed.append(lost))
    assert removed == [lost]
    assert (await repairable.get_blob(A, lost)).size == 4
    for repository in (B, C):
        with pytest.raises(BlobUnknown):
            await repairable.get_blob(repository, lost)
    assert await repairable.blob_record(lost) == BlobRecord(lost, 4)


async def test_the_last_link_takes_the_blob(repairable: Metadata) -> None:
    """A blob that no manifest needs is forgotten."""
    await add_blob(repairable, A, DIGEST)
    await repairable.drop_damaged_blob(DIGEST, confirm=nothing, remove=nothing)
    assert await repairable.blob_record(DIGEST) is None


async def test_nothing_is_dropped_that_was_replaced(repairable: Metadata) -> None:
    """If the bytes are others by now, rows and bytes stay."""
    await add_blob(repairable, A, DIGEST)
    removed: list[Digest] = []
    with pytest.raises(BytesReplaced):
        await repairable.drop_damaged_blob(
            DIGEST, confirm=replaced, remove=lambda: removed.append(DIGEST)
        )
    assert removed == []
    assert (await repairable.get_blob(A, DIGEST)).size == 4
    with pytest.raises(BytesReplaced):
        await repairable.restore_blob(DIGEST, 9, repository=None, place=replaced)
    assert (await repairable.get_blob(A, DIGEST)).size == 4


async def test_restored(shelf: Shelf, repairable: Metadata) -> None:
    """A blob gets its size, and a link where a manifest refers to it; elsewhere it gets none."""
    content = image(1)
    lost = Digest.of(content.blobs[0])
    await add(repairable, A, content)
    await add_blob(repairable, B, DIGEST)
    placed: list[int] = []

    def place() -> None:
        placed.append(1)

    assert await repairable.restore_blob(lost, 7, repository=None, place=place)
    assert (await repairable.get_blob(A, lost)).size == 7
    await shelf.execute("DELETE FROM repository_blobs")
    await shelf.execute("DELETE FROM blobs")
    for repository in (None, "b", "none"):
        assert not await repairable.restore_blob(lost, 7, repository=repository, place=place)
    assert await repairable.restore_blob(lost, 8, repository="a", place=place)
    assert (await repairable.get_blob(A, lost)).size == 8
    assert placed == [1, 1]
    await shelf.execute("UPDATE repository_blobs SET deleted = 5")
    assert await repairable.restore_blob(lost, 8, repository="a", place=place)
    assert (await repairable.get_blob(A, lost)).unreferenced is None


async def test_links_that_are_never_collected(shelf: Shelf, repairable: Metadata) -> None:
    """A link without a reference gets the time from which its grace period runs."""
    await add(repairable, A, image(1))
    await add_blob(repairable, A, DIGEST)
    assert await listed(repairable.uncollected_links()) == []
    await shelf.execute("UPDATE repository_blobs SET unreferenced = NULL")
    assert await listed(repairable.uncollected_links()) == [("a", DIGEST)]
    for blob in (DIGEST, Digest.of(image(1).blobs[0])):
        await repairable.begin_grace("a", blob)
    assert await listed(repairable.uncollected_links()) == []
    assert (await repairable.get_blob(A, DIGEST)).unreferenced is not None
    assert (await repairable.get_blob(A, Digest.of(image(1).blobs[0]))).unreferenced is None


async def test_counted_and_forgotten(shelf: Shelf, repairable: Metadata) -> None:
    """Numbers are those of the rows; a blob without links goes, and others stay."""
    content = image(1)
    await add(repairable, A, content)
    await repairable.put_manifest(
        A, parsed(content), tags=[Tag("v2")], condition=None, check_children=True
    )
    await add_blob(repairable, B, DIGEST)
    before = await listed(repairable.repository_records())
    await shelf.execute("UPDATE repositories SET manifest_count = 7, tag_count = 7")
    await shelf.execute("UPDATE repositories SET manifest_bytes = manifest_bytes + 5")
    await shelf.execute("UPDATE repository_blobs SET size = size + 5")
    await repairable.recount("a")
    await repairable.recount("none")
    records = await listed(repairable.repository_records())
    assert [(record.manifest_count, record.tag_count) for record in records] == [(1, 2), (7, 7)]
    assert records[0] == before[0]
    assert records[1].recorded_bytes == records[1].bytes + 10
    await shelf.execute("DELETE FROM repository_blobs WHERE repository = 2")
    for blob in (DIGEST, Digest.of(content.blobs[0])):
        await repairable.drop_unlinked_blob(blob)
    assert await repairable.blob_record(DIGEST) is None
    assert await repairable.blob_record(Digest.of(content.blobs[0])) is not None
