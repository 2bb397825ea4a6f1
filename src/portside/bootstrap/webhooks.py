"""The background task that delivers events to webhooks, made from the settings."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from portside.bootstrap.clock import now
from portside.bootstrap.stores import Stores
from portside.config import Settings
from portside.files.text import FileInvalid
from portside.operations.webhooks.attempts import Attempts
from portside.operations.webhooks.dispatch import Dispatcher, Send, Terms
from portside.operations.webhooks.formats import Origin
from portside.operations.webhooks.signature import SecretUnreadable, Signer
from portside.spec.errors import RegistryError, StorageFull
from portside.spec.rules import Rules
from portside.stores.interfaces import LeaseStore
from portside.telemetry.tasks import TaskCounts

if TYPE_CHECKING:
    from portside.telemetry.traces.deliveries import TracedDeliveries

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks for new events, of the process that delivers them."""

STANDBY = 2.0
"""Seconds after which another process looks whether it is to deliver, or the rules file is."""

LEASE = 6
"""Seconds after which another process delivers if the one that did so has ended."""

UNNAMED = 60.0
"""Seconds between two looks for webhooks that are in no rules file any more."""

PATIENCE = 3.0
"""Seconds for what is being sent when the server ends."""


def make_attempts(
    settings: Settings, identity: str, more: Callable[[], Mapping[str, str]] = dict
) -> Attempts:
    """Return what sends; `identity` is that of the registry, `more` returns further headers."""
    origin = Origin(settings.public_url, identity)
    signer, timeout = Signer(os.environ), settings.webhook_timeout
    return Attempts(signer, origin, timeout=timeout, clock=now, more=more)


def check_secrets(settings: Settings, rules: Rules) -> None:
    """Refuse webhooks whose secrets cannot be read, for a server that starts; raises FileInvalid.

    While it runs, each attempt reads them.
    """
    signer = Signer(os.environ)
    for webhook in rules.webhooks:
        try:
            signer.read(webhook.secret)
        except SecretUnreadable as error:
            place = f"{settings.rules}, webhook {webhook.name}"
            raise FileInvalid(f"{place}: {error}") from error


async def add_webhooks(stores: Stores, rules: Rules) -> None:
    """Add the webhooks that are new: they begin with the first event of a server that starts.

    Raises Unavailable.
    """
    names = [webhook.name for webhook in rules.webhooks]
    if names and (await stores.metadata.registry_state()).copy_of is None:
        try:
            await stores.metadata.add_webhooks(names)
        except StorageFull as error:
            # It can serve pulls and deletes nevertheless.
            log.warning("cannot begin to deliver events to webhooks: %s", error)


class _Lease:
    """The lease of the process that delivers, for an independent registry."""

    def __init__(self, leases: LeaseStore) -> None:
        self._leases = leases
        self._holder = uuid4().hex
        self._taken = -float(LEASE)
        self._is_held = False

    async def is_held(self) -> bool:
        """Whether this process is to deliver, for a moment."""
        began = time.monotonic()
        if not self._is_held or began - self._taken >= LEASE / 3:
            self._is_held = False
            self._is_held = await self._leases.take_lease("webhooks", self._holder, seconds=LEASE)
            self._taken = began
        return self._is_held

    async def release(self) -> None:
        """Give the lease up, so that another process delivers at once."""
        if self._is_held:
            await self._leases.release_lease("webhooks", self._holder)


class Delivering:
    """Delivers events while this process has the lease."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        rules: Callable[[], Rules],
        counts: TaskCounts,
        traced: TracedDeliveries | None,
    ) -> None:
        self._settings = settings
        self._traced = traced
        self._stores = stores
        self._rules = rules
        self._counts = counts
        self._lease = _Lease(stores.metadata)
        self._dispatcher: Dispatcher | None = None
        self._looked = -UNNAMED

    async def round(self) -> float:
        """Do what is to be done now; return after how many seconds there may be more."""
        webhooks = self._rules().webhooks
        if not webhooks and not await self._has_unnamed():
            return STANDBY
        # A copy tells nobody what happened in the registry that it is a copy of.
        state = await self._stores.metadata.registry_state()
        if state.copy_of is not None or not await self._lease.is_held():
            return STANDBY
        if self._dispatcher is None:
            self._dispatcher = self._make_dispatcher(state.identity)
        began = time.monotonic()
        if await self._dispatcher.round(webhooks):
            # Other tasks and requests have their turn in between.
            return time.monotonic() - began
        return INTERVAL if webhooks else STANDBY

    async def rest(self, seconds: float) -> None:
        """Wait for so long, or until an attempt has ended."""
        if self._dispatcher is None:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._dispatcher.news.wait()
        self._dispatcher.news.clear()

    async def end(self) -> None:
        """End what is being sent, or leave it to the process that delivers next."""
        if self._dispatcher is not None:
            await self._dispatcher.end(PATIENCE)
        with suppress(RegistryError):
            await self._lease.release()

    async def _has_unnamed(self) -> bool:
        """Whether there are webhooks that no rules file may have now; seldom asked."""
        if time.monotonic() - self._looked < UNNAMED:
            return False
        self._looked = time.monotonic()
        return bool(await self._stores.metadata.list_webhooks())

    def _make_dispatcher(self, identity: str) -> Dispatcher:
        settings, traced = self._settings, self._traced
        send: Send = make_attempts(settings, identity).deliver
        if traced is not None:
            send = traced.sending(make_attempts(settings, identity, traced.headers).deliver)
        return Dispatcher(
            self._stores.metadata,
            send,
            terms=Terms(
                connections=settings.webhook_connections,
                expiry=settings.webhook_expiry * 1_000_000,
                keep=settings.keep_events * 1_000_000,
            ),
            clock=now,
            draw=random.random,
            count=self._counts.count_deliveries,
        )


async def deliver_events(delivering: Delivering) -> None:
    """Deliver events to the webhooks of the rules file, until cancelled; errors are logged.

    The process that has the lease does it; another one takes over after its end.
    """
    try:
        while True:
            pause = STANDBY
            try:
                pause = await delivering.round()
            except RegistryError as error:
                log.warning("cannot deliver events to webhooks: %s", error)
            except Exception:
                # The next round may succeed; without one, nothing would ever be delivered.
                log.exception("delivering events to webhooks failed")
            await delivering.rest(pause)
    finally:
        await delivering.end()
