"""Restore: list what is in the trash, bring it back, or purge it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from portside.spec.conditions import TagCondition, keeping
from portside.spec.digests import Digest
from portside.spec.errors import NameUnknown, TagExists, TagUnknown
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import (
    START,
    Order,
    OrderedPageRequest,
    Page,
    PageRequest,
    Position,
)
from portside.spec.patterns import EVERY_NAME, NameRange
from portside.spec.rules import NO_RULES, Rules
from portside.stores.actors import NOBODY, Actor
from portside.stores.interfaces import MetadataStore
from portside.stores.tag_history import TagAction
from portside.stores.trash import (
    DeletedManifest,
    Restored,
    TrashedManifest,
    TrashedRepository,
    TrashedTag,
)

PAGE = 100
"""Entries of a list that are read at once."""


class RestoredImage(NamedTuple):
    """The manifest that a restored tag points to, and the manifests that came back with it."""

    digest: Digest
    manifests: list[str]


class Restore:
    """Restores what was deleted less than `keep` microseconds ago.

    `clock` returns microseconds since 1970. The rules that are in force say which tags must not be
    moved. `by` is the name of the identity, empty for anonymous clients.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        *,
        keep: int,
        clock: Callable[[], int],
        rules: Callable[[], Rules] = lambda: NO_RULES,
    ) -> None:
        self._metadata = metadata
        self._keep = keep
        self._clock = clock
        self._rules = rules

    def kept_until(self, deleted: int) -> int:
        """Return until when something that was deleted at a time can be restored."""
        return deleted + self._keep

    @property
    def _since(self) -> int:
        return self._clock() - self._keep

    async def repositories(
        self, page: PageRequest, names: Sequence[NameRange] = EVERY_NAME, *, deleted: bool = False
    ) -> Page[TrashedRepository]:
        """List repositories with something in the trash, or only `deleted` ones."""
        return await self._metadata.list_trashed_repositories(
            page, names, since=self._since, deleted=deleted
        )

    async def manifests(
        self, repository: RepositoryName, page: OrderedPageRequest
    ) -> Page[TrashedManifest]:
        """List deleted manifests, the longest deleted first; raises NameUnknown."""
        return await self._metadata.list_trashed_manifests(repository, page, since=self._since)

    async def tags(self, repository: RepositoryName, page: OrderedPageRequest) -> Page[TrashedTag]:
        """List deleted tags, the longest deleted first; raises NameUnknown."""
        return await self._metadata.list_trashed_tags(repository, page, since=self._since)

    async def repository(self, repository: RepositoryName, *, by: Actor = NOBODY) -> Restored:
        """Restore what was deleted with a repository, or all that is deleted in one that is in use.

        What needs something that was purged stays in the trash; if that is all of it, it is an
        error. Raises NameUnknown, ManifestUnknown and OperationDisallowed.
        """
        return await self._metadata.restore_repository(repository, since=self._since, by=by)

    async def manifest(
        self, repository: RepositoryName, digest: Digest, *, by: Actor = NOBODY
    ) -> Restored:
        """Restore a manifest with what it needs and the tags that were deleted with it.

        Raises ManifestUnknown and OperationDisallowed.
        """
        return await self._metadata.restore_manifest(repository, digest, since=self._since, by=by)

    async def tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        digest: Digest | None = None,
        *,
        force: bool = False,
        by: Actor = NOBODY,
    ) -> RestoredImage:
        """Point a tag to a manifest again, by default to the one from which it was deleted last.

        The manifest is restored if it was deleted. A tag that points to another one is moved only
        with `force`.

        Raises TagUnknown, ManifestUnknown, TagExists, OperationDisallowed, TagImmutable and, if the
        tag is pushed at the same time, PreconditionFailed.
        """
        condition = None
        if not force:
            current = await self._find(repository, tag)
            if current is not None and current != digest:
                now = f"tag {tag} of repository {repository} points to {current} now"
                raise TagExists(now)
            condition = TagCondition(none_match=("*",)) if current is None else None
        if digest is None:
            digest = await self._last(repository, tag)
        condition = keeping(condition, self._rules().of(repository).immutable_tags)
        found = await self._metadata.restore_tag(
            repository, tag, digest, condition, since=self._since, by=by
        )
        return RestoredImage(digest, found.manifests)

    async def empty(self, names: Sequence[NameRange] = EVERY_NAME, *, by: Actor = NOBODY) -> int:
        """Purge all deleted manifests of some repositories; return how many they were."""
        until = self._clock()
        purged = 0
        async for name, found in self._every_manifest(names):
            item = DeletedManifest(name, Digest(found.digest), found.key, found.deleted)
            purged += await self._metadata.purge_manifest(item, until, by=by)
        return purged

    async def purge(
        self, repository: RepositoryName, digest: Digest, *, by: Actor = NOBODY
    ) -> list[str]:
        """Purge a deleted manifest with what is deleted with it; return the digests.

        Raises ManifestUnknown.
        """
        return await self._metadata.purge_image(repository, digest, by=by)

    async def count(self, names: Sequence[NameRange] = EVERY_NAME) -> int:
        """Return how many manifests `empty` would purge."""
        return sum([1 async for _ in self._every_manifest(names)])

    async def _every_manifest(
        self, names: Sequence[NameRange]
    ) -> AsyncIterator[tuple[RepositoryName, TrashedManifest]]:
        """Yield all that is deleted, also what should have been purged by now."""
        last = ""
        more = True
        while more:
            page = await self._metadata.list_trashed_repositories(PageRequest(PAGE, last), names)
            more = page.more
            for found in page.items:
                last = found.name
                name = RepositoryName(found.name)
                # All of it can be purged since it was listed.
                with suppress(NameUnknown):
                    async for manifest in self._manifests_of(name):
                        yield name, manifest

    async def _manifests_of(self, name: RepositoryName) -> AsyncIterator[TrashedManifest]:
        order = Order.OLDEST_FIRST
        after = START[order]
        more = True
        while more:
            wanted = OrderedPageRequest(PAGE, order, after)
            page = await self._metadata.list_trashed_manifests(name, wanted)
            more = page.more
            for manifest in page.items:
                after = Position(manifest.deleted, manifest.digest)
                yield manifest

    async def _find(self, repository: RepositoryName, tag: Tag) -> str | None:
        """Return the digest that a tag points to, or None if it does not exist."""
        try:
            return (await self._metadata.get_tag(repository, tag)).digest
        except TagUnknown:
            return None

    async def _last(self, repository: RepositoryName, tag: Tag) -> Digest:
        """Return the digest from which a tag was deleted last; raises TagUnknown."""
        since = self._since
        before: int | None = None
        more = True
        while more:
            page = await self._metadata.list_tag_changes(repository, tag, before=before, limit=PAGE)
            for change in page.items:
                if change.action is TagAction.DELETED and change.time > since:
                    return change.digest
                before = change.time
            more = page.more and before is not None and before > since
        raise TagUnknown(
            f"repository {repository} has no deleted tag {tag}; list the trash to see what can be"
            " restored"
        )
