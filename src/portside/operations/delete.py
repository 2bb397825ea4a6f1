"""Delete: remove content that nothing in its repository refers to."""

from __future__ import annotations

from contextlib import suppress

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobInUse,
    BlobUnknown,
    DeleteDisabled,
    ManifestUnknown,
    OperationDisallowed,
    TagUnknown,
)
from portside.spec.names import Reference, RepositoryName, Tag
from portside.spec.pagination import PageRequest
from portside.stores.interfaces import BlobStore, MetadataStore
from portside.stores.properties import Deleted

_LINKS = 1000
"""Links that are read at once."""


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

        Raises DeleteDisabled, ManifestUnknown, ManifestInUse, OperationDisallowed and, if
        `condition` does not hold, PreconditionFailed.
        """
        self._require_allowed()
        if isinstance(reference, Digest):
            await self._metadata.delete_manifest(repository, reference, condition)
        else:
            await self._metadata.delete_tag(repository, reference, condition)

    async def tag(self, repository: RepositoryName, tag: Tag) -> None:
        """Delete a tag; raises DeleteDisabled, TagUnknown and OperationDisallowed."""
        try:
            await self.manifest(repository, tag)
        except ManifestUnknown as error:
            raise TagUnknown(f"repository {repository} has no tag {tag}") from error

    async def repository(self, repository: RepositoryName) -> Deleted:
        """Delete all manifests and tags of a repository, and the links to its blobs.

        A blob that a manifest needs again by then stays. Raises DeleteDisabled, NameUnknown and
        OperationDisallowed.
        """
        self._require_allowed()
        deleted = await self._metadata.delete_repository(repository)
        page = PageRequest(_LINKS)
        while True:
            blobs = await self._metadata.list_blobs(repository, page)
            for digest in blobs.items:
                with suppress(BlobUnknown, BlobInUse, OperationDisallowed):
                    remove = self._blobs.remove(digest)
                    await self._metadata.unlink_blob(repository, digest, remove=remove)
            if not blobs.more:
                return deleted
            page = PageRequest(_LINKS, str(blobs.items[-1]))

    async def blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Delete a blob from a repository, and its bytes with its last repository (end-10).

        Raises DeleteDisabled, BlobUnknown, BlobInUse and OperationDisallowed.
        """
        self._require_allowed()
        remove = self._blobs.remove(digest)
        await self._metadata.unlink_blob(repository, digest, remove=remove)

    def _require_allowed(self) -> None:
        if not self.allowed:
            raise DeleteDisabled("the registry runs with --no-delete")
