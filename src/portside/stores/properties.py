"""Properties: what a registry knows of a repository, a tag or a manifest beside its content.

Times are microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.locks import Lock, LockChange
from portside.spec.manifests import Manifest
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import OrderedPageRequest, Page, PageRequest
from portside.spec.platforms import Platform
from portside.stores.actors import NOBODY, Actor


class RepositoryProperties(msgspec.Struct, frozen=True):
    """A repository; `updated` is when a manifest or a tag was last pushed or deleted."""

    name: str
    created: int
    updated: int
    manifest_count: int
    tag_count: int
    locks: Lock


class TagProperties(msgspec.Struct, frozen=True):
    """A tag; `updated` is when it was last pushed."""

    name: str
    digest: str
    created: int
    updated: int
    locks: Lock


class ManifestProperties(msgspec.Struct, frozen=True):
    """A manifest; `updated` is when it was last pushed.

    `size` is in bytes, as is `image_size`: that of the blobs that the manifest refers to, each
    counted once, and for an index those of its manifests. It is None where `portside migrate` has
    not looked yet at a manifest that an older version received. `architecture` and `os` are those
    of an image's config. `index` is the payload of an index, None for other manifests. `tags` are
    the first of those that lists show, 1000 at most. `pushed_by` is empty for anonymous clients.
    `pulled` is about when it was last pulled, None if that is not known.
    """

    digest: str
    media_type: str
    size: int
    created: int
    updated: int
    artifact_type: str | None
    config_media_type: str | None
    architecture: str | None
    os: str | None
    image_size: int | None
    pushed_by: str
    locks: Lock
    pulled: int | None
    index: bytes | None
    tags: tuple[str, ...]


class UndescribedManifest(msgspec.Struct, frozen=True):
    """A manifest that an older version received, whose properties are not recorded yet.

    `key` tells it from others in this database.
    """

    key: int
    digest: str
    media_type: str
    payload: bytes


class Deleted(NamedTuple):
    """What was deleted with a repository: digests of manifests, and names of tags."""

    manifests: list[str]
    tags: list[str]


class PropertyStore(Protocol):
    """Properties, locks, and lists of both.

    A repository that was deleted is unknown until a manifest is pushed to it again. Lists leave out
    what may not be listed, unless they are asked for what is `hidden` as well.
    """

    async def get_repository(self, repository: RepositoryName) -> RepositoryProperties:
        """Read a repository; raises NameUnknown."""
        ...

    async def get_tag(self, repository: RepositoryName, tag: Tag) -> TagProperties:
        """Read a tag; raises TagUnknown."""
        ...

    async def get_manifest_properties(
        self, repository: RepositoryName, digest: Digest
    ) -> ManifestProperties:
        """Read the properties of a manifest; raises ManifestUnknown."""
        ...

    async def change_repository(
        self, repository: RepositoryName, change: LockChange, *, by: Actor = NOBODY
    ) -> RepositoryProperties:
        """Change the locks of a repository, and no time; raises NameUnknown."""
        ...

    async def change_tag(
        self, repository: RepositoryName, tag: Tag, change: LockChange, *, by: Actor = NOBODY
    ) -> TagProperties:
        """Change the locks of a tag, and no time; raises TagUnknown."""
        ...

    async def change_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        change: LockChange,
        *,
        by: Actor = NOBODY,
    ) -> ManifestProperties:
        """Change the locks of a manifest, and no time; raises ManifestUnknown."""
        ...

    async def list_repository_properties(
        self, page: PageRequest, *, hidden: bool = False
    ) -> Page[RepositoryProperties]:
        """List repositories in ASCII order, those without manifests among them."""
        ...

    async def list_tag_properties(
        self,
        repository: RepositoryName,
        page: OrderedPageRequest,
        digest: Digest | None = None,
        *,
        hidden: bool = False,
    ) -> Page[TagProperties]:
        """List tags, of one manifest if `digest` is given; raises NameUnknown."""
        ...

    async def list_manifest_properties(
        self, repository: RepositoryName, page: OrderedPageRequest, *, hidden: bool = False
    ) -> Page[ManifestProperties]:
        """List manifests; raises NameUnknown.

        A page may have fewer than the limit, if its indexes are large.
        """
        ...

    async def describe_manifests(
        self, repository: RepositoryName, digests: Sequence[Digest]
    ) -> list[ManifestProperties]:
        """Read the properties of those manifests that exist, but for their tags, in any order."""
        ...

    async def delete_repository(
        self,
        repository: RepositoryName,
        *,
        condition: TagCondition | None = None,
        by: Actor = NOBODY,
    ) -> Deleted:
        """Delete all manifests and tags of a repository, or nothing.

        Its blobs are unknown from then on. All of it can be restored; `by` is the name of the
        identity.

        Raises NameUnknown, and OperationDisallowed if anything in it may not be deleted. Of the
        `condition`, only immutable tags count.
        """
        ...

    async def list_undescribed(self, limit: int) -> list[UndescribedManifest]:
        """List at most `limit` manifests whose properties are not recorded yet."""
        ...

    async def describe_manifest(
        self, found: UndescribedManifest, manifest: Manifest | None, platform: Platform
    ) -> None:
        """Record the properties and the weak references of a manifest that is still there.

        `manifest` is None if the payload cannot be read: nothing is known of it then.
        """
        ...
