"""Lists, each by keyset on an index."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.spec.pagination import Page, PageRequest, cut
from portside.spec.patterns import EVERY_NAME, NameRange
from portside.stores.interfaces import Referrer
from portside.stores.metadata.engine import Noun
from portside.stores.metadata.refusals import name_unknown

# PostgreSQL does not know that a join with one name has one repository: it would read and sort all
# rows of it for each page.
TAGS = """
    SELECT t.name
    FROM tags t
    WHERE t.repository = (SELECT r.id FROM repositories r WHERE r.name = $1) AND t.name > $2
        AND (t.locks & 4) = 0
    ORDER BY t.name
    LIMIT $3
"""
_REPOSITORY = "SELECT 1 FROM repositories WHERE name = $1 AND deleted IS NULL"
REPOSITORIES = """
    SELECT r.name
    FROM repositories r
    WHERE r.name >= $1 AND r.name < $2 AND r.manifest_count > 0 AND (r.locks & 4) = 0
    ORDER BY r.name
    LIMIT $3
"""
NAMED = """
    SELECT r.name
    FROM repositories r
    WHERE r.name = ANY ($1) AND r.manifest_count > 0 AND (r.locks & 4) = 0
    ORDER BY r.name
    LIMIT $2
"""
REFERRERS = """
    SELECT m.media_type, m.digest, m.size, m.artifact_type, m.annotations
    FROM manifests m
    WHERE m.repository = (SELECT r.id FROM repositories r WHERE r.name = $1) AND m.subject = $2
        AND (CAST($3 AS TEXT) IS NULL OR m.artifact_type = $3) AND m.digest > $4
        AND m.deleted IS NULL AND (m.locks & 4) = 0
    ORDER BY m.digest
    LIMIT $5
"""

INDEX_BYTES = 100
"""Bytes of an index beside its descriptors."""

DESCRIPTOR_BYTES = 80
"""Bytes of a descriptor beside its texts: the names of its fields, and a size."""


class Discovery(Noun):
    """The DiscoveryStore."""

    async def list_tags(self, repository: RepositoryName, page: PageRequest) -> Page[str]:
        """Read one page of tags."""
        start = (before_nul(page.last), page.limit + 1)
        rows = await self._database.find_all(TAGS, str(repository), *start)
        if not rows and await self._database.find(_REPOSITORY, str(repository)) is None:
            raise name_unknown(repository)
        return cut([name for (name,) in rows], page)

    async def list_repositories(
        self, page: PageRequest, names: Sequence[NameRange] = EVERY_NAME
    ) -> Page[str]:
        """Read one range after the other, and single names together, until there are enough."""
        last = before_nul(page.last)
        found: list[str] = []
        for sql, parameters in _reads(names, last):
            rows = await self._database.find_all(sql, *parameters, page.limit + 1 - len(found))
            found += [name for (name,) in rows]
            if len(found) > page.limit:
                break
        return cut(found, page)

    async def list_referrers(
        self,
        repository: RepositoryName,
        subject: Digest,
        artifact_type: str | None,
        page: PageRequest,
        max_bytes: int,
    ) -> Page[Referrer]:
        """Read one page of referrers, a few rows at a time until there are enough bytes."""
        found = _ReferrersPage(page, max_bytes)
        if artifact_type is not None and not self._database.can_store(artifact_type):
            return found.finished()
        start = (before_nul(page.last), page.limit + 1)
        parameters = (str(repository), str(subject), artifact_type, *start)
        async with self._database.stream(REFERRERS, *parameters) as rows:
            async for row in rows:
                if not found.takes(row):
                    break
        return found.finished()


def _reads(names: Sequence[NameRange], last: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Return the statements that read the names of some ranges that are greater than `last`."""
    behind = names[bisect_right(names, last, key=attrgetter("stop")) :]
    for is_single, parts in groupby(behind, key=attrgetter("is_single")):
        if is_single:
            yield NAMED, ([part.start for part in parts if part.start > last],)
        else:
            for part in parts:
                yield REPOSITORIES, part.after(last)


def before_nul(text: str) -> str:
    """Return a text that PostgreSQL can compare, and that the same names are greater than.

    No stored name has a NUL: one that is equal up to it and longer has something greater there.
    """
    return text.partition("\0")[0]


class _ReferrersPage:
    """A page limited in bytes, to which rows are added until one does not fit."""

    def __init__(self, request: PageRequest, max_bytes: int) -> None:
        self._request = request
        self._room = max_bytes - INDEX_BYTES
        self._found: list[Referrer] = []
        self._is_full = False

    def takes(self, row: Any) -> bool:
        """Add a row if it fits, which the first one always does; return whether it did."""
        media_type, digest, size, kind, annotations = row
        named = msgspec.json.encode(kind) if kind else b""
        texts = len(media_type) + len(digest) + len(named) + len(annotations)
        self._room -= DESCRIPTOR_BYTES + texts
        if self._found and self._room < 0:
            self._is_full = True
            return False
        self._found.append(Referrer(media_type, Digest(digest), size, kind, annotations))
        return True

    def finished(self) -> Page[Referrer]:
        """Return the page; a row above the limit shows that others follow."""
        if self._is_full:
            return Page(self._found[: self._request.limit], more=True)
        return cut(self._found, self._request)
