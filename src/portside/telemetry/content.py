"""How much content there is, whether the stores work, what is free, and what waits for webhooks.

One worker reads it: that which holds a lock in the directory of the metrics, and another one after
its end.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from portside.operations.readiness import Readiness
from portside.operations.webhooks.dispatch import DeliveryStore
from portside.spec.errors import NotReady, RegistryError
from portside.stores.reserve import free_bytes
from portside.stores.usage import ContentCounts, UsageStore
from portside.telemetry import catalogue
from portside.telemetry.tallies import Sample

INTERVAL = 15.0
"""Seconds between two looks at the stores: Prometheus scrapes about as often."""

TURN = 1.0
"""Seconds between two tries to get the lock."""

COUNTED = 60.0
"""Seconds between two counts of the content, at least."""

PAUSE = 0.1
"""Seconds after each page that is counted, which takes about one hundredth of that."""

FILE = "reading"

log = logging.getLogger(__name__)


class Watch:
    """Reads what is the same in all workers; `disks` are the directories of the stores by name.

    `write` is given the samples.
    """

    def __init__(
        self,
        usage: UsageStore,
        readiness: Readiness,
        *,
        webhooks: DeliveryStore,
        disks: Mapping[str, Path],
        reserve: int,
        write: Callable[[Iterable[Sample]], None],
    ) -> None:
        self._usage = usage
        self._webhooks = webhooks
        self._readiness = readiness
        self._disks = disks
        self._reserve = reserve
        self._write = write

    async def run(self, files: Path) -> None:
        """Look at intervals, until cancelled, while this worker holds the lock."""
        descriptor = os.open(files / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(descriptor):  # noqa: ASYNC110  # no event tells of another process
                await asyncio.sleep(TURN)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_repeat(self._look, INTERVAL))
                tasks.create_task(_repeat(self._count, COUNTED))
        finally:
            os.close(descriptor)

    async def _look(self) -> None:
        with suppress(NotReady):
            await self._readiness.check_writes()
        self._write(self._looked())
        self._write(await self._waiting())

    async def _waiting(self) -> list[Sample]:
        """Read what waits for webhooks."""
        samples = []
        last = await self._webhooks.last_event()
        for state in await self._webhooks.list_webhooks():
            is_active = not state.paused and state.left_at is None
            since = await self._webhooks.oldest_delivery(state.name) if is_active else None
            age = 0.0 if since is None else max(0.0, time.time() - since / 1_000_000)
            values = {
                catalogue.DELIVERIES_WAITING: state.waiting,
                catalogue.DELIVERIES_DEAD: state.dead,
                catalogue.OLDEST_DELIVERY: age,
                catalogue.EVENTS_WAITING: max(0, last - state.position),
            }
            samples += [Sample(metric, value, (state.name,)) for metric, value in values.items()]
        return samples

    def _looked(self) -> Iterator[Sample]:
        for name, works in self._readiness.results()._asdict().items():
            yield Sample(catalogue.READY, works, tuple(name.split("_")))
        for store, directory in self._disks.items():
            with suppress(OSError):
                yield Sample(catalogue.DISK_FREE, free_bytes(directory), (store,))
        yield Sample(catalogue.DISK_RESERVE, self._reserve)

    async def _count(self) -> None:
        counts = await self._usage.count_content(partial(asyncio.sleep, PAUSE))
        self._write(_counted(counts))


def _counted(counts: ContentCounts) -> Iterator[Sample]:
    yield Sample(catalogue.REPOSITORIES, counts.repositories)
    yield Sample(catalogue.MANIFESTS, counts.manifests)
    yield Sample(catalogue.TAGS, counts.tags)
    yield Sample(catalogue.MANIFEST_BYTES, counts.manifest_bytes)
    yield Sample(catalogue.BLOBS, counts.blobs)
    yield Sample(catalogue.BLOB_BYTES, counts.blob_bytes)
    yield Sample(catalogue.UPLOADS_OPEN, counts.uploads)
    yield Sample(catalogue.COUNTED_AT, time.time())


async def _repeat(look: Callable[[], Awaitable[None]], interval: float) -> None:
    """Look at intervals, until cancelled; what fails is tried again."""
    while True:
        try:
            await look()
        except RegistryError as error:
            # The metrics say so: those of the store, and the time of the last count.
            log.debug("cannot read what the metrics show: %s", error)
        except Exception:
            log.exception("reading what the metrics show failed")
        await asyncio.sleep(interval)


def _try_lock(descriptor: int) -> bool:
    """Whether this process has the lock now, for as long as it lives."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
