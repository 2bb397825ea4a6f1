"""Pull: read manifests, and blobs or parts of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import NamedTuple

from portside.operations.grace import GracePeriod
from portside.operations.last_pulls import LastPulls
from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, ReadOnly, Unavailable
from portside.spec.names import Reference, RepositoryName
from portside.spec.ranges import ByteRange
from portside.spec.schema1 import EMPTY_LAYER, EMPTY_LAYER_DIGEST
from portside.stores.interfaces import BlobStore, MetadataStore, StoredManifest

Reader = Callable[[Digest, ByteRange], AsyncGenerator[bytes, None]]
"""Reads a part of a blob in pieces; the caller closes the generator."""


class SignedUrl(str):
    """A URL by which anybody can read a blob for some time."""

    __slots__ = ()


class Redirects(NamedTuple):
    """Blobs of more than `above` bytes are read from the object store, by URLs that it signs.

    The URLs are good for `life` seconds.
    """

    above: int
    life: int


class Pull:
    """Reads content; `redirects` is None where the registry sends all blobs itself.

    A client that is told of a blob has the whole `grace` to push a manifest that refers to it.
    `last_pulls` notes each manifest that is read.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        blobs: BlobStore,
        redirects: Redirects | None,
        *,
        grace: GracePeriod,
        last_pulls: LastPulls | None = None,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._redirects = redirects
        self._grace = grace
        self._last_pulls = last_pulls

    async def manifest(self, repository: RepositoryName, reference: Reference) -> StoredManifest:
        """Return a manifest (end-3); raises ManifestUnknown."""
        found = await self._metadata.get_manifest(repository, reference)
        if self._last_pulls is not None:
            self._last_pulls.note(repository, found.digest)
        return found

    async def stat_blob(self, repository: RepositoryName, digest: Digest) -> int:
        """Return the size in bytes of a blob that the store holds whole (end-2).

        A blob whose bytes were lost counts as unknown: a client that is told so pushes it again,
        and the store is healed.

        Raises BlobUnknown.
        """
        # Nothing is collected while the registry is read-only.
        size = await self._find_blob(repository, digest, unless=ReadOnly)
        await self._require_whole(digest, size)
        return size

    async def blob_size(self, repository: RepositoryName, digest: Digest) -> int:
        """Return the size in bytes of a blob that the repository links; raises BlobUnknown.

        A pull needs no write, and so the disk may be full. Only a client that asks whether a blob
        exists (`stat_blob`) takes the answer for a promise.
        """
        return await self._find_blob(repository, digest, unless=Unavailable)

    async def _find_blob(
        self, repository: RepositoryName, digest: Digest, *, unless: type[Unavailable]
    ) -> int:
        """Return the size of a blob, and begin its grace period anew; `unless` ignores errors.

        Every repository has the empty layer, which manifests that were converted refer to.
        """
        try:
            blob = await self._metadata.get_blob(repository, digest)
            if blob.unreferenced is not None and self._grace.has_begun(blob.unreferenced):
                with suppress(unless):
                    await self._metadata.confirm_blob(repository, digest)
        except BlobUnknown:
            if digest != EMPTY_LAYER_DIGEST:
                raise
            return len(EMPTY_LAYER)
        return blob.size

    async def open_blob(self, digest: Digest, size: int, *, parts: int) -> SignedUrl | Reader:
        """Return where a client can read a blob of that size, or how to read it here.

        A redirect costs one signature: the object store itself says whether the bytes are there.
        No object store answers several ranges (`parts`) at once.

        Raises BlobUnknown if the store does not hold the blob whole.
        """
        if digest == EMPTY_LAYER_DIGEST:
            return _read_empty_layer
        redirects = self._redirects
        if redirects is not None and size > redirects.above and parts <= 1:
            url = await self._blobs.sign(digest, redirects.life)
            if url is not None:
                return SignedUrl(url)
        await self._require_whole(digest, size)
        return self._blobs.read

    async def _require_whole(self, digest: Digest, size: int) -> None:
        if digest == EMPTY_LAYER_DIGEST:
            return
        if await self._blobs.stat(digest) != size:
            lost = (
                f"the bytes of {digest} are damaged or missing in this registry; push the blob"
                " again"
            )
            raise BlobUnknown(lost)


async def _read_empty_layer(_: Digest, part: ByteRange) -> AsyncGenerator[bytes, None]:
    yield EMPTY_LAYER[part.start : part.stop]
