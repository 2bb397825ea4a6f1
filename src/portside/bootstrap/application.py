"""The application of one worker, made from the settings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from portside import acr
from portside.api.access_log import AccessLog
from portside.api.addresses import Addresses
from portside.api.app import NOUNS, RegistryApp
from portside.api.auth import Gate
from portside.api.body_memory import BodyMemory
from portside.api.cors import Cors
from portside.api.records import Recorder, RecordReader, RequestIds
from portside.api.registry import Limits, Registry
from portside.api.web_pages import WebPages
from portside.auth.access_control import AccessControl, AccessTerms
from portside.auth.access_files import AccessFiles, LastGoodFiles
from portside.auth.limits import LoginLimits
from portside.auth.signing import DocumentSigner
from portside.bootstrap.clock import now
from portside.bootstrap.collecting import collect_garbage, grace_period, remove_expired_uploads
from portside.bootstrap.events import Reloads, forget_events, record_reloads
from portside.bootstrap.observing import Observing, observe_stores, open_tracing
from portside.bootstrap.retaining import apply_rules, store_pulls
from portside.bootstrap.stores import Stores, open_stores, space_check
from portside.bootstrap.tag_history import make_tag_history
from portside.bootstrap.webhooks import Delivering, deliver_events
from portside.config import LogFormat, Redirect, Settings
from portside.config.rules import watch_rules_file
from portside.files.watched import LastGood, Note
from portside.operations.admission import Admission
from portside.operations.convert import Convert
from portside.operations.delete import Delete
from portside.operations.discover import Discover
from portside.operations.events import EventFeed
from portside.operations.last_pulls import LastPulls
from portside.operations.mount import Mount
from portside.operations.pull import Pull, Redirects
from portside.operations.push import Push
from portside.operations.readiness import Readiness
from portside.operations.relocation import Relocation
from portside.operations.restore import Restore
from portside.spec.rules import Rules
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.interfaces import BlobStore
from portside.telemetry.tasks import TaskCounts

if TYPE_CHECKING:
    from portside.bootstrap.measuring import Measuring

START_PAUSE = 0.001
"""Seconds; any timer does that does not fire in the same iteration of the event loop."""


class LastGoodTexts(NamedTuple):
    """What all workers of a node use of a file while it is broken."""

    access: LastGoodFiles
    rules: LastGood

    @classmethod
    def make(cls) -> Self:
        """Make them before the workers are forked."""
        return cls(LastGoodFiles.make(), LastGood())


def make_app(
    settings: Settings,
    *,
    on_start: Callable[[], object],
    on_loopback: bool = False,
    last_good: LastGoodTexts | None = None,
    metric_files: Path | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """Return the application of one worker, which calls `on_start` once it serves.

    `on_loopback` says that web pages in a browser of this machine can reach it. The workers of a
    node share `last_good`, and the directory `metric_files` if metrics are on. Streams that would
    not end by themselves end when it `is_stopping`.
    """
    stores = open_stores(settings)
    measuring = _measure(metric_files, settings, stores)
    addresses = Addresses(
        public_url=settings.public_url,
        proxies=map(ip_network, settings.trusted_proxies),
        on_socket=isinstance(settings.address, Path),
    )
    tracing = open_tracing(settings, addresses)
    traced = tracing.deliveries if tracing is not None else None
    observing: list[Observing] = [one for one in (measuring, tracing) if one is not None]
    blobs = observe_stores(stores, observing)
    counts = TaskCounts()
    good_access, good_rules = last_good or (None, None)
    reloads = Reloads()
    control = make_access_control(settings, stores, good_access, reloads.note)
    rules = watch_rules_file(settings.rules, good_rules, reloads.note)
    last_pulls = LastPulls(stores.metadata, clock=now)
    delivering = Delivering(settings, stores, rules, counts, traced)
    gate = _make_gate(settings, control, addresses)
    registry = _make_registry(
        settings,
        stores,
        gate,
        blobs=blobs,
        rules=rules,
        last_pulls=last_pulls,
        events=EventFeed(stores.metadata, most=settings.event_streams, is_stopping=is_stopping),
    )

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        starting = asyncio.all_tasks() - {asyncio.current_task()}
        reporting = asyncio.create_task(_report_when_serving(starting, on_start))
        tasks = [
            reporting,
            asyncio.create_task(remove_expired_uploads(settings, stores, counts)),
            asyncio.create_task(apply_rules(settings, stores, rules, last_pulls, counts)),
            asyncio.create_task(store_pulls(last_pulls)),
            asyncio.create_task(forget_events(settings, stores)),
            asyncio.create_task(record_reloads(reloads, stores)),
            asyncio.create_task(deliver_events(delivering)),
        ]
        if settings.gc:
            tasks.append(asyncio.create_task(collect_garbage(settings, stores, counts)))
        if measuring is not None:
            tasks.extend(
                asyncio.create_task(task()) for task in measuring.tasks(registry.readiness)
            )
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            control.close()
            await stores.engine.database.disconnect()
            stores.close()
            if tracing is not None:
                await tracing.close()

    web_pages = _make_web_pages(settings) if on_loopback else None
    nouns = (*NOUNS, *acr.NOUNS)
    served = RegistryApp(registry, lifespan=lifespan, nouns=nouns, web_pages=web_pages)
    app: ASGIApp = served
    if settings.cors_origins:
        app = Cors(app, origins=settings.cors_origins, methods=served.methods)
    if tracing is not None:
        app = tracing.requests.around(app)
    readers = _record_readers(settings, addresses, observing)
    recorder = Recorder(app, ids=RequestIds(addresses), readers=readers)
    if measuring is not None:
        measuring.add(recorder, control, counts)
    return recorder


def _measure(files: Path | None, settings: Settings, stores: Stores) -> Measuring | None:
    if files is None:
        return None
    # The library of the metrics looks for their directory when it is imported.
    from portside.bootstrap.measuring import Measuring  # noqa: PLC0415

    return Measuring(files, settings, stores)


def _record_readers(
    settings: Settings, addresses: Addresses, observing: Sequence[Observing]
) -> list[RecordReader]:
    """Return what is told of each request that has ended."""
    readers = [one.requests for one in observing]
    if settings.access_log:
        readers.append(AccessLog(addresses, as_text=settings.log_format is LogFormat.TEXT))
    return readers


def make_rules(
    settings: Settings, last_good: LastGoodFiles | None = None, note: Note | None = None
) -> AccessFiles:
    """Return the rules of the settings and their files; raises FileInvalid."""
    return AccessFiles(
        anonymous=settings.anonymous,
        access_file=settings.access,
        htpasswd=settings.htpasswd,
        last_good=last_good,
        note=note,
    )


def make_access_control(
    settings: Settings,
    stores: Stores,
    last_good: LastGoodFiles | None = None,
    note: Note | None = None,
) -> AccessControl:
    """Return what authorizes requests.

    The setting `open` turns access control off, and then no file is read. Raises FileInvalid.
    """
    terms = AccessTerms(
        open=settings.open,
        required=settings.requires_credentials,
        audience=settings.service,
        work=settings.password_cost,
        access_life=settings.access_token_life,
        refresh_life=settings.refresh_token_life,
        credential_life=settings.credential_life,
        login_refresh_tokens=settings.login_refresh_tokens,
        clock_skew=settings.clock_skew,
        login_queue=settings.login_queue,
    )
    limits = LoginLimits(
        stores.access, failures=settings.login_failures, window=settings.login_window, clock=now
    )
    if settings.open:
        files = AccessFiles(anonymous=(), access_file="", htpasswd="")
    else:
        files = make_rules(settings, last_good, note)
    return AccessControl(stores.access, files=files, terms=terms, limits=limits, clock=now)


def _make_web_pages(settings: Settings) -> WebPages:
    known = urlsplit(settings.public_url).hostname
    hosts = (*settings.allowed_hosts, known) if known else settings.allowed_hosts
    return WebPages(hosts=hosts, origins=settings.cors_origins)


def _make_gate(settings: Settings, control: AccessControl, addresses: Addresses) -> Gate:
    return Gate(
        control=control,
        addresses=addresses,
        scheme=settings.scheme,
        service=settings.service,
        realm=settings.token_realm,
    )


def _make_registry(
    settings: Settings,
    stores: Stores,
    gate: Gate,
    *,
    blobs: BlobStore,
    rules: Callable[[], Rules],
    last_pulls: LastPulls,
    events: EventFeed,
) -> Registry:
    metadata = stores.metadata
    body_memory = BodyMemory(settings.body_memory)
    require_space = space_check(settings)
    admission = Admission(require_space, rules)
    return Registry(
        pull=Pull(
            metadata,
            blobs,
            _make_redirects(settings, stores),
            grace=grace_period(settings),
            last_pulls=last_pulls,
        ),
        convert=Convert(
            metadata, blobs, sign=DocumentSigner(now).sign, max_bytes=settings.max_manifest_bytes
        ),
        push=Push(
            metadata,
            blobs,
            max_blob_bytes=settings.max_blob_bytes,
            max_open_uploads=settings.max_open_uploads,
            sparse_indexes=settings.sparse_indexes,
            clock=now,
            admission=admission,
        ),
        mount=Mount(metadata, blobs, admission=admission),
        delete=Delete(metadata, blobs, allowed=settings.delete, rules=rules),
        restore=Restore(metadata, keep=settings.keep_deleted * 1_000_000, clock=now, rules=rules),
        discover=Discover(metadata, max_referrers_bytes=settings.max_referrers_bytes),
        tag_history=make_tag_history(settings, metadata, rules),
        properties=metadata,
        relocation=Relocation(metadata),
        readiness=Readiness(
            metadata,
            blobs,
            probe_interval=settings.probe_interval,
            clock=time.monotonic,
            require_space=require_space,
        ),
        events=events,
        addresses=gate.addresses,
        limits=settings.select(Limits),
        body_memory=body_memory,
        form_memory=body_memory.forms(),
        dialect=settings.dialect,
        gate=gate,
    )


def _make_redirects(settings: Settings, stores: Stores) -> Redirects | None:
    if settings.redirect is Redirect.NEVER or not isinstance(stores.blobs, ObjectBlobs):
        return None
    above = settings.redirect_above if settings.redirect is Redirect.LARGE else -1
    return Redirects(above=above, life=settings.redirect_life)


async def _report_when_serving(
    starting: set[asyncio.Task[Any]], on_start: Callable[[], object]
) -> None:
    """Call `on_start` once the server has started.

    Granian runs the event loop for the tasks `starting`, leaves it, sets up its sockets and signal
    handlers, and runs the loop again. The loop stops in the iteration in which those tasks end, and
    does not look at its timers in it. So a timer that is set now fires in the second run, however
    slow the machine is.
    """
    if starting:
        await asyncio.wait(starting)
    await asyncio.sleep(START_PAUSE)
    on_start()
