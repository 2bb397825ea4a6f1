"""What was deleted and can still be restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName, Tag


class DeletedManifest(NamedTuple):
    """A manifest in the trash, since `deleted` (µs since 1970).

    `key` tells it from others in this database.
    """

    repository: RepositoryName
    digest: Digest
    key: int
    deleted: int


class Restored(NamedTuple):
    """What was restored: digests of manifests, and names of tags."""

    manifests: list[str]
    tags: list[str]


class TrashStore(Protocol):
    """Deleted manifests, with the tags that were deleted with them."""

    async def list_expired_manifests(self, until: int, *, limit: int) -> list[DeletedManifest]:
        """List manifests that were deleted at a time (µs since 1970) or before it, oldest first."""
        ...

    async def purge_manifest(self, found: DeletedManifest, until: int) -> bool:
        """Delete a manifest for good, if it is still in the trash since `until` or before.

        Return whether it was purged. The grace period of its blobs begins.
        """
        ...

    async def restore_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        since: int = 0,
        tags: Sequence[Tag] | None = None,
        by: str = "",
    ) -> Restored:
        """Restore a manifest, the manifests that it lists, and what was deleted with it.

        Nothing that was deleted at the time `since` (µs since 1970) or before it is restored.
        It gets the `tags`, or by default those that were deleted with it; a tag that exists stays
        where it points. `by` is the name of the identity. Raises ManifestUnknown if it is not in
        the trash or if what it needs was purged, and OperationDisallowed.
        """
        ...

    async def restore_repository(
        self, repository: RepositoryName, *, since: int = 0, by: str = ""
    ) -> Restored:
        """Restore what was deleted with a repository, or all that is deleted in one that is in use.

        Nothing that was deleted at the time `since` (µs since 1970) or before it is restored.
        Raises NameUnknown if there is nothing to restore, and OperationDisallowed.
        """
        ...
