"""Pull: find content that may be read."""

from __future__ import annotations

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown
from portside.spec.names import RepositoryName
from portside.stores.interfaces import BlobLinkStore, BlobStore


async def find_blob(
    links: BlobLinkStore, blobs: BlobStore, repository: RepositoryName, digest: Digest
) -> int:
    """Give the size in bytes of a blob that is linked in the repository and whole in the store.

    A blob whose bytes were lost counts as unknown: a client that is told so pushes it again, and
    the store is healed.

    Raises BlobUnknown.
    """
    size = await links.get_blob_size(repository, digest)
    await require_whole(blobs, digest, size)
    return size


async def require_whole(blobs: BlobStore, digest: Digest, size: int) -> None:
    """Raise BlobUnknown if the store does not hold `size` bytes of a blob."""
    if await blobs.stat(digest) != size:
        lost = f"the bytes of {digest} are damaged or missing in this registry; push the blob again"
        raise BlobUnknown(lost)
