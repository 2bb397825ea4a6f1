"""Readiness: whether the stores can do their part now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from portside.spec.errors import Unavailable
from portside.stores.interfaces import BlobStore, MetadataStore

PROBE_TIMEOUT = 5.0
"""Seconds after which a database or a blob store that does not answer counts as broken."""


class Readiness:
    """Tries a pair of stores."""

    def __init__(self, metadata: MetadataStore, blobs: BlobStore) -> None:
        self._metadata = metadata
        self._blobs = blobs

    async def check(self) -> None:
        """Try both stores; raises Unavailable, with one line about those that fail.

        A store that is full raises it too: the question is whether requests should be sent here.
        """
        troubles = await asyncio.gather(
            _trouble("the database", self._metadata.probe),
            _trouble("the blob store", self._blobs.probe),
        )
        if any(troubles):
            raise Unavailable("; ".join(filter(None, troubles)))


async def _trouble(store: str, probe: Callable[[], Awaitable[None]]) -> str:
    """Return what is wrong with a store, or nothing."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await probe()
    except TimeoutError:
        return f"{store} has not answered for {PROBE_TIMEOUT:g} s"
    except Unavailable as error:
        return "; ".join(error.details)
    except OSError as error:
        return f"trying {store}: {error}"
    return ""
