"""What was deleted and can still be restored.

Times are microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import OrderedPageRequest, Page, PageRequest
from portside.spec.patterns import EVERY_NAME, NameRange
from portside.stores.actors import NOBODY, Actor


class DeletedManifest(NamedTuple):
    """A manifest in the trash, since `deleted`.

    `key` tells it from others in this database.
    """

    repository: RepositoryName
    digest: Digest
    key: int
    deleted: int


class TrashedRepository(msgspec.Struct, frozen=True):
    """A repository with something in the trash.

    `deleted` is None while the repository itself is in use; otherwise `manifests` and `tags` were
    deleted with it, by `deleted_by`, which is empty for anonymous clients.
    """

    name: str
    created: int
    deleted: int | None
    manifests: int
    tags: int
    deleted_by: str


class TrashedManifest(msgspec.Struct, frozen=True):
    """A deleted manifest, and the tags that were deleted with it.

    `image_size` is that of the properties of manifests. `key` tells it from others in this
    database.
    """

    key: int
    digest: str
    media_type: str
    size: int
    image_size: int | None
    created: int
    deleted: int
    deleted_by: str
    tags: tuple[str, ...]


class TrashedTag(msgspec.Struct, frozen=True):
    """A deleted tag whose manifest is still there, or can be restored.

    `created` is since when it pointed to the `digest`, as far as that is known.
    `manifest_deleted` is None if the manifest was not deleted.
    """

    name: str
    digest: str
    created: int
    deleted: int
    deleted_by: str
    manifest_deleted: int | None


class Restored(NamedTuple):
    """What was restored: digests of manifests, and names of tags.

    Manifests that are `incomplete` stay in the trash: something that they need was purged.
    """

    manifests: list[str]
    tags: list[str]
    incomplete: list[str]


class TrashStore(Protocol):
    """Deleted manifests, with the tags that were deleted with them, and other deleted tags.

    What was deleted at the time `since` or before it is neither listed nor restored.
    """

    async def list_trashed_repositories(
        self,
        page: PageRequest,
        names: Sequence[NameRange] = EVERY_NAME,
        *,
        since: int = 0,
        deleted: bool = False,
    ) -> Page[TrashedRepository]:
        """List repositories with something in the trash, in ASCII order.

        `deleted` leaves out those that are in use.
        """
        ...

    async def list_trashed_manifests(
        self, repository: RepositoryName, page: OrderedPageRequest, *, since: int = 0
    ) -> Page[TrashedManifest]:
        """List deleted manifests of a repository, in the order in which they were deleted.

        The order of the page is OLDEST_FIRST. Raises NameUnknown if the repository does not exist,
        and nothing of it is in the trash.
        """
        ...

    async def list_trashed_tags(
        self, repository: RepositoryName, page: OrderedPageRequest, *, since: int = 0
    ) -> Page[TrashedTag]:
        """List deleted tags of a repository, as `list_trashed_manifests` does.

        A tag that was deleted from several manifests is listed once for each; one that points to
        the same manifest again is not.
        """
        ...

    async def list_expired_manifests(self, until: int, *, limit: int) -> list[DeletedManifest]:
        """List manifests that were deleted at a time or before it, oldest first."""
        ...

    async def purge_manifest(
        self, found: DeletedManifest, until: int, *, by: Actor = NOBODY
    ) -> int:
        """Delete a manifest for good, if it is still in the trash since `until` or before.

        The deleted manifests that list it are purged with it: none can be restored in part. Return
        how many were purged. The grace period of their blobs begins.
        """
        ...

    async def purge_image(
        self, repository: RepositoryName, digest: Digest, *, by: Actor = NOBODY
    ) -> list[str]:
        """Delete a manifest in the trash for good, and what would be restored with it.

        Of that, what another manifest lists stays. The deleted manifests that list what is purged
        go as well. Return the digests. Raises ManifestUnknown if the manifest is not in the trash.
        """
        ...

    async def restore_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        *,
        since: int = 0,
        tags: Sequence[Tag] | None = None,
        by: Actor = NOBODY,
    ) -> Restored:
        """Restore a manifest, the manifests that it lists, and what was deleted with it.

        It gets the `tags`, or by default those that were deleted with it; a tag that exists stays
        where it points. Raises ManifestUnknown if it is not in the trash or if what it needs was
        purged, and OperationDisallowed.
        """
        ...

    async def restore_repository(
        self, repository: RepositoryName, *, since: int = 0, by: Actor = NOBODY
    ) -> Restored:
        """Restore what was deleted with a repository, or all that is deleted in one that is in use.

        A tag that several manifests had points to that one from which it was deleted last. Raises
        NameUnknown if there is nothing to restore, ManifestUnknown if all of it needs what was
        purged, and OperationDisallowed.
        """
        ...
