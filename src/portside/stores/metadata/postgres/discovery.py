"""Lists in PostgreSQL, each by keyset on an index."""

from __future__ import annotations

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.pagination import Page, PageRequest, cut
from portside.stores.interfaces import Referrer
from portside.stores.metadata.judging import name_unknown
from portside.stores.metadata.postgres.pool import Database
from portside.stores.metadata.postgres.texts import before_nul, is_storable
from portside.stores.metadata.referrers import ReferrersPage

# Of a join, PostgreSQL does not know that there is one repository only, and would read and sort all
# of its rows for each page.
TAGS = """
    SELECT t.name
    FROM tags t
    WHERE t.repository = (SELECT r.id FROM repositories r WHERE r.name = $1) AND t.name > $2
    ORDER BY t.name
    LIMIT $3
"""
_REPOSITORY = "SELECT 1 FROM repositories WHERE name = $1"
REPOSITORIES = """
    SELECT r.name
    FROM repositories r
    WHERE r.name > $1 AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id)
    ORDER BY r.name
    LIMIT $2
"""
REFERRERS = """
    SELECT m.media_type, m.digest, m.size, m.artifact_type, m.annotations
    FROM manifests m
    WHERE m.repository = (SELECT r.id FROM repositories r WHERE r.name = $1) AND m.subject = $2
        AND ($3::text IS NULL OR m.artifact_type = $3) AND m.digest > $4
    ORDER BY m.digest
    LIMIT $5
"""

PREFETCHED = 16
"""Referrers that are fetched at once: each can have annotations of some megabytes, and one page
ends when there are enough bytes."""


class PostgresDiscovery:
    """The DiscoveryStore over PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_tags(self, repository: RepositoryName, page: PageRequest) -> Page[str]:
        """Read one page of tags."""
        start = (before_nul(page.last), page.limit + 1)
        rows = await self._database.list(TAGS, str(repository), *start)
        if not rows and await self._database.find(_REPOSITORY, str(repository)) is None:
            raise name_unknown(repository)
        return cut([name for (name,) in rows], page)

    async def list_repositories(self, page: PageRequest) -> Page[str]:
        """Read one page of names."""
        start = (before_nul(page.last), page.limit + 1)
        rows = await self._database.list(REPOSITORIES, *start)
        return cut([name for (name,) in rows], page)

    async def list_referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_type: str | None,
        page: PageRequest,
        max_bytes: int,
    ) -> Page[Referrer]:
        """Read one page of referrers, some rows at a time until there are enough bytes."""
        found = ReferrersPage(page, max_bytes)
        if artifact_type is not None and not is_storable(artifact_type):
            return found.finished()
        start = (before_nul(page.last), page.limit + 1)
        parameters = (str(repository), str(subject), artifact_type, *start)
        async with self._database.connected() as connection, connection.transaction(readonly=True):
            async for row in connection.cursor(REFERRERS, *parameters, prefetch=PREFETCHED):
                if not found.takes(row):
                    break
        return found.finished()
