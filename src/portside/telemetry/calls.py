"""The calls of stores, counted and timed for the metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from portside.spec.errors import StorageFull, Unavailable
from portside.stores.metadata.engine import Database
from portside.telemetry import catalogue
from portside.telemetry.catalogue import Metric
from portside.telemetry.observers import Find
from portside.telemetry.tallies import Sample, SharedTally


class CountedCalls:
    """The calls of one store, from any thread: how long they took, and those that failed."""

    def __init__(self, seconds: Metric, errors: Metric) -> None:
        self._seconds = seconds
        self._errors = errors
        self._tallies: dict[str, SharedTally] = {}
        self._failures = Counter[tuple[str, str]]()

    def _tally(self, call: str) -> SharedTally:
        # A tally is made only where there is none; two threads may make one at once.
        known = self._tallies.get(call)
        return known or self._tallies.setdefault(call, SharedTally(self._seconds.bounds))

    def finding(self, find: Find) -> Find:
        """Return a function that finds a row and is counted; written out, as calls take longer."""
        reads = self._tally("read")

        async def counted(sql: str, *parameters: Any) -> Any | None:
            began = perf_counter()
            try:
                return await find(sql, *parameters)
            except Unavailable as error:
                self.failed("read", error)
                raise
            finally:
                seconds = perf_counter() - began
                reads.counts[bisect_left(reads.bounds, seconds)] += 1
                reads.seconds += seconds

        return counted

    def failed(self, call: str, error: Unavailable) -> None:
        """Count a call that failed."""
        self._failures[call, "full" if isinstance(error, StorageFull) else "unavailable"] += 1

    @contextmanager
    def during(self, call: str, _: object = None) -> Iterator[None]:
        """Count and time the call that is made in the block."""
        began = perf_counter()
        try:
            yield
        except Unavailable as error:
            self.failed(call, error)
            raise
        finally:
            self._tally(call).add(perf_counter() - began)

    def samples(self) -> Iterator[Sample]:
        """Read what was counted."""
        for call, tally in tuple(self._tallies.items()):
            yield Sample(self._seconds, tally, (call,))
        for (call, error), count in tuple(self._failures.items()):
            yield Sample(self._errors, count, (call, error))


def database_load(database: Database) -> Iterator[Sample]:
    """Read what the engine of a database is doing."""
    load = database.load()
    yield Sample(catalogue.DATABASE_RETRIES, load.retries)
    yield Sample(catalogue.CONNECTIONS_IN_USE, load.in_use)
    yield Sample(catalogue.CONNECTIONS_MOST, load.connections)
    yield Sample(catalogue.CONNECTION_WAITERS, load.waiting)
    yield Sample(catalogue.WRITE_QUEUE, load.queued)
