"""The hold: while a backup runs, the garbage collector leaves the bytes of blobs alone.

It is a lease, so that a backup that is killed holds nothing up for long. Nothing relies on it: a
client can delete a blob, too, and what is missing at the end of a backup is why it begins anew. But
with a short grace period, a backup of many blobs would hardly come to an end without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from portside.spec.errors import RegistryError
from portside.stores.interfaces import LeaseStore

_LEASE = "backup"
_LIFE = 60
_RENEWED_AFTER = 15
"""Seconds that the lease holds, and after which it is renewed."""

_LONGEST = 2 * _LIFE
"""Seconds that a lease may hold for this clock: that of the backup's machine may be ahead, but what
a clock of next year has taken must not stop the collector until then."""


async def is_held(leases: LeaseStore) -> bool:
    """Whether a backup is running, or was killed a moment ago."""
    return await leases.is_leased(_LEASE, seconds=_LONGEST)


@asynccontextmanager
async def holding(leases: LeaseStore) -> AsyncIterator[None]:
    """Hold the collector up for the length of a block; one backup runs at a time.

    A full disk, on which no lease can be taken, does not prevent a backup.
    """
    await _take(leases)
    renewing = asyncio.create_task(_keep_renewing(leases))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        with suppress(RegistryError):
            await leases.release_lease(_LEASE, _LEASE)


async def _keep_renewing(leases: LeaseStore) -> None:
    while True:
        await asyncio.sleep(_RENEWED_AFTER)
        await _take(leases)


async def _take(leases: LeaseStore) -> None:
    # The holder is always the same: the lease of a backup that was killed can be taken over.
    with suppress(RegistryError):
        await leases.take_lease(_LEASE, _LEASE, seconds=_LIFE)
