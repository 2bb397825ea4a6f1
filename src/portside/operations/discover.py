"""Discover: list tags, referrers, and the repositories that the caller may know of."""

from __future__ import annotations

from collections.abc import Sequence

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.pagination import Page, PageRequest
from portside.spec.patterns import NameRange
from portside.stores.interfaces import DiscoveryStore, Referrer


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

    async def repositories(self, page: PageRequest, shown: Sequence[NameRange]) -> Page[str]:
        """List the repositories whose names are shown, in ASCII order."""
        return await self._metadata.list_repositories(page, shown)
