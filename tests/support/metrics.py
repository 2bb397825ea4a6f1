"""What a registry's metrics say, read as Prometheus reads them."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from support.server import RunningRegistry
from support.wire import connect

METRICS = ("--metrics-listen", "127.0.0.1:0")


class Scrape:
    """The metrics at one moment."""

    def __init__(self, text: str) -> None:
        self.families: list[Metric] = list(text_string_to_metric_families(text))

    def sum(self, sample: str, **labels: str) -> float:
        """Add up all samples of a name that have these labels."""
        return sum(
            found.value
            for family in self.families
            for found in family.samples
            if found.name == sample and labels.items() <= found.labels.items()
        )

    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return everything that must not go backwards."""
        return {
            (found.name, frozenset(found.labels.items())): found.value
            for family in self.families
            if family.type in {"counter", "histogram"}
            for found in family.samples
        }


def metrics_url(registry: RunningRegistry) -> str:
    """Return the root of the paths at the address that the banner names."""
    found = re.search(r"^Metrics are at (\S+)/metrics$", registry.banner, re.MULTILINE)
    assert found is not None, registry.banner
    return found[1]


def scrape(registry: RunningRegistry) -> Scrape:
    """Read the metrics."""
    with connect(metrics_url(registry)) as client:
        response = client.get("/metrics")
    assert response.status_code == 200
    return Scrape(response.text)


def metric_files(worker: str) -> set[Path]:
    """Return the files of metrics that a worker has in its memory."""
    maps = Path(f"/proc/{worker}/maps").read_text()
    return {Path(path) for path in re.findall(r"\S+/portside-metrics-\S+\.db", maps)}
