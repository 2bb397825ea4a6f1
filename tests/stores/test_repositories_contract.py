"""Every metadata store keeps repositories apart: nothing is read or changed through another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobInUse,
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestInUse,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
)
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import PageRequest
from stores.conftest import CheckableStore
from stores.test_metadata_contract import add, add_blob, parsed
from support.content import Content, artifact, image, index

A, B, THIRD = RepositoryName("a"), RepositoryName("b"), RepositoryName("m/third")
NOBODY = [RepositoryName("0"), RepositoryName("aa"), THIRD]
"""Names of no repository, before, between and behind those of some."""
IMAGE = image("shared")
CHILD = image("child")
LISTING = index(CHILD)
REFERRER = artifact("referrer", subject=IMAGE.descriptor)
OWN = image("own")
BLOB = Digest.of(IMAGE.blobs[0])
ALL = PageRequest(10)
LARGE = 1_000_000

both_ways = pytest.mark.parametrize(("mine", "other"), [(A, B), (B, A)])
"""Rows of the one come before those of the other, and after them."""


async def fill(metadata: CheckableStore, repository: RepositoryName) -> None:
    """Push an image, an index of another one, and a referrer."""
    for content in (IMAGE, CHILD, REFERRER):
        await add(metadata, repository, content)
    for content, tag in ((IMAGE, "image"), (LISTING, "index")):
        await metadata.put_manifest(
            repository, parsed(content), tags=[Tag(tag)], condition=None, check_children=True
        )


class Sight(NamedTuple):
    """What can be seen of a repository."""

    tags: list[str]
    manifests: set[str]
    blobs: set[str]
    referrers: list[str]


async def look(metadata: CheckableStore, repository: RepositoryName) -> Sight:
    """Read all that `fill` pushes, as clients do."""
    contents = (IMAGE, CHILD, LISTING, REFERRER)
    manifests, blobs = set(), set()
    for content in contents:
        try:
            found = await metadata.get_manifest(repository, Digest(content.digest))
        except ManifestUnknown:
            continue
        assert found.payload == content.manifest
        manifests.add(found.digest)
    for blob in {Digest.of(blob) for content in contents for blob in content.blobs}:
        if repository in await metadata.list_linking(blob, 10):
            assert (await metadata.get_blob(repository, blob)).size == 4
            blobs.add(str(blob))
    tags = (await metadata.list_tags(repository, ALL)).items
    for tag in tags:
        await metadata.get_manifest(repository, Tag(tag))
    subject = Digest(IMAGE.digest)
    page = await metadata.list_referrers(repository, subject, None, ALL, LARGE)
    return Sight(tags, manifests, blobs, [str(referrer.digest) for referrer in page.items])


@both_ways
async def test_what_another_one_has(
    metadata: CheckableStore, mine: RepositoryName, other: RepositoryName
) -> None:
    """It is neither found, nor counted, nor changed through a repository that lacks it."""
    await fill(metadata, other)
    await add(metadata, mine, OWN)
    before = await look(metadata, other)

    async def put(content: Content) -> None:
        await metadata.put_manifest(
            mine, parsed(content), tags=[Tag("new")], condition=None, check_children=True
        )

    refused: list[tuple[type[RegistryError], Callable[[], Awaitable[object]]]] = [
        (BlobUnknown, lambda: metadata.get_blob(mine, BLOB)),
        (BlobUnknown, lambda: metadata.unlink_blob(mine, BLOB, remove=pytest.fail)),
        (BlobUnknown, lambda: metadata.mount_blob(THIRD, BLOB, mine, size=4)),
        (BlobUnknown, lambda: metadata.mount_blob(THIRD, BLOB, THIRD, size=4)),
        (ManifestUnknown, lambda: metadata.get_manifest(mine, Digest(IMAGE.digest))),
        (ManifestUnknown, lambda: metadata.get_manifest(mine, Tag("image"))),
        (ManifestUnknown, lambda: metadata.delete_manifest(mine, Digest(LISTING.digest))),
        (ManifestUnknown, lambda: metadata.delete_tag(mine, Tag("image"))),
        (ManifestBlobUnknown, lambda: put(IMAGE)),
        (ManifestBlobUnknown, lambda: put(LISTING)),
        (NameUnknown, lambda: metadata.list_tags(THIRD, ALL)),
    ]
    for error, request in refused:
        with pytest.raises(error):
            await request()
    assert await look(metadata, mine) == Sight(["v1"], set(), set(), [])
    assert await metadata.list_linking(BLOB, 10) == [other]
    assert await look(metadata, other) == before


@pytest.mark.parametrize("name", NOBODY)
async def test_no_repository(metadata: CheckableStore, name: RepositoryName) -> None:
    """Nothing is in a repository that is not there, and asking for it makes none."""
    for repository in (A, B):
        await fill(metadata, repository)
    for request in (
        lambda: metadata.get_manifest(name, Tag("image")),
        lambda: metadata.get_manifest(name, Digest(IMAGE.digest)),
        lambda: metadata.delete_manifest(name, Digest(IMAGE.digest)),
        lambda: metadata.delete_tag(name, Tag("image")),
    ):
        with pytest.raises(ManifestUnknown):
            await request()
    with pytest.raises(BlobUnknown):
        await metadata.get_blob(name, BLOB)
    with pytest.raises(BlobUnknown):
        await metadata.unlink_blob(name, BLOB, remove=pytest.fail)
    page = await metadata.list_referrers(name, Digest(IMAGE.digest), None, ALL, LARGE)
    assert page == ([], False)
    with pytest.raises(NameUnknown):
        await metadata.list_tags(name, ALL)
    assert (await metadata.list_repositories(ALL)).items == [A, B]


@both_ways
async def test_what_both_have(
    metadata: CheckableStore, mine: RepositoryName, other: RepositoryName
) -> None:
    """It can be deleted from one whatever the other needs, which loses nothing by it."""
    for repository in (A, B):
        await fill(metadata, repository)
    before = await look(metadata, other)
    assert before == await look(metadata, mine)
    assert before.tags == ["image", "index", "v1"]
    with pytest.raises(ManifestInUse):
        await metadata.delete_manifest(mine, Digest(CHILD.digest))
    with pytest.raises(BlobInUse):
        await metadata.unlink_blob(mine, BLOB, remove=pytest.fail)
    await metadata.delete_tag(mine, Tag("image"))
    for content in (LISTING, CHILD, IMAGE, REFERRER):
        await metadata.delete_manifest(mine, Digest(content.digest))
    for digest in sorted(before.blobs):
        assert sorted(await metadata.list_linking(Digest(digest), 10)) == [A, B]
        assert len(await metadata.list_linking(Digest(digest), 1)) == 1
        await metadata.unlink_blob(mine, Digest(digest), remove=pytest.fail)
    assert await look(metadata, mine) == Sight([], set(), set(), [])
    assert await look(metadata, other) == before


async def test_bytes_that_are_a_manifest_and_a_blob(metadata: CheckableStore) -> None:
    """What an index lists as a manifest can be deleted as a blob, and what it needs as one not."""
    await add(metadata, A, CHILD)
    await metadata.put_manifest(
        A, parsed(LISTING), tags=[Tag("index")], condition=None, check_children=True
    )
    child = Digest(CHILD.digest)
    removed: list[Digest] = []
    await add_blob(metadata, A, child)
    await metadata.unlink_blob(A, child, remove=lambda: removed.append(child))
    assert removed == [child]
    with pytest.raises(ManifestInUse):
        await metadata.delete_manifest(A, child)
    # An image may have a manifest for a layer: it is needed as a blob alone.
    await add_blob(metadata, A, child)
    layered = image("layered", layers=0)
    document = layered.manifest.replace(b'"layers": []', b'"layers": [%s]')
    raw = CHILD.manifest
    described = b'{"mediaType": "a/b", "digest": "%s", "size": %d}' % (child.encode(), len(raw))
    await metadata.delete_manifest(A, Digest(LISTING.digest))
    await add(metadata, A, Content(document % described, layered.media_type, layered.blobs))
    with pytest.raises(BlobInUse):
        await metadata.unlink_blob(A, child, remove=pytest.fail)
    await metadata.delete_manifest(A, child)
