"""What a store tells those who inspect, repair and copy it.

Serving requests needs none of this: the protocols for that are in `interfaces`. Records hold values
as they are stored, because a check looks for values that are invalid. A registry may change the
store during an inspection: what an iterator yields was true when it was read.

Every method may raise Unavailable when the engine below fails; methods that write may also raise
StorageFull. Iterators raise between two items, and are not resumed after that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from portside.spec.digests import Digest
from portside.spec.uploads import UploadId
from portside.stores.interfaces import BlobStore, Place
from portside.stores.marks import Mark


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


class ManifestRecord(msgspec.Struct, frozen=True):
    """A manifest and its references, all read from one snapshot.

    `size` is the recorded number of bytes; `annotations` is None if the recorded ones cannot be
    decoded.
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


class UploadRecord(msgspec.Struct, frozen=True):
    """An upload session, and the number of bytes that it must hold."""

    id: str
    repository: str
    offset: int


class OrphanedFile(msgspec.Struct, frozen=True):
    """A file or an object that belongs to no content, and what to do about it."""

    path: str
    advice: str


class InspectableMetadata(Protocol):
    """Every record, one after another; no lock, cursor or snapshot is held between two of them."""

    def integrity_problems(self) -> AsyncIterator[str]:
        """Find what the engine's own checks and the references between rows show to be wrong."""
        ...

    def repository_names(self) -> AsyncIterator[str]:
        """Read the name of every repository."""
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


class InspectableBlobs(BlobStore, Protocol):
    """A blob store that can also be listed, verified, cleaned and marked."""

    @property
    def location(self) -> object:
        """Where the blobs are, as shown to people; holds no secret."""
        ...

    def stored_blobs(self) -> AsyncIterator[tuple[Digest, int]]:
        """List every stored blob with its size in bytes."""
        ...

    async def holds_blobs(self) -> bool:
        """Whether any blob is stored."""
        ...

    async def verify(self, digest: Digest) -> bool | None:
        """Read a blob to its end: whether its content has that digest; None if it is missing."""
        ...

    def confirm(self, digest: Digest, size: int) -> Place:
        """Return a function that keeps bytes which are stored already.

        The function raises Unavailable if they are missing or are not `size` bytes.
        """
        ...

    async def missing_directories(self) -> list[str]:
        """List the directories that the store needs and lacks."""
        ...

    def orphaned_files(self) -> AsyncIterator[OrphanedFile]:
        """List what is in the store and is no blob, upload or other thing in use."""
        ...

    async def is_orphaned(self, file: OrphanedFile) -> bool:
        """Whether a file that was listed as orphaned is still there, and still orphaned."""
        ...

    async def drop_orphaned_files(self, before: int) -> list[int]:
        """Drop the files of crashed requests last written before a time (µs since 1970).

        Files of other programs stay. Return how many bytes each file took.
        """
        ...

    def staged_uploads(self) -> AsyncIterator[tuple[UploadId, int]]:
        """List every upload that has bytes, and how many."""
        ...

    async def staged_size(self, upload: UploadId) -> int | None:
        """Return how many bytes an upload holds; None if nothing is stored for it."""
        ...

    async def is_held(self, upload: UploadId) -> bool:
        """Whether a request is writing to the upload."""
        ...

    async def read_mark(self) -> Mark | None:
        """Read the mark of the store; None if it has none."""
        ...

    async def put_mark(self, mark: Mark) -> None:
        """Write a mark durably, unless the store has one."""
        ...
