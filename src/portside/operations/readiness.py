"""Readiness: whether the stores can do their part now."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable

from portside.spec.errors import NotReady, Unavailable
from portside.stores.interfaces import BlobStore, MetadataStore

PROBE_TIMEOUT = 5.0
"""Seconds after which a database or a blob store that does not answer counts as broken."""

RESULT_LIFE = 1.0
"""Seconds for which a result answers everybody who asks."""

log = logging.getLogger(__name__)


class Readiness:
    """Tries a pair of stores, no more often than is useful, and shares the result.

    A blob store that works is written to once in `probe_interval` seconds. `clock` returns seconds
    and never goes back.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        blobs: BlobStore,
        *,
        probe_interval: float,
        clock: Callable[[], float],
    ) -> None:
        self._database = _Probe("the database", metadata.probe, life=RESULT_LIFE, clock=clock)
        life = max(probe_interval, RESULT_LIFE)
        self._blobs = _Probe("the blob store", blobs.probe, life=life, clock=clock)

    async def check(self) -> None:
        """Try both stores; raises NotReady, which names those that fail, but not why.

        A store that is full raises it too: the question is whether requests should be sent here.
        """
        failures = await asyncio.gather(self._database.failure(), self._blobs.failure())
        if any(failures):
            raise NotReady("; ".join(filter(None, failures)))


class _Probe:
    """One store, and what trying it came to."""

    def __init__(
        self,
        store: str,
        probe: Callable[[], Awaitable[None]],
        *,
        life: float,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._probe = probe
        self._life = life
        self._clock = clock
        self._running: asyncio.Task[None] | None = None
        self._expires = clock()
        self._cause = ""
        self._failure = ""

    async def failure(self) -> str:
        """Return which store fails, with the id under which the log has the cause; or nothing."""
        if self._running is None and self._clock() >= self._expires:
            self._running = asyncio.create_task(self._try())
        if self._running is not None:
            # One asker that is gone must not take the result away from the others.
            await asyncio.shield(self._running)
        return self._failure

    async def _try(self) -> None:
        try:
            cause = await _cause(self._store, self._probe)
            # A store that fails is tried again soon, to be used again soon.
            self._expires = self._clock() + (RESULT_LIFE if cause else self._life)
            if cause != self._cause:
                self._note(cause)
        finally:
            self._running = None

    def _note(self, cause: str) -> None:
        """Log a change, once, however often the store is tried."""
        self._cause = cause
        if cause:
            request = uuid.uuid4().hex
            log.error("request %s: not ready: %s", request, cause)
            self._failure = (
                f"{self._store} does not work; the log has the cause (request {request})"
            )
        else:
            log.info("%s works again", self._store)
            self._failure = ""


async def _cause(store: str, probe: Callable[[], Awaitable[None]]) -> str:
    """Return what is wrong with a store, or nothing."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await probe()
    except TimeoutError:
        return f"{store} has not answered for {PROBE_TIMEOUT:g} s"
    except Unavailable as error:
        return "; ".join(error.details)
    except OSError as error:
        return f"trying {store}: {error}"
    return ""
