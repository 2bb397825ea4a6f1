"""What a worker counts, in plain numbers: writing each count to a shared file would cost too much.

Once a second, and at the end of the worker, the numbers are written where all of them are summed
up. Counts only grow, so that a reader in another thread needs no lock.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import NamedTuple

from portside.telemetry.catalogue import Metric


class Tally:
    """How often something took how long: a count for each bucket, and the sum of the seconds."""

    __slots__ = ("bounds", "counts", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one; by one thread only."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds


class SharedTally(Tally):
    """A tally that several threads add to."""

    __slots__ = ("_lock",)

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Count one."""
        with self._lock:
            super().add(seconds)


class Sample(NamedTuple):
    """What a metric is now, for some values of its labels.

    That of a counter is all that was counted since the worker began.
    """

    metric: Metric
    value: float | Tally
    labels: tuple[str, ...] = ()


Source = Callable[[], Iterable[Sample]]
"""Reads what was counted."""
