"""Prepare: make the stores ready, once, before any process serves from them."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection

from portside.auth.tokens.keys import load_keys
from portside.bootstrap.application import make_rules
from portside.bootstrap.clock import now
from portside.bootstrap.stores import Stores, connected_stores
from portside.config import Settings
from portside.spec.errors import StorageFull
from portside.stores.blobs.opening import is_remote

log = logging.getLogger(__name__)


def prepare(settings: Settings) -> bool:
    """Make what is missing, and try to read and write.

    Gives whether the registry will be closed to those without credentials.

    Raises Unavailable, StorageFull, SchemaTooNew, SchemaTooOld, FileInvalid and SettingsInvalid.
    """
    if not is_remote(settings.storage):
        return _prepare_here(settings)
    # The threads of an object store's client do not survive the fork by which workers are made:
    # this process, whose children they are, must not have used one.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, fork, initializer=_end_with_parent) as child:
        return child.submit(_prepare_here, settings).result()


def _end_with_parent() -> None:
    """Let this process end when the one that made it does, whatever it is waiting for."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _prepare_here(settings: Settings) -> bool:
    return asyncio.run(_prepare(settings))


async def _prepare(settings: Settings) -> bool:
    async with connected_stores(settings) as stores:
        await stores.create()
        if not settings.open:
            make_rules(settings)
        await _probe(stores)
        return not settings.open and await _prepare_access(settings, stores)


async def _probe(stores: Stores) -> None:
    await stores.metadata.probe()
    try:
        await stores.blobs.probe()
    except StorageFull as error:
        # A registry that is full can still be read, and deleted from.
        log.warning("%s", error)


async def _prepare_access(settings: Settings, stores: Stores) -> bool:
    """Make the first signing key, so that workers have one to share."""
    await load_keys(stores.access, now())
    state = await stores.access.access_state()
    return settings.requires_credentials or state.closed
