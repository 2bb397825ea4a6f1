"""What a store must be able to tell so that everything in it can be checked.

These are abilities beside `interfaces`: a store has them or has not, and nothing that serves
requests needs them. They are plain functions and iterators, for a check runs by itself and takes
its time; a registry may change the store meanwhile. Facts are given as they are stored, for what is
no valid value is what a check looks for. All raise Unavailable where the engine below fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from portside.spec.digests import Digest
from portside.spec.uploads import UploadId


class BlobFact(msgspec.Struct, frozen=True):
    """What the metadata says of one blob; `size` is in bytes."""

    digest: str
    size: int


class ReferenceFact(msgspec.Struct, frozen=True):
    """One digest that a manifest is noted to refer to, and whether the repository holds it."""

    kind: str
    digest: str
    required: bool
    present: bool


class ManifestFact(msgspec.Struct, frozen=True):
    """A manifest and its references, as they were at one moment.

    `size` is the number of bytes that is noted; `annotations` is None if what is noted cannot be
    read.
    """

    repository: str
    digest: str
    media_type: str
    payload: bytes
    size: int
    subject: str | None
    artifact_type: str | None
    annotations: dict[str, str] | None
    references: tuple[ReferenceFact, ...]


class UploadFact(msgspec.Struct, frozen=True):
    """An upload session, and how many bytes it must hold."""

    id: str
    repository: str
    offset: int


class Stray(msgspec.Struct, frozen=True):
    """A file that no content accounts for, and what to do about it."""

    path: str
    advice: str


class CheckableMetadata(Protocol):
    """Every fact, one after another; nothing is held open between two of them."""

    def integrity_problems(self) -> Iterator[str]:
        """Give what the engine itself and the references between rows show to be wrong."""
        ...

    def repository_names(self) -> Iterator[str]:
        """Give the name of every repository."""
        ...

    def tag_names(self) -> Iterator[tuple[str, str]]:
        """Give every tag, behind the name of its repository."""
        ...

    def blob_facts(self) -> Iterator[BlobFact]:
        """Give every blob that must be in the blob store."""
        ...

    def blob_fact(self, digest: str) -> BlobFact | None:
        """Look a blob up, or give None if it is not known."""
        ...

    def manifest_facts(self) -> Iterator[ManifestFact]:
        """Give every manifest."""
        ...

    def upload_facts(self) -> Iterator[UploadFact]:
        """Give every upload session."""
        ...

    def upload_fact(self, upload: str) -> UploadFact | None:
        """Look a session up, or give None if there is no such session."""
        ...

    def quiet(self, digest: Digest) -> AbstractContextManager[None]:
        """Keep all who would change a blob waiting for the length of a block, which is short.

        Within it, the blob has its bytes if it is known, and the other way round, but for damage.
        """
        ...


class CheckableBlobs(Protocol):
    """Every object there is."""

    def objects(self) -> Iterator[tuple[Digest, int]]:
        """Give every blob's digest and its size in bytes."""
        ...

    def size(self, digest: Digest) -> int | None:
        """Give the bytes that are stored for a blob, or None if nothing is."""
        ...

    def verify(self, digest: Digest) -> bool | None:
        """Read a blob to its end; tells whether the content has that digest.

        Gives None if nothing is stored.
        """
        ...

    def missing(self) -> Iterator[str]:
        """Give the directories that a store has and this one has not."""
        ...

    def strays(self) -> Iterator[Stray]:
        """Give what is in the store and is no blob, upload, or other thing that is in use there."""
        ...

    def is_stray(self, stray: Stray) -> bool:
        """Look at a stray once more."""
        ...

    def staged(self) -> Iterator[tuple[UploadId, int]]:
        """Give every upload that has a file, and how many bytes."""
        ...

    def staged_size(self, upload: UploadId) -> int | None:
        """Give the bytes that an upload holds, or None if it has no file."""
        ...

    def is_held(self, upload: UploadId) -> bool:
        """Tell whether a request is writing to the upload."""
        ...
