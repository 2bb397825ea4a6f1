"""The storage of another registry as a source, such as a backup or a replica of a bucket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown, ManifestUnknown, Unavailable
from portside.spec.ranges import ByteRange
from portside.stores.interfaces import InspectableBlobs


class StorageSource:
    """The blobs of a store; its manifests are in a database, which is not read."""

    def __init__(self, blobs: InspectableBlobs) -> None:
        self._blobs = blobs

    @property
    def name(self) -> str:
        """The location of the store."""
        return str(self._blobs.location)

    async def require(self) -> None:
        """Look for the directories, and for a first blob."""
        if await self._blobs.missing_directories() or not await self._blobs.holds_blobs():
            raise Unavailable(f"{self.name} holds no blobs of a registry")

    async def read_blob(self, digest: Digest, _: Sequence[str] = ()) -> AsyncGenerator[bytes, None]:
        """Read a blob of the store."""
        size = await self._blobs.stat(digest)
        if size is None:
            raise BlobUnknown(f"{digest} is not in {self.name}")
        async with aclosing(self._blobs.read(digest, ByteRange(0, size))) as pieces:
            async for piece in pieces:
                yield piece

    async def read_manifest(self, digest: Digest, _: Sequence[str]) -> bytes:
        """Raise ManifestUnknown."""
        raise ManifestUnknown(f"{digest}: a storage holds no manifests")
