"""From settings to a running application: the only place that knows every concrete class."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import ip_network
from typing import Any, NamedTuple

from starlette.types import ASGIApp

from portside.api.access_log import AccessLog
from portside.api.app import RegistryApp
from portside.api.auth import Gate
from portside.api.operator import operator_app
from portside.api.registry import Limits, Redirects, Registry
from portside.api.sources import Surroundings
from portside.auth.access import AccessControl, AccessTerms
from portside.auth.limits import LoginLimits
from portside.auth.rulebook import RuleBook
from portside.auth.tokens.keys import load_keys
from portside.config import Redirect, Settings, SettingsInvalid
from portside.operations.collect import expire_uploads
from portside.operations.push import Receiver
from portside.spec.errors import RegistryError, StorageFull, Unavailable
from portside.stores.blobs.local import LocalBlobs
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.blobs.objects.urls import StorageUrlInvalid
from portside.stores.blobs.opening import is_remote, open_blobs
from portside.stores.metadata.database import Database
from portside.stores.metadata.sqlite import SqliteAccess, SqliteMetadata

log = logging.getLogger(__name__)


def now() -> int:
    """Give the time in microseconds since 1970."""
    return time.time_ns() // 1000


START_PAUSE = 0.001
"""Seconds: any time will do that is not over in the same round of the loop."""


class Stores(NamedTuple):
    """The stores of one process, open."""

    database: Database
    metadata: SqliteMetadata
    access: SqliteAccess
    blobs: LocalBlobs | ObjectBlobs

    def require_database(self) -> None:
        """Refuse blobs without their database: all of them would be taken for leftovers.

        Raises Unavailable and StorageFull.
        """
        if not self.database.is_made() and self.blobs.holds_blobs():
            file = self.database.file
            lost = (
                f"{file} is missing or empty, and {self.blobs.place} holds blobs; restore"
                f" {file.name} from a backup, or move blobs/ away to begin with an empty registry"
            )
            raise Unavailable(lost)

    def create(self) -> None:
        """Make what is missing, and bring the database to the newest schema.

        Raises Unavailable, StorageFull and SchemaTooNew.
        """
        self.require_database()
        self.blobs.create()
        self.database.create()

    def close(self) -> None:
        """Finish what was begun, and let go of the files."""
        self.database.close()
        self.blobs.close()


def open_stores(settings: Settings, *, read_only: bool = False) -> Stores:
    """Make the stores of this process; nothing is read or written yet."""
    database = Database(settings.root, clock=now, read_only=read_only)
    blobs = _open_blobs(settings)
    return Stores(database, SqliteMetadata(database), SqliteAccess(database), blobs)


def _open_blobs(settings: Settings) -> LocalBlobs | ObjectBlobs:
    try:
        return open_blobs(
            settings.storage,
            root=settings.root,
            environment=os.environ,
            allow_http=settings.storage_http,
            hold_timeout=settings.upload_hold_timeout,
            reserve=settings.reserve_bytes,
            clock=now,
        )
    except StorageUrlInvalid as error:
        raise SettingsInvalid(f"storage: {error}") from error


@contextmanager
def opened_stores(settings: Settings, *, read_only: bool = False) -> Iterator[Stores]:
    """Open the stores for the length of a block; with `read_only`, nothing in them can change."""
    stores = open_stores(settings, read_only=read_only)
    try:
        yield stores
    finally:
        stores.close()


def prepare(settings: Settings) -> bool:
    """Make the data directory ready, once, before any process serves from it, and try to write.

    Gives whether it will be closed to those without credentials.

    Raises Unavailable, StorageFull, SchemaTooNew, FileInvalid and SettingsInvalid.
    """
    if is_remote(settings.storage):
        # The threads of an object store's client do not survive the fork by which workers are
        # made: this process, whose children they are, must not have used one.
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as child:
            child.submit(_try_storage, settings).result()
    with opened_stores(settings) as stores:
        if is_remote(settings.storage):
            stores.database.create()
        else:
            stores.create()
        if not settings.open:
            _make_rules(settings)
        return asyncio.run(_prepare(settings, stores))


def _try_storage(settings: Settings) -> None:
    with opened_stores(settings) as stores:
        stores.require_database()
        asyncio.run(_probe_blobs(stores))


async def _probe_blobs(stores: Stores) -> None:
    try:
        await stores.blobs.probe()
    except StorageFull as error:
        # A registry that is full can still be read, and deleted from.
        log.warning("%s", error)


async def _prepare(settings: Settings, stores: Stores) -> bool:
    await stores.metadata.probe()
    if not is_remote(settings.storage):
        await _probe_blobs(stores)
    return not settings.open and await _prepare_access(settings, stores)


async def _prepare_access(settings: Settings, stores: Stores) -> bool:
    """Make the first signing key, so that workers have one to share."""
    await load_keys(stores.access, now())
    state = await stores.access.access_state()
    return settings.requires_credentials or state.closed


def make_app(settings: Settings, *, on_start: Callable[[], object]) -> ASGIApp:
    """Make the application of one worker; `on_start` is called once it serves."""
    stores = open_stores(settings)
    control = make_access_control(settings, stores)
    gate = _make_gate(settings, control) if control is not None else None
    registry = _make_registry(settings, stores, gate)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        starting = asyncio.all_tasks() - {asyncio.current_task()}
        telling = asyncio.create_task(_tell_when_serving(starting, on_start))
        sweeping = asyncio.create_task(_sweep(settings, stores))
        try:
            yield
        finally:
            for task in (telling, sweeping):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            if control is not None:
                control.close()
            stores.close()

    app = RegistryApp(registry, elsewhere=operator_app(registry, lifespan=lifespan))
    return AccessLog(app) if settings.access_log else app


def _make_rules(settings: Settings) -> RuleBook:
    return RuleBook(
        anonymous=settings.anonymous, access_file=settings.access, htpasswd=settings.htpasswd
    )


def make_access_control(settings: Settings, stores: Stores) -> AccessControl | None:
    """Make what decides about requests; None where the settings open the registry to everybody.

    Raises FileInvalid.
    """
    if settings.open:
        return None
    terms = AccessTerms(
        required=settings.requires_credentials,
        audience=settings.service,
        work=settings.password_cost,
        access_life=settings.access_token_life,
        refresh_life=settings.refresh_token_life,
        credential_life=settings.credential_life,
    )
    limits = LoginLimits(
        stores.access, failures=settings.login_failures, window=settings.login_window, clock=now
    )
    return AccessControl(
        stores.access, rules=_make_rules(settings), terms=terms, limits=limits, clock=now
    )


def _make_gate(settings: Settings, control: AccessControl) -> Gate:
    return Gate(
        control=control,
        surroundings=Surroundings(
            public_url=settings.public_url, proxies=map(ip_network, settings.trusted_proxies)
        ),
        scheme=settings.scheme,
        service=settings.service,
        realm=settings.token_realm,
    )


def _make_registry(settings: Settings, stores: Stores, gate: Gate | None) -> Registry:
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
        gate=gate,
        redirects=_make_redirects(settings, stores.blobs),
    )


def _make_redirects(settings: Settings, blobs: LocalBlobs | ObjectBlobs) -> Redirects | None:
    if not isinstance(blobs, ObjectBlobs) or settings.redirect is Redirect.NEVER:
        return None
    above = settings.redirect_above if settings.redirect is Redirect.LARGE else -1
    return Redirects(blobs=blobs, above=above)


async def _tell_when_serving(
    starting: set[asyncio.Task[Any]], on_start: Callable[[], object]
) -> None:
    """Call `on_start` when the server is done with the start.

    It runs the loop for the start, in the tasks `starting`, leaves it, takes up its sockets and its
    signals, and runs the loop again. The loop is told to stop in the round in which those tasks end
    and then looks at no clock: what waits for one is called in the second run, however slow the
    machine is.
    """
    if starting:
        await asyncio.wait(starting)
    await asyncio.sleep(START_PAUSE)
    on_start()


async def _sweep(settings: Settings, stores: Stores) -> None:
    """End expired upload sessions for as long as the worker lives."""
    while True:
        # Workers that started together do not look together.
        await asyncio.sleep(settings.upload_sweep_interval * random.uniform(0.5, 1))  # noqa: S311
        try:
            before = now() - settings.upload_expiry * 1_000_000
            gone = await expire_uploads(stores.metadata, stores.blobs, before)
        except RegistryError as error:
            log.warning("looking for expired uploads: %s", error)
        except Exception:
            # Whatever it is, the next look may go well; without one, uploads would never end.
            log.exception("looking for expired uploads failed")
        else:
            if gone:
                log.info("%d upload sessions expired", gone)
