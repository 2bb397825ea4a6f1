"""Retain: delete the tags and manifests that the rules do not keep, a repository at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, Self

from portside.operations.last_pulls import LATENESS
from portside.spec.names import RepositoryName
from portside.spec.pagination import PageRequest
from portside.spec.retention import (
    Removal,
    RetainedContent,
    RetainedManifest,
    RetainedTag,
    Verdicts,
    decide,
    removals,
)
from portside.spec.rules import RepositoryRules
from portside.stores.actors import Actor
from portside.stores.interfaces import MetadataStore
from portside.stores.properties import Deleted

BATCH = 50
"""Tags or manifests that one transaction deletes: pushes to the repository wait for that long."""

_PAGE = 1000
"""Repositories that are listed at once."""


class Plan(NamedTuple):
    """What the rules decide about a repository as it was when it was read.

    `tags` and `manifests` are those that go, `removals` in which order.
    """

    repository: RepositoryName
    content: RetainedContent
    verdicts: Verdicts
    tags: list[RetainedTag]
    manifests: list[RetainedManifest]
    removals: list[Removal]

    @classmethod
    def make(
        cls, repository: RepositoryName, content: RetainedContent, rules: RepositoryRules, now: int
    ) -> Self:
        """Decide; takes seconds for a large repository."""
        verdicts = decide(content, rules, now, lateness=LATENESS)
        return cls(
            repository,
            content,
            verdicts,
            [tag for tag in content.tags if verdicts.tags[tag.name].goes],
            [each for each in content.manifests if verdicts.manifests[each.digest].goes],
            list(removals(content, verdicts, rules, BATCH)),
        )


class Retain:
    """Decides and deletes; `by` is who deletes tags and manifests."""

    def __init__(self, metadata: MetadataStore, *, clock: Callable[[], int], by: Actor) -> None:
        self._metadata = metadata
        self._clock = clock
        self._by = by

    async def plan(self, repository: RepositoryName, rules: RepositoryRules) -> Plan:
        """Decide, and change nothing."""
        content = await self._metadata.read_retained(repository)
        # The event loop does not wait for that.
        return await asyncio.to_thread(Plan.make, repository, content, rules, self._clock())

    async def plan_each(self, rules_of: Callable[[str], RepositoryRules]) -> AsyncIterator[Plan]:
        """Decide about each repository in which rules could delete something, in ASCII order."""
        page = PageRequest(_PAGE)
        while True:
            found = await self._metadata.list_repository_properties(page, hidden=True)
            for item in found.items:
                rules = rules_of(item.name)
                if rules.deletes and (item.tag_count or item.manifest_count):
                    yield await self.plan(RepositoryName(item.name), rules)
            if not found.more:
                return
            page = PageRequest(_PAGE, found.items[-1].name)

    async def size(self, plan: Plan) -> int:
        """Return the bytes that are free once what goes was purged and its blobs collected."""
        gone = [manifest.digest for manifest in plan.manifests]
        return await self._metadata.unshared_size(plan.repository, gone) if gone else 0

    async def carry_out(self, plan: Plan) -> Deleted:
        """Delete what goes and was neither changed nor pulled since; return what was deleted."""
        deleted = Deleted([], [])
        for removal in plan.removals:
            found = await self._metadata.remove_retained(plan.repository, removal, by=self._by)
            deleted.manifests.extend(found.manifests)
            deleted.tags.extend(found.tags)
        return deleted
