"""Write what a worker counts into its files, by the library.

The library is imported after `MetricFiles` has named the directory: it decides then how it keeps
its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from portside.telemetry.catalogue import METRICS, OF_FIRST_PROCESS, Kind, Metric
from portside.telemetry.tallies import Sample, Tally


class MetricWriter:
    """The metrics of this process, written to its files."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._written = {
            metric.name: _WRITTEN[metric.kind](metric, self.registry)
            for metric in METRICS
            if metric not in OF_FIRST_PROCESS
        }

    def write(self, samples: Iterable[Sample]) -> None:
        """Write what has changed since the last time."""
        for metric, value, labels in samples:
            self._written[metric.name].write(value, labels)


class _Written(Protocol):
    """One metric with all values of its labels."""

    def write(self, value: float | Tally, labels: Sequence[str]) -> None:
        """Bring what is written to a value."""
        ...


class _Counter:
    """A counter, to which the difference to the last value is added."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._counter = Counter(metric.name, metric.meaning, metric.labels, registry=registry)
        self._last: dict[Sequence[str], float] = {}

    def write(self, value: float | Tally, labels: Sequence[str]) -> None:
        assert not isinstance(value, Tally)  # noqa: S101  # declared as a counter
        added = value - self._last.get(labels, 0)
        # A series begins at zero, so that its first event is seen as an increase.
        if added or labels not in self._last:
            child = self._counter.labels(*labels) if labels else self._counter
            child.inc(added)
            self._last[labels] = value


class _Gauge:
    """A gauge, which is set."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._gauge = Gauge(
            metric.name,
            metric.meaning,
            metric.labels,
            multiprocess_mode=metric.merge.value,
            registry=registry,
        )

    def write(self, value: float | Tally, labels: Sequence[str]) -> None:
        assert not isinstance(value, Tally)  # noqa: S101  # declared as a gauge
        (self._gauge.labels(*labels) if labels else self._gauge).set(value)


class _Tallied(Histogram):
    """A histogram to which many observations are added at once."""

    def add(self, counts: Sequence[int], seconds: float) -> None:
        """Add to each bucket, and to the sum."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(seconds)


class _Histogram:
    """A histogram, to which the difference to the last tally is added."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._histogram = _Tallied(
            metric.name, metric.meaning, metric.labels, buckets=metric.bounds, registry=registry
        )
        self._last: dict[Sequence[str], tuple[list[int], float]] = {}

    def write(self, value: float | Tally, labels: Sequence[str]) -> None:
        assert isinstance(value, Tally)  # noqa: S101  # declared as a histogram
        counts, seconds = list(value.counts), value.seconds
        before, sum_before = self._last.get(labels) or ([0] * len(counts), 0.0)
        if counts != before:
            added = [now - then for now, then in zip(counts, before, strict=True)]
            self._histogram.labels(*labels).add(added, seconds - sum_before)
            self._last[labels] = counts, seconds


_WRITTEN: dict[Kind, Callable[[Metric, CollectorRegistry], _Written]] = {
    Kind.COUNTER: _Counter,
    Kind.GAUGE: _Gauge,
    Kind.HISTOGRAM: _Histogram,
}
