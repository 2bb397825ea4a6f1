"""Discover: a list of repositories holds what may be shown, and every page of it does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.operations.discover import Discover
from portside.spec.manifests import parse_manifest
from portside.spec.names import RepositoryName
from portside.spec.pagination import PageRequest
from portside.spec.patterns import EVERY_NAME, NameRange, RepositoryPattern
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Metadata
from support.content import index

NAMES = [f"{team}/{number}" for team in "abc" for number in range(5)]


class CountingDatabase(SqliteDatabase):
    """A database that counts the rows that lists read, by statement."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, clock=lambda: 1)
        self.rows_read: list[int] = []

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        """Count, and return the rows."""
        rows = await super().find_all(sql, *parameters)
        self.rows_read.append(len(rows))
        return rows


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountingDatabase]:
    """Open a database."""
    opened = CountingDatabase(tmp_path_factory.mktemp("discover"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def metadata(database: CountingDatabase) -> Metadata:
    """Fill a store with repositories."""
    store = Metadata(database)

    async def fill() -> None:
        await database.migrate()
        content = index()
        manifest = parse_manifest(content.manifest, content_type=content.media_type)
        for name in NAMES:
            await store.put_manifest(
                RepositoryName(name), manifest, tags=[], condition=None, check_children=False
            )

    asyncio.run(fill())
    return store


def discover(metadata: Metadata) -> Discover:
    """Return what lists the names of a store."""
    return Discover(metadata, max_referrers_bytes=1)


patterns = st.sampled_from([*NAMES, "*", "a/*", "b/*", "c/1*", "none/*", "none", "b"])


def names_of(shown: frozenset[str]) -> list[NameRange]:
    """Return the ranges of patterns; one within another is left out."""
    ranges: list[NameRange] = []
    for part in sorted(RepositoryPattern.parse(pattern).names for pattern in shown):
        if not ranges or part.stop > ranges[-1].stop:
            ranges.append(part)
    return ranges


def expected_of(shown: frozenset[str], last: str) -> list[str]:
    """Look at every name."""
    wanted = [RepositoryPattern.parse(pattern) for pattern in shown]
    return [
        name for name in NAMES if name > last and any(pattern.matches(name) for pattern in wanted)
    ]


@given(
    shown=st.frozensets(patterns),
    limit=st.integers(0, 20),
    last=st.sampled_from([*NAMES, "", "b", "b/", "z", "A", "\U0001f600", "b/2\0"]),
)
async def test_pages(metadata: Metadata, shown: frozenset[str], limit: int, last: str) -> None:
    """A page holds the next names that are shown, and says whether there are more of these."""
    page = await discover(metadata).repositories(PageRequest(limit, last), names_of(shown))
    expected = expected_of(shown, last)
    assert page.items == expected[:limit]
    assert page.more is (limit > 0 and len(expected) > limit)


@given(shown=st.frozensets(patterns), limit=st.integers(1, 5))
async def test_all_pages(metadata: Metadata, shown: frozenset[str], limit: int) -> None:
    """Page after page the list is whole, without the others' names."""
    found: list[str] = []
    while True:
        request = PageRequest(limit, found[-1] if found else "")
        page = await discover(metadata).repositories(request, names_of(shown))
        found += page.items
        if not page.more:
            break
    assert found == expected_of(shown, "")


async def test_hidden_names_are_not_read(metadata: Metadata, database: CountingDatabase) -> None:
    """A page costs what it returns: one statement for single names, and one for each prefix."""
    database.rows_read.clear()
    shown = names_of(frozenset({"a/1", "a/3", "b/*", "c/2", "none"}))
    page = await discover(metadata).repositories(PageRequest(100), shown)
    assert page.items == ["a/1", "a/3", "b/0", "b/1", "b/2", "b/3", "b/4", "c/2"]
    assert database.rows_read == [2, 5, 1]


async def test_open_registry(metadata: Metadata) -> None:
    """Where everybody may see everything, nothing is left out."""
    page = await discover(metadata).repositories(PageRequest(100), EVERY_NAME)
    assert (page.items, page.more) == (NAMES, False)
