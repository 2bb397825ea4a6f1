"""Lists in SQLite, each by keyset on an index."""

from __future__ import annotations

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.pagination import Page, PageRequest, cut
from portside.stores.interfaces import Referrer
from portside.stores.metadata.database import Database
from portside.stores.metadata.judging import name_unknown
from portside.stores.metadata.referrers import ReferrersPage

TAGS = """
    SELECT t.name
    FROM repositories r
    JOIN tags t ON t.repository = r.id
    WHERE r.name = ? AND t.name > ?
    ORDER BY t.name
    LIMIT ?
"""
_REPOSITORY = "SELECT 1 FROM repositories WHERE name = ?"
REPOSITORIES = """
    SELECT r.name
    FROM repositories r
    WHERE r.name > ? AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id)
    ORDER BY r.name
    LIMIT ?
"""
REFERRERS = """
    SELECT m.media_type, m.digest, m.size, m.artifact_type, m.annotations
    FROM repositories r
    JOIN manifests m ON m.repository = r.id
    WHERE r.name = ? AND m.subject = ? AND (? IS NULL OR m.artifact_type = ?) AND m.digest > ?
    ORDER BY m.digest
    LIMIT ?
"""


class SqliteDiscovery:
    """The DiscoveryStore over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_tags(self, repository: RepositoryName, page: PageRequest) -> Page[str]:
        """Read one page of tags."""
        rows = self._database.list(TAGS, (str(repository), page.last, page.limit + 1))
        if not rows and self._database.find(_REPOSITORY, (str(repository),)) is None:
            raise name_unknown(repository)
        return cut([name for (name,) in rows], page)

    async def list_repositories(self, page: PageRequest) -> Page[str]:
        """Read one page of names."""
        rows = self._database.list(REPOSITORIES, (page.last, page.limit + 1))
        return cut([name for (name,) in rows], page)

    async def list_referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_type: str | None,
        page: PageRequest,
        max_bytes: int,
    ) -> Page[Referrer]:
        """Read one page of referrers, row by row until there are enough bytes."""
        kinds = (artifact_type, artifact_type)
        parameters = (str(repository), str(subject), *kinds, page.last, page.limit + 1)
        found = ReferrersPage(page, max_bytes)
        for row in self._database.each(REFERRERS, parameters):
            if not found.takes(row):
                break
        return found.finished()
