"""Delete: remove content that nothing in its repository refers to."""

from __future__ import annotations

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import DeleteDisabled
from portside.spec.names import Reference, RepositoryName
from portside.stores.interfaces import BlobStore, MetadataStore


class Delete:
    """Deletes content, unless the registry is set to keep everything (not `allowed`)."""

    def __init__(self, metadata: MetadataStore, blobs: BlobStore, *, allowed: bool) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self.allowed = allowed

    async def manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        condition: TagCondition | None = None,
    ) -> None:
        """Delete a manifest and its tags by digest, or one tag (end-9).

        Raises DeleteDisabled, ManifestUnknown, ManifestInUse and, if `condition` does not hold,
        PreconditionFailed.
        """
        self._require_allowed()
        if isinstance(reference, Digest):
            await self._metadata.delete_manifest(repository, reference, condition)
        else:
            await self._metadata.delete_tag(repository, reference, condition)

    async def blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Delete a blob from a repository, and its bytes with its last repository (end-10).

        Raises DeleteDisabled, BlobUnknown and BlobInUse.
        """
        self._require_allowed()
        remove = self._blobs.remove(digest)
        await self._metadata.unlink_blob(repository, digest, remove=remove)

    def _require_allowed(self) -> None:
        if not self.allowed:
            raise DeleteDisabled("the registry runs with --no-delete")
