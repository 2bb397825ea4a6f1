"""What the background tasks of a worker have done, counted in plain numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from portside.telemetry import catalogue
from portside.telemetry.catalogue import Metric
from portside.telemetry.tallies import Sample


@dataclass
class Rounds:
    """How often a task was done or failed, and when it was last done (s since 1970)."""

    done: int = 0
    failed: int = 0
    last: float = 0.0

    def end(self, time: float) -> None:
        """Count a round that was done."""
        self.done += 1
        self.last = time

    def samples(self, rounds: Metric, last: Metric) -> Iterator[Sample]:
        """Read what was counted."""
        yield Sample(rounds, self.done, ("done",))
        yield Sample(rounds, self.failed, ("failed",))
        if self.last:
            yield Sample(last, self.last)


@dataclass
class TaskCounts:
    """What background tasks have done since this worker began."""

    collections: Rounds = field(default_factory=Rounds)
    collected_bytes: int = 0
    collected_blobs: int = 0
    collected_manifests: int = 0
    expired_uploads: int = 0
    retentions: Rounds = field(default_factory=Rounds)
    retention_tags: int = 0
    retention_manifests: int = 0
    deliveries: Counter[tuple[str, str]] = field(default_factory=Counter)

    def count_deliveries(self, webhook: str, outcome: str, number: int = 1) -> None:
        """Count what came of deliveries of a webhook."""
        self.deliveries[webhook, outcome] += number

    def samples(self) -> Iterator[Sample]:
        """Read what was counted."""
        yield from self.collections.samples(catalogue.COLLECTIONS, catalogue.COLLECTED_AT)
        yield from self.retentions.samples(catalogue.RETENTIONS, catalogue.RETAINED_AT)
        yield Sample(catalogue.COLLECTED_BYTES, self.collected_bytes)
        yield Sample(catalogue.COLLECTED_BLOBS, self.collected_blobs)
        yield Sample(catalogue.COLLECTED_MANIFESTS, self.collected_manifests)
        yield Sample(catalogue.EXPIRED_UPLOADS, self.expired_uploads)
        yield Sample(catalogue.RETENTION_TAGS, self.retention_tags)
        yield Sample(catalogue.RETENTION_MANIFESTS, self.retention_manifests)
        for labels, count in self.deliveries.items():
            yield Sample(catalogue.DELIVERIES, count, labels)
