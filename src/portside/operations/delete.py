"""Delete: remove content that nothing in its repository refers to."""

from __future__ import annotations

from collections.abc import Callable

from portside.spec.conditions import TagCondition, keeping
from portside.spec.digests import Digest
from portside.spec.errors import DeleteDisabled, ManifestUnknown, TagUnknown
from portside.spec.names import Reference, RepositoryName, Tag
from portside.spec.rules import NO_RULES, Rules
from portside.stores.actors import NOBODY, Actor
from portside.stores.interfaces import BlobStore, MetadataStore
from portside.stores.properties import Deleted


class Delete:
    """Deletes content, unless the registry is set to keep everything (not `allowed`).

    What was deleted can be restored until the garbage collector purges it.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        blobs: BlobStore,
        *,
        allowed: bool,
        rules: Callable[[], Rules] = lambda: NO_RULES,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self.allowed = allowed
        self._rules = rules

    async def manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        condition: TagCondition | None = None,
        *,
        by: Actor = NOBODY,
    ) -> None:
        """Delete a manifest and its tags by digest, or one tag (end-9).

        Raises DeleteDisabled, ManifestUnknown, ManifestInUse, OperationDisallowed and, if
        `condition` does not hold, PreconditionFailed.
        """
        self._require_allowed()
        condition = keeping(condition, self._rules().of(repository).immutable_tags)
        if isinstance(reference, Digest):
            await self._metadata.delete_manifest(repository, reference, condition, by=by)
        else:
            await self._metadata.delete_tag(repository, reference, condition, by=by)

    async def tag(self, repository: RepositoryName, tag: Tag, *, by: Actor = NOBODY) -> None:
        """Delete a tag; raises DeleteDisabled, TagUnknown and OperationDisallowed."""
        try:
            await self.manifest(repository, tag, by=by)
        except ManifestUnknown as error:
            raise TagUnknown(f"repository {repository} has no tag {tag}") from error

    async def repository(self, repository: RepositoryName, *, by: Actor = NOBODY) -> Deleted:
        """Delete all manifests and tags of a repository, and hide its blobs.

        Raises DeleteDisabled, NameUnknown and OperationDisallowed.
        """
        self._require_allowed()
        condition = keeping(None, self._rules().of(repository).immutable_tags)
        return await self._metadata.delete_repository(repository, condition=condition, by=by)

    async def blob(self, repository: RepositoryName, digest: Digest, *, by: Actor = NOBODY) -> None:
        """Delete a blob from a repository, and its bytes with its last repository (end-10).

        Raises DeleteDisabled, BlobUnknown, BlobInUse and OperationDisallowed.
        """
        self._require_allowed()
        remove = self._blobs.remove(digest)
        await self._metadata.unlink_blob(repository, digest, remove=remove, by=by)

    def _require_allowed(self) -> None:
        if not self.allowed:
            raise DeleteDisabled("the registry runs with --no-delete")
