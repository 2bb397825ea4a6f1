"""Lists in SQLite, each by keyset on an index."""

from __future__ import annotations

import msgspec

from portside.spec.digests import Digest
from portside.spec.errors import NameUnknown
from portside.spec.names import RepositoryName
from portside.spec.pagination import Page, PageRequest, cut
from portside.stores.interfaces import Referrer
from portside.stores.metadata.database import Database

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

INDEX_BYTES = 100
"""Bytes of an index beside its descriptors."""

DESCRIPTOR_BYTES = 80
"""Bytes of a descriptor beside its texts: the names of its fields, and a size."""


class SqliteDiscovery:
    """The DiscoveryStore over SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_tags(self, repository: RepositoryName, page: PageRequest) -> Page[str]:
        """Read one page of tags."""
        rows = self._database.list(TAGS, (str(repository), page.last, page.limit + 1))
        if not rows and self._database.find(_REPOSITORY, (str(repository),)) is None:
            raise NameUnknown(f"nothing has been pushed to {repository}")
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
        found: list[Referrer] = []
        room = max_bytes - INDEX_BYTES
        for row in self._database.each(REFERRERS, parameters):
            media_type, digest, size, kind, annotations = row
            named = msgspec.json.encode(kind) if kind else b""
            texts = len(media_type) + len(digest) + len(named) + len(annotations)
            room -= DESCRIPTOR_BYTES + texts
            if found and room < 0:
                return Page(found[: page.limit], more=True)
            found.append(Referrer(media_type, Digest(digest), size, kind, annotations))
        return cut(found, page)
