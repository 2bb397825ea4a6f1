"""What a metadata store tells those who inspect it.

Serving requests needs none of this. Records hold values as they are stored, because a check looks
for values that are invalid. A registry may change the store during an inspection: what an iterator
yields was true when it was read.

Every method may raise Unavailable when the engine below fails. Iterators raise between two items,
and are not resumed after that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from portside.spec.digests import Digest


class BlobRecord(msgspec.Struct, frozen=True):
    """A blob as the metadata describes it; `size` is in bytes."""

    digest: str
    size: int


class ReferenceRecord(msgspec.Struct, frozen=True):
    """A digest that a manifest refers to, and whether the repository holds it."""

    kind: str
    digest: str
    required: bool
    present: bool
    weak: bool = False


class ManifestRecord(msgspec.Struct, frozen=True):
    """A manifest and its references, all read from one snapshot.

    `size` is the recorded number of bytes; `annotations` is None if the recorded ones cannot be
    decoded. One that is not `described` was received by an older version: neither its properties
    nor its weak references are recorded yet.
    """

    repository: str
    digest: str
    media_type: str
    payload: bytes
    size: int
    subject: str | None
    artifact_type: str | None
    annotations: dict[str, str] | None
    references: tuple[ReferenceRecord, ...]
    described: bool = True


class RepositoryRecord(msgspec.Struct, frozen=True):
    """A repository: how many manifests, tags and bytes are recorded, and how many there are."""

    name: str
    manifest_count: int
    manifests: int
    tag_count: int
    tags: int
    recorded_bytes: int
    bytes: int


class UploadRecord(msgspec.Struct, frozen=True):
    """An upload session, and the number of bytes that it must hold."""

    id: str
    repository: str
    offset: int


class ImageNames(msgspec.Struct, frozen=True):
    """Some of `total` images: `repository:tag`, or `repository@digest` without a tag.

    What is deleted, and could be restored, has a note behind its name.
    """

    names: tuple[str, ...]
    total: int


class InspectableMetadata(Protocol):
    """Every record, one after another; no lock, cursor or snapshot is held between two of them."""

    def integrity_problems(self) -> AsyncIterator[str]:
        """Find what the engine's own checks and the references between rows show to be wrong."""
        ...

    def unlinked_blobs(self) -> AsyncIterator[str]:
        """Read the digest of every blob that no repository links, and so nobody can read."""
        ...

    def uncollected_links(self) -> AsyncIterator[tuple[str, str]]:
        """Read the repository and the digest of links that would never be collected.

        No manifest refers to the blob, and it is not recorded since when.
        """
        ...

    def repository_records(self) -> AsyncIterator[RepositoryRecord]:
        """Read every repository."""
        ...

    def tag_names(self) -> AsyncIterator[tuple[str, str]]:
        """Read every tag, as the name of its repository and its own name."""
        ...

    def blob_records(self) -> AsyncIterator[BlobRecord]:
        """Read every blob that the blob store must hold."""
        ...

    async def blob_record(self, digest: str) -> BlobRecord | None:
        """Look up a blob; None if it is unknown."""
        ...

    def manifest_records(self) -> AsyncIterator[ManifestRecord]:
        """Read every manifest."""
        ...

    async def images_with_blob(self, digest: str, limit: int) -> ImageNames:
        """Name at most `limit` images that need a blob, in order.

        An image that is reached through an index is named by the tags of both.
        """
        ...

    async def images_with_manifest(self, repository: str, digest: str, limit: int) -> ImageNames:
        """Name at most `limit` images that are a manifest, or reach it through an index."""
        ...

    def upload_records(self) -> AsyncIterator[UploadRecord]:
        """Read every upload session."""
        ...

    async def upload_record(self, upload: str) -> UploadRecord | None:
        """Look up an upload session; None if it is unknown."""
        ...

    def hold_blob(self, digest: Digest) -> AbstractAsyncContextManager[None]:
        """Keep everyone from committing or removing a blob for the length of a block.

        Within the block a blob that is known has its bytes, and bytes belong to a known blob,
        unless something is damaged. Keep the block short: pushes wait for it.
        """
        ...
