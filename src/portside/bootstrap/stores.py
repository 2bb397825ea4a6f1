"""The stores of one process: a database and what keeps the blobs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

from portside.bootstrap.clock import now
from portside.bootstrap.engines import Engine, open_engine
from portside.bootstrap.marks import mark, require_own
from portside.bootstrap.permissions import require_permission
from portside.config import Settings, SettingsInvalid
from portside.spec.errors import Unavailable
from portside.stores.access import AccessStore
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.blobs.objects.urls import StorageUrlInvalid
from portside.stores.blobs.opening import Limits, open_blobs
from portside.stores.metadata.store import Metadata
from portside.stores.repairing import RepairableBlobs
from portside.stores.reserve import HeldReserve


class Stores(NamedTuple):
    """The stores of one process; nothing is opened before it is needed.

    `are_apart` says that the settings could pair a database with the blobs of another one.
    """

    engine: Engine
    blobs: RepairableBlobs
    are_apart: bool

    @property
    def metadata(self) -> Metadata:
        """All that is known of the content."""
        return self.engine.metadata

    @property
    def access(self) -> AccessStore:
        """All that is known of identities."""
        return self.engine.access

    async def require_database(self) -> None:
        """Refuse blobs without their database: all of them would be orphaned.

        Raises Unavailable and StorageFull.
        """
        if not await self.engine.database.is_made() and await self.blobs.holds_blobs():
            lost = (
                f"{self.engine.name} is missing or empty, and {self.blobs.location} holds blobs;"
                f" {self.engine.remedy}, or move the blobs away to begin with an empty registry"
            )
            raise Unavailable(lost)

    async def require_storage(self) -> None:
        """Refuse blobs of another registry, and a store that does not answer.

        Raises Unavailable.
        """
        if self.are_apart:
            await require_own(self.metadata, self.blobs)

    async def try_blobs(self) -> None:
        """Write to the blob store, which has to be this registry's.

        Raises Unavailable and StorageFull.
        """
        await self.require_storage()
        await self.blobs.probe()

    async def create(self) -> None:
        """Create what is missing.

        Raises Unavailable, StorageFull, SchemaTooNew and SchemaTooOld.
        """
        await self.require_database()
        self.blobs.create()
        await self.engine.prepare()
        if self.are_apart:
            await mark(self.metadata, self.blobs)

    def close(self) -> None:
        """Finish the work that was started, and release what is not bound to an event loop."""
        self.engine.database.close()
        self.blobs.close()


def open_stores(settings: Settings, *, read_only: bool = False) -> Stores:
    """Open the stores of this process; nothing is read or written yet.

    Raises SettingsInvalid.
    """
    engine = open_engine(settings, read_only=read_only)
    are_apart = bool(settings.database or settings.storage)
    return Stores(engine, _open_blobs(settings), are_apart)


def open_storage(settings: Settings, url: str, root: Path) -> DiskBlobs | ObjectBlobs:
    """Open the blobs at a URL, or in a directory if that is empty.

    Raises StorageUrlInvalid.
    """
    return open_blobs(
        url,
        root=root,
        environment=os.environ,
        allow_http=settings.storage_http,
        limits=Limits(
            hold_timeout=settings.upload_hold_timeout,
            reserve=settings.reserve_bytes,
            upload_memory=settings.upload_memory,
        ),
        clock=now,
    )


def _open_blobs(settings: Settings) -> DiskBlobs | ObjectBlobs:
    try:
        return open_storage(settings, settings.storage, settings.root)
    except StorageUrlInvalid as error:
        raise SettingsInvalid(f"storage: {error}") from error


def database_reserve(settings: Settings) -> HeldReserve | None:
    """Return the reserve of the database's disk; None if that is not a disk of this machine."""
    return None if settings.database else HeldReserve(settings.root, settings.reserve_bytes)


def space_check(settings: Settings) -> Callable[[], None] | None:
    """Return what raises StorageFull where one more row would touch the reserve.

    None for a database that is not on a disk of this machine.
    """
    reserve = database_reserve(settings)
    return reserve.require if reserve is not None else None


@contextmanager
def opened_stores(settings: Settings, *, read_only: bool = False) -> Iterator[Stores]:
    """Open the stores for the length of a block outside of any event loop.

    With `read_only`, nothing in them can change.
    """
    stores = open_stores(settings, read_only=read_only)
    try:
        yield stores
    finally:
        stores.close()


@asynccontextmanager
async def connected_stores(settings: Settings, *, read_only: bool = False) -> AsyncIterator[Stores]:
    """Open the stores for the length of a block within an event loop; see opened_stores.

    Raises Unavailable if this process may not use their files.
    """
    require_permission(settings, read_only=read_only)
    with opened_stores(settings, read_only=read_only) as stores:
        try:
            yield stores
        finally:
            await stores.engine.database.disconnect()
