"""Discover: list tags, referrers, and the repositories that the caller may know of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.pagination import Page, PageRequest
from portside.stores.interfaces import DiscoveryStore, Referrer

BATCH = 1000
"""Names that are looked through at once; other requests are served between two batches."""


class Discover:
    """Lists what there is; a page of referrers has at most `max_referrers_bytes` as JSON."""

    def __init__(self, metadata: DiscoveryStore, *, max_referrers_bytes: int) -> None:
        self._metadata = metadata
        self._max_referrers_bytes = max_referrers_bytes

    async def tags(self, repository: RepositoryName, page: PageRequest) -> Page[str]:
        """List tags in ASCII order (end-8); raises NameUnknown."""
        return await self._metadata.list_tags(repository, page)

    async def referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_type: str | None,
        page: PageRequest,
    ) -> Page[Referrer]:
        """List the manifests with a subject, by digest (end-12)."""
        return await self._metadata.list_referrers(
            repository, subject, artifact_type, page, self._max_referrers_bytes
        )

    async def repositories(
        self, page: PageRequest, shows: Callable[[str], bool] | None
    ) -> Page[str]:
        """List the repositories that `shows` accepts, or all if it is None, in ASCII order."""
        if shows is None or page.limit == 0:
            return await self._metadata.list_repositories(page)
        found: list[str] = []
        last = page.last
        while True:
            batch = await self._metadata.list_repositories(PageRequest(BATCH, last))
            for name in batch.items:
                if not shows(name):
                    continue
                if len(found) == page.limit:
                    return Page(found, more=True)
                found.append(name)
            if not batch.more:
                return Page(found, more=False)
            last = batch.items[-1]
            await asyncio.sleep(0)
