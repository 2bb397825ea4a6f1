"""Readiness: whether content can be pulled, and pushed, now."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from portside.spec.errors import NotReady, Unavailable
from portside.stores.interfaces import BlobStore, MetadataStore

PROBE_TIMEOUT = 5.0
"""Seconds after which a database or a blob store that does not answer counts as broken."""

RESULT_LIFE = 1.0
"""Seconds for which a result answers everybody who asks."""


class Work(NamedTuple):
    """What a store has to do, and how people are told whether it does."""

    failing: str
    succeeding: str


class Results(NamedTuple):
    """What the last try of each kind came to; true as well for what was not tried yet."""

    database_reads: bool
    blobs_reads: bool
    database_writes: bool
    blobs_writes: bool


READS = Work("does not work", "works")
WRITES = Work("cannot be written to", "can be written to")

log = logging.getLogger(__name__)


class Readiness:
    """Tries a pair of stores, no more often than is useful, and shares the result.

    What can be read can be pulled from, also while writes fail: the two are told apart. A blob
    store that works is tried once in `probe_interval` seconds. `require_space` raises StorageFull
    where a row more would touch the reserve. `clock` returns seconds and never goes back.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        blobs: BlobStore,
        *,
        probe_interval: float,
        clock: Callable[[], float],
        require_space: Callable[[], None] | None = None,
    ) -> None:
        async def probe_database() -> None:
            await metadata.probe()
            if require_space is not None:
                require_space()

        life = max(probe_interval, RESULT_LIFE)
        self._reads = (
            _Probe("the database", READS, metadata.probe_reads, life=RESULT_LIFE, clock=clock),
            _Probe("the blob store", READS, blobs.probe_reads, life=life, clock=clock),
        )
        self._writes = (
            _Probe("the database", WRITES, probe_database, life=RESULT_LIFE, clock=clock),
            _Probe("the blob store", WRITES, blobs.probe, life=life, clock=clock),
        )

    async def check_reads(self) -> None:
        """Try to read both stores; raises NotReady, which names those that fail, but not why.

        Writes are tried beside it, and nobody waits for them: what they come to is for the log.
        """
        await _require(self._reads)
        for probe in self._writes:
            probe.start()

    async def check_writes(self) -> None:
        """Try to read and to write to both stores; raises NotReady as `check_reads` does.

        A store that is full raises it too: the question is whether pushes should be sent here.
        """
        await _require(self._reads)
        await _require(self._writes)

    def results(self) -> Results:
        """Return what the last tries came to."""
        return Results(*(not probe.is_failing for probe in (*self._reads, *self._writes)))


class _Probe:
    """One kind of work that a store has to do, and what trying it came to."""

    def __init__(
        self,
        store: str,
        work: Work,
        probe: Callable[[], Awaitable[None]],
        *,
        life: float,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._work = work
        self._probe = probe
        self._life = life
        self._clock = clock
        self._running: asyncio.Task[None] | None = None
        self._expires = clock()
        self._cause = ""
        self._failure = ""

    @property
    def is_failing(self) -> bool:
        """Whether the last try failed."""
        return bool(self._failure)

    def start(self) -> None:
        """Try it, unless it is being tried or the last result still holds."""
        if self._running is None and self._clock() >= self._expires:
            self._running = asyncio.create_task(self._try())

    async def failure(self) -> str:
        """Return what fails, with the id under which the log has the cause; or nothing."""
        self.start()
        if self._running is not None:
            # One asker that is gone must not take the result away from the others.
            await asyncio.shield(self._running)
        return self._failure

    async def _try(self) -> None:
        try:
            cause = await _cause(self._store, self._probe)
            # What fails is tried again soon, to be used again soon.
            self._expires = self._clock() + (RESULT_LIFE if cause else self._life)
            if cause != self._cause:
                self._note(cause)
        finally:
            self._running = None

    def _note(self, cause: str) -> None:
        """Log a change, once, however often it is tried."""
        self._cause = cause
        if cause:
            failure = uuid.uuid4().hex
            what = f"{self._store} {self._work.failing}"
            log.error("failure %s: not ready: %s: %s", failure, what, cause)
            self._failure = f"{what}; the log has the cause (failure {failure})"
        else:
            log.info("%s %s again", self._store, self._work.succeeding)
            self._failure = ""


async def _require(probes: Iterable[_Probe]) -> None:
    """Raise NotReady if any of the probes fails."""
    failures = await asyncio.gather(*(probe.failure() for probe in probes))
    if any(failures):
        raise NotReady("; ".join(filter(None, failures)))


async def _cause(store: str, probe: Callable[[], Awaitable[None]]) -> str:
    """Return what is wrong, or nothing."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await probe()
    except TimeoutError:
        return f"no answer within {PROBE_TIMEOUT:g} s"
    except Unavailable as error:
        return "; ".join(error.details)
    except OSError as error:
        return f"trying {store}: {error}"
    return ""
