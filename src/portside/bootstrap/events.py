"""The background tasks of events: forget old ones, and record that files were read again."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from portside.bootstrap.clock import now
from portside.bootstrap.stores import Stores
from portside.config import Settings
from portside.operations.events import trim_events
from portside.spec.errors import ReadOnly, RegistryError
from portside.stores.actors import REGISTRY
from portside.stores.events import EventAction, NewEvent

log = logging.getLogger(__name__)

TRIM_INTERVAL = 600
"""Seconds between two looks for events that are old enough to be forgotten."""

RELOADS_INTERVAL = 5
"""Seconds after which a file that was read again is recorded."""

REST = 4
"""How many times as long as it works the task rests beside requests."""


async def forget_events(settings: Settings, stores: Stores) -> None:
    """Forget old events at intervals, until cancelled; errors are logged.

    The process that has the lease does it; another one takes over two intervals after its end.
    """
    holder = uuid4().hex
    while True:
        await asyncio.sleep(TRIM_INTERVAL * random.uniform(0.5, 1))  # noqa: S311
        try:
            if (await stores.metadata.registry_state()).read_only:
                continue
            if await stores.metadata.take_lease("events", holder, seconds=2 * TRIM_INTERVAL):
                until = now() - settings.keep_events * 1_000_000
                await trim_events(stores.metadata, until, step=_step)
        except RegistryError as error:
            log.warning("cannot forget old events: %s", error)
        except Exception:
            # The next attempt may succeed; without one, events would be kept for ever.
            log.exception("forgetting old events failed")


@asynccontextmanager
async def _step() -> AsyncIterator[None]:
    began = time.monotonic()
    yield
    await asyncio.sleep(REST * (time.monotonic() - began))


class Reloads:
    """The files of rules that this process has read, and the digests of their texts."""

    def __init__(self) -> None:
        self._read: dict[str, str] = {}
        self._recorded: dict[str, str] = {}

    def note(self, path: str, digest: str) -> None:
        """Note that a file is in use as it was read."""
        self._read[path] = digest

    async def record(self, stores: Stores) -> None:
        """Record each file that differs from what was recorded of it last, by whatever process."""
        for path, digest in list(self._read.items()):
            if self._recorded.get(path) != digest:
                event = NewEvent(EventAction.RULES_RELOADED, reference=path, digest=digest)
                await stores.metadata.record_event(event, REGISTRY, once=True)
                self._recorded[path] = digest


async def record_reloads(reloads: Reloads, stores: Stores) -> None:
    """Record at intervals which files were read again, until cancelled; errors are logged."""
    while True:
        try:
            await reloads.record(stores)
        except ReadOnly as error:
            log.debug("cannot record that a file was read again: %s", error)
        except RegistryError as error:
            log.warning("cannot record that a file was read again: %s", error)
        except Exception:
            log.exception("recording that a file was read again failed")
        await asyncio.sleep(RELOADS_INTERVAL)
