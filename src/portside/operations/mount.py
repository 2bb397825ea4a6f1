"""Mount: make a blob of one repository readable in another, without sending it again."""

from __future__ import annotations

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown
from portside.spec.names import RepositoryName
from portside.stores.interfaces import BlobLinkStore, BlobStore


async def mount_blob(
    links: BlobLinkStore,
    blobs: BlobStore,
    repository: RepositoryName,
    digest: Digest,
    source: RepositoryName | None,
) -> bool:
    """Link a blob that `source` (or any repository, if that is None) holds (end-11).

    False means that there is nothing to mount, and that the client has to push the blob itself: so
    it is, too, where the bytes were lost.
    """
    if await blobs.stat(digest) is None:
        return False
    try:
        await links.mount_blob(repository, digest, source)
    except BlobUnknown:
        return False
    return True
