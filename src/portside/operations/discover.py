"""Discover: list what is there, as far as the caller may know of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from portside.spec.pagination import Page, PageRequest
from portside.stores.interfaces import DiscoveryStore

BATCH = 1000
"""Names that are looked through at once; others get their turn between two batches."""


async def find_repositories(
    store: DiscoveryStore, page: PageRequest, shows: Callable[[str], bool] | None
) -> Page[str]:
    """List the repositories that `shows` accepts, or all of them if it is None, in ASCII order."""
    if shows is None or page.limit == 0:
        return await store.list_repositories(page)
    found: list[str] = []
    last = page.last
    while True:
        batch = await store.list_repositories(PageRequest(BATCH, last))
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
