"""What was measured: rates of both registries round by round, and figures."""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

from bench.workloads import Workload
from servers.counts import Counts

ACCESS_FLOOR = 0.7
"""The rate with credentials, as a part of that without."""


class Measured(NamedTuple):
    """One row: `docker[i]` and `portside[i]` were measured one right after the other."""

    work: Workload
    docker: list[float]
    portside: list[float]

    @property
    def ratios(self) -> list[float]:
        """The ratio of each round."""
        return [ours / theirs for theirs, ours in zip(self.docker, self.portside, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios, which one disturbed round does not move."""
        return median(self.ratios)

    @property
    def is_under(self) -> bool:
        """Whether Portside missed the floor."""
        return self.work.floor is not None and self.ratio < self.work.floor

    def as_document(self) -> dict[str, Any]:
        """Write it for --json."""
        return {
            "name": self.work.name,
            "title": self.work.title,
            "unit": self.work.unit,
            "docker-registry": self.docker,
            "portside": self.portside,
            "ratio": self.ratio,
            "floor": self.work.floor,
            "best-peer": self.work.best,
            "under-floor": self.is_under,
        }


class Figure(NamedTuple):
    """A figure that is not a ratio: less is better, and `limit` is the maximum."""

    name: str
    title: str
    unit: str
    docker: float | None
    portside: float
    limit: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether Portside missed the limit."""
        return self.limit is not None and self.portside > self.limit

    def as_document(self) -> dict[str, Any]:
        """Write it for --json."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "docker-registry": self.docker,
            "portside": self.portside,
            "limit": self.limit,
            "over-limit": self.is_over,
        }


class Compared(NamedTuple):
    """Rates of one kind of credentials, and without any on an open registry."""

    scheme: str
    opened: list[float]
    closed: list[float]

    @property
    def ratios(self) -> list[float]:
        """The ratio of each round."""
        return [closed / opened for opened, closed in zip(self.opened, self.closed, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)

    def as_document(self) -> dict[str, Any]:
        """Write it for --json."""
        return {**self._asdict(), "ratio": self.ratio, "floor": ACCESS_FLOOR}


class Counted(NamedTuple):
    """What one operation asked for; `size` is that of the blob that it moves, in bytes, or 0.

    `docker` is what docker-registry asked of S3, where it has the operation.
    """

    title: str
    size: int
    portside: Counts
    docker: Counts | None

    def as_document(self) -> dict[str, Any]:
        """Write it for --json."""
        return {
            "title": self.title,
            "size": self.size,
            "portside": _counts_document(self.portside),
            "docker-registry": self.docker and _counts_document(self.docker),
        }


def _counts_document(counts: Counts) -> dict[str, Any]:
    return {**counts._asdict(), "queries": counts.queries, "frames": counts.frames}
