"""The background tasks that free space, made from the settings."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from uuid import uuid4

from portside.bootstrap.clock import now
from portside.bootstrap.stores import Stores
from portside.config import Settings
from portside.operations.collect import (
    COLLECTOR,
    ORPHANED_AGE,
    Collector,
    Step,
    collect_orphaned,
    expire_uploads,
)
from portside.operations.grace import GracePeriod
from portside.spec.errors import RegistryError
from portside.stores.actors import Actor
from portside.telemetry.tasks import TaskCounts

DAY = 24 * 3600
"""Seconds between two looks for what crashes left."""

REST = 4
"""How many times as long as it works a collector rests that runs beside requests."""

log = logging.getLogger(__name__)


async def remove_expired_uploads(settings: Settings, stores: Stores, counts: TaskCounts) -> None:
    """Remove expired upload sessions at intervals, until cancelled; errors are logged."""
    while True:
        # Spread over the interval, so that workers that start together do not run together.
        await asyncio.sleep(settings.upload_sweep_interval * random.uniform(0.5, 1))  # noqa: S311
        try:
            before = now() - settings.upload_expiry * 1_000_000
            removed = await expire_uploads(stores.metadata, stores.blobs, before)
        except RegistryError as error:
            log.warning("cannot remove expired uploads: %s", error)
        except Exception:
            # The next attempt may succeed; without one, uploads would never expire.
            log.exception("removing expired uploads failed")
        else:
            counts.expired_uploads += removed
            if removed:
                log.info("%d upload sessions expired", removed)


class _Lease:
    """The lease of one process, which works a part of the time, so that requests get the most."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._leases = stores.metadata
        self._interval = settings.gc_interval
        self._holder = uuid4().hex
        self._taken = 0.0

    async def take(self) -> bool:
        """Take or renew the lease; return whether this process has it."""
        self._taken = time.monotonic()
        return await self._leases.take_lease("collector", self._holder, seconds=2 * self._interval)

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        """Rest after a step, and renew the lease before it is over."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        await asyncio.sleep(REST * (ended - began))
        if ended - self._taken >= self._interval:
            await self.take()


async def collect_garbage(settings: Settings, stores: Stores, counts: TaskCounts) -> None:
    """Collect garbage at intervals, until cancelled; errors are logged.

    The process that has the lease works, and keeps it for as long as it lives; another one takes
    over two intervals after its end.
    """
    lease = _Lease(settings, stores)
    collector = make_collector(settings, stores, grace_period(settings), step=lease.step)
    while True:
        await asyncio.sleep(settings.gc_interval * random.uniform(0.5, 1))  # noqa: S311
        try:
            if (await stores.metadata.registry_state()).read_only:
                continue
            if not await lease.take():
                continue
            collected = await collector.collect()
            await _collect_orphaned(stores)
        except RegistryError as error:
            counts.collections.failed += 1
            log.warning("cannot collect garbage: %s", error)
        except Exception:
            counts.collections.failed += 1
            # The next attempt may succeed; without one, no space would ever be freed.
            log.exception("collecting garbage failed")
        else:
            counts.collections.end(time.time())
            counts.collected_manifests += collected.manifests
            counts.collected_blobs += collected.blobs
            counts.collected_bytes += collected.bytes
            if collected:
                log.info(
                    "collected %d manifests and %d links; %d blobs with %d bytes were removed",
                    collected.manifests,
                    collected.links,
                    collected.blobs,
                    collected.bytes,
                )


async def _collect_orphaned(stores: Stores) -> None:
    """Remove what crashes left, which all processes together look for once a day."""
    if await stores.metadata.take_lease("orphaned", uuid4().hex, seconds=DAY):
        before = now() - ORPHANED_AGE * 1_000_000
        collected = await collect_orphaned(stores.metadata, stores.blobs, before)
        if collected.bytes:
            log.info("%d bytes of crashed requests were removed", collected.bytes)


def grace_period(settings: Settings, seconds: int | None = None) -> GracePeriod:
    """Return the grace period of the settings, or one of so many seconds.

    One of 0 seconds is over at once, whatever clients were told.
    """
    told = settings.gc_grace * 1_000_000
    if seconds is None:
        return GracePeriod(told, now)
    return GracePeriod(seconds * 1_000_000, now, told=told if seconds else 0)


def make_collector(
    settings: Settings,
    stores: Stores,
    grace: GracePeriod,
    *,
    step: Step = nullcontext,
    by: Actor = COLLECTOR,
) -> Collector:
    """Return the garbage collector."""
    return Collector(
        stores.metadata,
        stores.blobs,
        grace=grace,
        keep_deleted=settings.keep_deleted * 1_000_000,
        tag_history=settings.tag_history * 1_000_000,
        step=step,
        by=by,
    )
