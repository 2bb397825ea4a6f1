"""What every metadata store tells `portside check`."""

from __future__ import annotations

from portside.spec.digests import Algorithm, Digest
from portside.spec.names import RepositoryName, Tag
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.inspection import BlobFact, ReferenceFact, UploadFact
from stores.conftest import Clock, Shelf
from stores.test_metadata_contract import add, parsed
from support.content import image, index

A = RepositoryName("a")


async def test_everything_is_told(shelf: Shelf, clock: Clock) -> None:
    """Each row is a fact, manifests with what they refer to and whether that is there."""
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
    assert list(metadata.integrity_problems()) == []
    assert list(metadata.repository_names()) == ["a"]
    assert sorted(metadata.tag_names()) == [("a", "all"), ("a", "v1")]
    assert list(metadata.blob_facts()) == [BlobFact(digest, 4) for digest in blobs]
    assert metadata.blob_fact(blobs[0]) == BlobFact(blobs[0], 4)
    assert metadata.blob_fact(str(Digest.of(b"none"))) is None
    upload = UploadFact(str(session.id), "a", 5)
    assert list(metadata.upload_facts()) == [upload]
    assert metadata.upload_fact(str(session.id)) == upload
    assert metadata.upload_fact(str(UploadId.fresh())) is None
    first, second = metadata.manifest_facts()
    assert (first.digest, first.payload) == (content.digest, content.manifest)
    assert (first.size, first.annotations) == (len(content.manifest), {"key": "value"})
    assert first.references == tuple(
        ReferenceFact("blob", digest, required=True, present=True) for digest in blobs
    )
    assert {(fact.digest, fact.required, fact.present) for fact in second.references} == {
        (content.digest, False, True),
        (image(2).digest, False, False),
    }
    with metadata.quiet(Digest.parse(blobs[0])):
        assert metadata.blob_fact(blobs[0]) is not None
