"""What a store must be able to tell so that everything in it can be checked.

These are abilities beside `interfaces`: a store has them or has not, and nothing that serves
requests needs them. They are plain iterators, for a check runs by itself and takes its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from portside.spec.digests import Digest
from portside.spec.manifests import Manifest
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId, UploadSession


class BlobFact(msgspec.Struct, frozen=True):
    """What the metadata says of one blob, for a check."""

    digest: Digest
    size: int


class CheckableMetadata(Protocol):
    """Every fact, one after another."""

    def integrity_problems(self) -> Iterator[str]:
        """Give what the engine itself and the references between rows show to be wrong."""
        ...

    def blob_facts(self) -> Iterator[BlobFact]:
        """Give every blob that must be in the blob store."""
        ...

    def manifest_facts(self) -> Iterator[tuple[RepositoryName, Manifest, int]]:
        """Give every manifest as it is stored, and the size that is noted for it."""
        ...

    def upload_facts(self) -> Iterator[UploadSession]:
        """Give every upload session."""
        ...


class CheckableBlobs(Protocol):
    """Every object there is."""

    def objects(self) -> Iterator[tuple[Digest, int]]:
        """Give every blob's digest and its size in bytes."""
        ...

    def strays(self) -> Iterator[str]:
        """Give what is in the store and is no blob, upload, or other thing that belongs there."""
        ...

    def staged(self) -> Iterator[tuple[UploadId, int]]:
        """Give every upload that has bytes, and how many."""
        ...

    def verify(self, digest: Digest) -> bool:
        """Read a blob to its end; tells whether the content has that digest."""
        ...
