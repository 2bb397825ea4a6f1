"""What every metadata store tells `portside check`."""

from __future__ import annotations

from portside.spec.digests import Algorithm, Digest
from portside.spec.names import RepositoryName, Tag
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.inspection import (
    BlobRecord,
    ImageNames,
    ReferenceRecord,
    RepositoryRecord,
    UploadRecord,
)
from stores.conftest import Clock, Shelf
from stores.test_metadata_contract import add, add_blob, parsed
from support.blobs import listed
from support.content import image, index

A, B = RepositoryName("a"), RepositoryName("b")


async def test_everything_is_told(shelf: Shelf, clock: Clock) -> None:
    """Each row is a record, manifests with what they refer to and whether that is there."""
    metadata = shelf.metadata()
    content = image(1, annotations={"key": "value"})
    sparse = parsed(index(content, image(2)))
    session = UploadSession(
        id=UploadId.fresh(),
        repository=A,
        algorithm=Algorithm.SHA256,
        created=clock.now,
        updated=clock.now,
    )
    await add(metadata, A, content)
    await metadata.put_manifest(A, sparse, tags=[Tag("all")], condition=None, check_children=False)
    await metadata.open_upload(session)
    await metadata.advance_upload(session.at(5), origin=0)
    blobs = sorted(str(Digest.of(blob)) for blob in content.blobs)
    assert await listed(metadata.integrity_problems()) == []
    size = len(content.manifest) + sparse.size + 4 * len(blobs)
    found = RepositoryRecord("a", 2, 2, 2, 2, recorded_bytes=size, bytes=size)
    assert await listed(metadata.repository_records()) == [found]
    assert sorted(await listed(metadata.tag_names())) == [("a", "all"), ("a", "v1")]
    assert await listed(metadata.blob_records()) == [BlobRecord(digest, 4) for digest in blobs]
    assert await metadata.blob_record(blobs[0]) == BlobRecord(blobs[0], 4)
    assert await metadata.blob_record(str(Digest.of(b"none"))) is None
    upload = UploadRecord(str(session.id), "a", 5)
    assert await listed(metadata.upload_records()) == [upload]
    assert await metadata.upload_record(str(session.id)) == upload
    assert await metadata.upload_record(str(UploadId.fresh())) is None
    first, second = await listed(metadata.manifest_records())
    assert (first.digest, first.payload) == (content.digest, content.manifest)
    assert (first.size, first.annotations) == (len(content.manifest), {"key": "value"})
    assert first.references == tuple(
        ReferenceRecord("blob", digest, required=True, present=True) for digest in blobs
    )
    assert {(found.digest, found.required, found.present) for found in second.references} == {
        (content.digest, False, True),
        (image(2).digest, False, False),
    }
    async with metadata.hold_blob(Digest.parse(blobs[0])):
        assert await metadata.blob_record(blobs[0]) is not None


async def test_blobs_without_links(shelf: Shelf) -> None:
    """A blob that no repository links is a problem; one that a single repository links is none."""
    metadata = shelf.metadata()
    content = image(1)
    await add(metadata, A, content)
    await add(metadata, B, content)
    await shelf.execute("DELETE FROM repository_blobs WHERE repository = 1")
    assert await listed(metadata.unlinked_blobs()) == []
    await shelf.execute("DELETE FROM repository_blobs")
    assert await listed(metadata.unlinked_blobs()) == sorted(
        str(Digest.of(blob)) for blob in content.blobs
    )


async def test_images_of_a_blob(shelf: Shelf) -> None:
    """Images are named by tags, their own and those of indexes, or by an outermost digest."""
    metadata = shelf.metadata()
    content = image(1)
    inner = index(content)
    outer = index(inner)
    tags_of = {(A, content.digest): ["1", "2"], (A, outer.digest): ["all"]}
    for repository in (A, B):
        for blob in content.blobs:
            await add_blob(metadata, repository, Digest.of(blob))
        for each in (content, inner, outer):
            named = [Tag(tag) for tag in tags_of.get((repository, each.digest), [])]
            await metadata.put_manifest(
                repository, parsed(each), tags=named, condition=None, check_children=True
            )
    every = ("a:1", "a:2", "a:all", f"b@{outer.digest}")
    needed = str(Digest.of(content.blobs[0]))
    assert await metadata.images_with_blob(needed, 10) == ImageNames(every, 4)
    assert await metadata.images_with_blob(needed, 2) == ImageNames(every[:2], 4)
    assert await metadata.images_with_manifest("a", inner.digest, 9) == ImageNames(("a:all",), 1)
    assert await metadata.images_with_manifest("c", inner.digest, 9) == ImageNames((), 0)
    await shelf.execute(
        f"UPDATE manifests SET deleted = 5 WHERE repository = 2 AND digest = '{outer.digest}'"  # noqa: S608  # of a test
    )
    some = await metadata.images_with_blob(needed, 10)
    assert some.names[3:] == (f"b@{inner.digest}", f"b@{outer.digest} (deleted)") or (
        some.names[3:] == (f"b@{outer.digest} (deleted)", f"b@{inner.digest}")
    )
    await shelf.execute("UPDATE manifests SET deleted = NULL")
    await add(metadata, A, image(2, annotations={"key": needed}))
    assert await metadata.images_with_blob(needed, 10) == ImageNames(every, 4)


async def test_what_another_repository_has(shelf: Shelf) -> None:
    """What a manifest refers to is present only if its own repository has it."""
    metadata = shelf.metadata()
    content = image(1)
    sparse = parsed(index(content))
    await metadata.put_manifest(A, sparse, tags=[], condition=None, check_children=False)
    await add(metadata, A, image(2))
    await add(metadata, B, content)
    await add(metadata, B, image(2))
    await shelf.execute("DELETE FROM repository_blobs WHERE repository = 1")
    records = [
        record for record in await listed(metadata.manifest_records()) if record.repository == "a"
    ]
    assert len(records) == 2
    assert not any(found.present for record in records for found in record.references)
