"""The background tasks that apply the rules of retention, and store what these need to know."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from uuid import uuid4

from portside.bootstrap.clock import now
from portside.bootstrap.stores import Stores
from portside.config import Settings
from portside.operations.last_pulls import STORE_INTERVAL, STORED_WITHIN, LastPulls
from portside.operations.retain import Retain
from portside.spec.errors import RegistryError
from portside.spec.rules import Rules
from portside.stores.actors import background_actor
from portside.telemetry.tasks import TaskCounts

log = logging.getLogger(__name__)

LOOK_INTERVAL = 60
"""Seconds after which a mistake in the rules file is in the log, even if nothing is pushed."""

RETENTION = background_actor("retention")
"""Who deletes by the rules."""


async def apply_rules(
    settings: Settings,
    stores: Stores,
    rules: Callable[[], Rules],
    last_pulls: LastPulls,
    counts: TaskCounts,
) -> None:
    """Apply the rules of retention at intervals, until cancelled; errors are logged.

    The process that has the lease does it; another one takes over two intervals after its end.
    """
    holder = uuid4().hex
    interval = settings.retention_interval
    remaining = interval * random.uniform(0.5, 1)  # noqa: S311
    while True:
        pause = min(remaining, LOOK_INTERVAL)
        await asyncio.sleep(pause)
        remaining -= pause
        current = rules()
        if remaining > 0:
            continue
        remaining = interval * random.uniform(0.5, 1)  # noqa: S311
        if not current.delete:
            continue
        try:
            if (await stores.metadata.registry_state()).read_only:
                continue
            if await stores.metadata.take_lease("retention", holder, seconds=2 * interval):
                begun = now()
                if current.heed_pulls:
                    # Other processes have stored by then what was pulled before.
                    await asyncio.sleep(STORED_WITHIN)
                # What cannot be stored counts as well, so nothing is deleted then.
                await last_pulls.store()
                await _apply(stores, current, counts, begun)
        except RegistryError as error:
            counts.retentions.failed += 1
            log.warning("cannot apply the rules of retention: %s", error)
        except Exception:
            counts.retentions.failed += 1
            # The next attempt may succeed; without one, nothing would ever be deleted.
            log.exception("applying the rules of retention failed")


async def _apply(stores: Stores, rules: Rules, counts: TaskCounts, begun: int) -> None:
    """Delete what was due when a round began."""
    retain = Retain(stores.metadata, clock=lambda: begun, by=RETENTION)
    async for plan in retain.plan_each(rules.of):
        deleted = await retain.carry_out(plan)
        counts.retention_tags += len(deleted.tags)
        counts.retention_manifests += len(deleted.manifests)
        if deleted.tags or deleted.manifests:
            log.info(
                "retention deleted %d tags and %d manifests of %s",
                len(deleted.tags),
                len(deleted.manifests),
                plan.repository,
            )
    counts.retentions.end(time.time())


async def store_pulls(last_pulls: LastPulls) -> None:
    """Store at intervals when manifests were pulled, and once more when cancelled."""
    try:
        while True:
            await asyncio.sleep(STORE_INTERVAL * random.uniform(0.5, 1))  # noqa: S311
            await _store(last_pulls)
    except asyncio.CancelledError:
        await _store(last_pulls)
        raise


async def _store(last_pulls: LastPulls) -> None:
    try:
        await last_pulls.store()
    except RegistryError as error:
        # They are stored with the next ones; a registry that is read-only has none to delete.
        log.debug("cannot store the times of pulls: %s", error)
    except Exception:
        log.exception("storing the times of pulls failed")
