"""Mount: make a blob of one repository readable in another, without sending it again."""

from __future__ import annotations

from collections.abc import Callable

from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown
from portside.spec.names import RepositoryName
from portside.stores.interfaces import BlobLinkStore, BlobStore

MAX_SOURCES = 1000
"""Repositories that are looked at for one that the caller may pull from."""


async def mount_blob(
    links: BlobLinkStore,
    blobs: BlobStore,
    repository: RepositoryName,
    digest: Digest,
    source: RepositoryName | None,
    *,
    may_pull: Callable[[str], bool] | None = None,
) -> bool:
    """Link a blob that `source` (or any repository, if that is None) holds (end-11).

    Where no source is named, `may_pull` tells which repositories may be one (None: all of them).
    False means that there is nothing to mount, and that the client has to push the blob itself: so
    it is, too, where the bytes were lost.
    """
    if source is None and may_pull is not None:
        linking = await links.list_linking(digest, MAX_SOURCES)
        source = next((name for name in linking if may_pull(name)), None)
        if source is None:
            return False
    held = await blobs.stat(digest)
    if held is None:
        return False
    try:
        await links.mount_blob(repository, digest, source, size=held)
    except BlobUnknown:
        return False
    return True
