"""What takes the space: of the registry, of each repository, and of one manifest.

A blob takes its bytes once, however many repositories link it; a manifest takes those of its
payload in each repository. A link is of one of three kinds:

- *in use*: a manifest of the repository refers to the blob;
- *deleted*: only deleted manifests do, which can be restored;
- *unreferenced*: no manifest does, and it waits to be collected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.patterns import RepositoryPattern


class Usage(NamedTuple):
    """What some repositories have, and take; each blob counts once.

    Of `bytes`, no other repository has the `exclusive` ones. The `deleted` bytes can be restored,
    and the `unreferenced` ones wait to be collected. The bytes of manifests are included, also of
    deleted ones, which are left out of their number.
    """

    manifests: int = 0
    tags: int = 0
    bytes: int = 0
    exclusive: int = 0
    deleted: int = 0
    unreferenced: int = 0

    @property
    def shared(self) -> int:
        """The bytes that other repositories have as well."""
        return self.bytes - self.exclusive


class RepositoryUsage(NamedTuple):
    """What one repository has, and takes."""

    name: str
    usage: Usage


class RegistryUsage(NamedTuple):
    """What repositories take, the largest first, and what all of them do.

    A blob that several of them have counts once in the `total`, as one that is in use if it is in
    use in any repository of the registry, else as a deleted one if any of them can restore it.
    """

    repositories: list[RepositoryUsage]
    total: Usage


class Freed(NamedTuple):
    """The bytes that go with a manifest: if it is deleted alone, or with what only it keeps.

    `dependents` counts the manifests that only it keeps.
    """

    alone: int
    together: int
    dependents: int


class Collectable(NamedTuple):
    """What a round of the garbage collector would remove; `bytes` would be freed."""

    manifests: int
    links: int
    blobs: int
    bytes: int


class ContentCounts(NamedTuple):
    """How much there is; each blob counts once, and deleted manifests only in `manifest_bytes`."""

    repositories: int = 0
    manifests: int = 0
    tags: int = 0
    manifest_bytes: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    uploads: int = 0


class UsageStore(Protocol):
    """What takes the space; each answer is exact for one moment."""

    async def measure_usage(self, pattern: RepositoryPattern) -> RegistryUsage:
        """Measure the repositories that a pattern matches.

        Every link is read, which takes seconds for millions of them. In memory is only what is
        returned.
        """
        ...

    async def measure_repositories(self, names: list[str]) -> dict[str, int]:
        """Return the bytes that each of some repositories takes; none is left out."""
        ...

    async def measure_manifest(self, repository: RepositoryName, digest: Digest) -> Freed:
        """Return what is freed if a manifest is deleted, and no longer kept to be restored.

        What only deleted manifests need is not counted. Raises ManifestUnknown.
        """
        ...

    async def measure_collectable(
        self, purged: int, unlinked: int, *, at_once: bool
    ) -> Collectable:
        """Return what a collector would remove.

        It purges manifests that were deleted at the time `purged` (µs since 1970) or before it, and
        unlinks blobs that are unreferenced since the time `unlinked` or before it, or `at_once`.
        """
        ...

    async def count_content(self, pause: Callable[[], Awaitable[None]]) -> ContentCounts:
        """Count a page at a time, with a pause after each; what changes then may be missed."""
        ...
