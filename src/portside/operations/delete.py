"""Delete: content goes when nothing in its repository needs it any more."""

from __future__ import annotations

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.names import Reference, RepositoryName
from portside.stores.interfaces import BlobLinkStore, BlobStore, ManifestStore


async def delete_manifest(
    manifests: ManifestStore,
    repository: RepositoryName,
    reference: Reference,
    condition: TagCondition | None = None,
) -> None:
    """Delete a manifest and its tags by digest, or just a tag (end-9).

    Raises ManifestUnknown, ManifestInUse and, if `condition` does not hold, PreconditionFailed.
    """
    if isinstance(reference, Digest):
        await manifests.delete_manifest(repository, reference, condition)
    else:
        await manifests.delete_tag(repository, reference, condition)


async def delete_blob(
    links: BlobLinkStore, blobs: BlobStore, repository: RepositoryName, digest: Digest
) -> None:
    """Delete a blob from a repository, and its bytes with its last repository (end-10).

    Raises BlobUnknown and BlobInUse.
    """
    await links.unlink_blob(repository, digest, remove=blobs.remove(digest))
