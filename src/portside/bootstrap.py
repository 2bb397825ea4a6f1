"""From settings to a running application: the only place that knows every concrete class."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import NamedTuple

from starlette.types import ASGIApp

from portside.api.access_log import AccessLog
from portside.api.app import RegistryApp
from portside.api.operator import operator_app
from portside.api.registry import Limits, Registry
from portside.config import Settings
from portside.operations.collect import expire_uploads
from portside.operations.push import Receiver
from portside.spec.errors import RegistryError
from portside.stores.blobs.local import LocalBlobs
from portside.stores.metadata.database import Database
from portside.stores.metadata.sqlite import SqliteMetadata

log = logging.getLogger(__name__)


def now() -> int:
    """Give the time in microseconds since 1970."""
    return time.time_ns() // 1000


START_PAUSE = 0.02
"""Seconds: longer than the loop runs for the start itself, and too short to be noticed."""


class Stores(NamedTuple):
    """The stores of one process, open."""

    database: Database
    metadata: SqliteMetadata
    blobs: LocalBlobs

    def close(self) -> None:
        """Finish what was begun, and let go of the files."""
        self.database.close()
        self.blobs.close()


def open_stores(settings: Settings) -> Stores:
    """Make the stores of this process; nothing is read or written yet."""
    database = Database(settings.root, clock=now)
    blobs = LocalBlobs(settings.root, hold_timeout=settings.upload_hold_timeout)
    return Stores(database, SqliteMetadata(database), blobs)


@contextmanager
def opened_stores(settings: Settings) -> Iterator[Stores]:
    """Open the stores for the length of a block."""
    stores = open_stores(settings)
    try:
        yield stores
    finally:
        stores.close()


def prepare(settings: Settings) -> None:
    """Make the data directory ready, once, before any process serves from it.

    Raises Unavailable, StorageFull and SchemaTooNew.
    """
    with opened_stores(settings) as stores:
        stores.blobs.create()
        stores.database.create()


def make_app(settings: Settings, *, on_start: Callable[[], object]) -> ASGIApp:
    """Make the application of one worker; `on_start` is called once it serves."""
    stores = open_stores(settings)
    registry = _make_registry(settings, stores)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(settings, stores))
        # The server runs the loop for the start, leaves it, takes up its sockets and its signals,
        # and runs the loop again: this is called then.
        asyncio.get_running_loop().call_later(START_PAUSE, on_start)
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            stores.close()

    app = RegistryApp(registry, elsewhere=operator_app(registry, lifespan=lifespan))
    return AccessLog(app) if settings.access_log else app


def _make_registry(settings: Settings, stores: Stores) -> Registry:
    receiver = Receiver(
        links=stores.metadata,
        uploads=stores.metadata,
        blobs=stores.blobs,
        max_blob_bytes=settings.max_blob_bytes,
        clock=now,
    )
    limits = Limits(
        max_manifest_bytes=settings.max_manifest_bytes,
        max_header_bytes=settings.max_header_bytes,
        max_tags_per_push=settings.max_tags_per_push,
        max_ranges=settings.max_ranges,
        page_limit=settings.page_limit,
        max_referrers_bytes=settings.max_referrers_bytes,
        body_timeout=settings.body_timeout,
    )
    return Registry(
        metadata=stores.metadata,
        blobs=stores.blobs,
        receiver=receiver,
        limits=limits,
        dialect=settings.dialect,
        allow_delete=settings.delete,
        allow_sparse_indexes=settings.sparse_indexes,
    )


async def _sweep(settings: Settings, stores: Stores) -> None:
    """End expired upload sessions for as long as the worker lives."""
    while True:
        # Workers that started together do not look together.
        await asyncio.sleep(settings.upload_sweep_interval * random.uniform(0.5, 1))  # noqa: S311
        before = now() - settings.upload_expiry * 1_000_000
        try:
            gone = await expire_uploads(stores.metadata, stores.blobs, before)
        except RegistryError as error:
            log.warning("looking for expired uploads: %s", error)
        else:
            if gone:
                log.info("%d upload sessions expired", gone)
