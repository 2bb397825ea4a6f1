"""Discover: a list of repositories holds what may be shown, and every page of it does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.operations import discover
from portside.operations.discover import Discover
from portside.spec.manifests import parse_manifest
from portside.spec.names import RepositoryName
from portside.spec.pagination import PageRequest
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Metadata
from support.content import index

NAMES = [f"{team}/{number}" for team in "abc" for number in range(5)]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metadata]:
    """Fill a store with repositories."""
    folder: Path = tmp_path_factory.mktemp("discover")
    database = SqliteDatabase(folder, clock=lambda: 1)
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
    yield store
    database.close()


@pytest.fixture(autouse=True, scope="module")
def small_batches() -> Iterator[None]:
    """Look through three names at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discover, "BATCH", 3)
        yield


@given(
    shown=st.frozensets(st.sampled_from(NAMES)),
    limit=st.integers(1, 20),
    last=st.sampled_from([*NAMES, "", "b", "b/", "z"]),
)
async def test_pages(metadata: Metadata, shown: frozenset[str], limit: int, last: str) -> None:
    """A page holds the next names that may be shown, and says whether there are more of these."""
    page = await Discover(metadata, max_referrers_bytes=1).repositories(
        PageRequest(limit, last), shown.__contains__
    )
    expected = [name for name in NAMES if name in shown and name > last]
    assert page.items == expected[:limit]
    assert page.more is (len(expected) > limit)


@given(shown=st.frozensets(st.sampled_from(NAMES)), limit=st.integers(1, 5))
async def test_all_pages(metadata: Metadata, shown: frozenset[str], limit: int) -> None:
    """Page after page the list is whole, without the others' names."""
    found: list[str] = []
    while True:
        request = PageRequest(limit, found[-1] if found else "")
        page = await Discover(metadata, max_referrers_bytes=1).repositories(
            request, shown.__contains__
        )
        found += page.items
        if not page.more:
            break
    assert found == sorted(shown)


async def test_open_registry(metadata: Metadata) -> None:
    """Where everybody may see everything, nothing is left out."""
    page = await Discover(metadata, max_referrers_bytes=1).repositories(PageRequest(100), None)
    assert (page.items, page.more) == (NAMES, False)


async def test_nothing_asked_for(metadata: Metadata) -> None:
    """A page of no names tells nothing, not even whether there are any."""
    pages = [
        await Discover(metadata, max_referrers_bytes=1).repositories(PageRequest(0), shows)
        for shows in (None, lambda _: False, lambda _: True)
    ]
    assert all((list(page.items), page.more) == ([], False) for page in pages)
