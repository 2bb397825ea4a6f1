"""Prepare the stores, once, before the workers start."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection

from portside.auth.registrar import Registrar, RegistrarError
from portside.auth.tokens.keys import load_keys
from portside.bootstrap.application import make_rules
from portside.bootstrap.clock import now
from portside.bootstrap.periods import note_periods
from portside.bootstrap.stores import Stores, connected_stores, database_reserve, space_check
from portside.bootstrap.webhooks import add_webhooks, check_secrets
from portside.config import Settings, SettingsInvalid
from portside.config.rules import watch_rules_file
from portside.spec.errors import StorageFull
from portside.stores.actors import REGISTRY
from portside.stores.blobs.opening import is_remote

log = logging.getLogger(__name__)

ADMIN = "admin"
"""The name of the user that `admin_password` is for."""


def prepare(settings: Settings) -> bool:
    """Create what is missing, try to read and write, and return whether access control is on.

    Raises Unavailable, StorageFull, SchemaTooNew, SchemaTooOld, FileInvalid and SettingsInvalid.
    """
    if not is_remote(settings.storage):
        return _prepare_here(settings)
    # The threads of an object store's client do not survive the fork that starts a worker, so this
    # process, which forks the workers, must not use such a client.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, fork, initializer=_end_with_parent) as child:
        return child.submit(_prepare_here, settings).result()


def _end_with_parent() -> None:
    """Exit when the parent process ends, whatever this process is waiting for."""
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
        reserve = database_reserve(settings)
        if reserve is not None:
            reserve.hold()
        if not settings.open:
            make_rules(settings)
        rules = watch_rules_file(settings.rules)()
        check_secrets(settings, rules)
        await _probe(stores)
        await note_periods(settings, stores)
        await add_webhooks(stores, rules)
        successor = (await stores.metadata.registry_state()).successor
        if successor is not None:
            log.warning(
                "this registry was moved to %s, and only answers pulls; direct clients there",
                successor.place,
            )
        if await stores.metadata.list_undescribed(1):
            log.warning(
                "lists lack the properties of content that an older version received;"
                " run `portside migrate` to record them while the registry serves"
            )
        return not settings.open and await _prepare_access(settings, stores)


async def _probe(stores: Stores) -> None:
    await stores.metadata.probe()
    try:
        await stores.blobs.probe()
    except StorageFull as error:
        # A registry whose disk is full can still serve pulls and deletes.
        log.warning("%s", error)


async def _prepare_access(settings: Settings, stores: Stores) -> bool:
    """Create the first signing key, for all workers; return whether access control is on."""
    await load_keys(stores.access, now())
    is_closed = (await stores.access.access_state()).closed
    if settings.admin_password and not is_closed:
        await _add_admin(settings, stores)
        is_closed = True
    return settings.requires_credentials or is_closed


async def _add_admin(settings: Settings, stores: Stores) -> None:
    """Add the first user of the settings, unless another node or a command has just added one.

    Raises SettingsInvalid and StorageFull.
    """
    registrar = Registrar(
        stores.access, clock=now, require_space=space_check(settings), by=REGISTRY
    )
    try:
        is_added = await registrar.add_first_user(
            ADMIN,
            settings.admin_password,
            cost=settings.password_cost,
            min_length=settings.min_password_length,
        )
    except RegistrarError as error:
        raise SettingsInvalid(f"admin-password: {error}") from error
    if is_added:
        log.warning("user %s added with the password in admin-password", ADMIN)
