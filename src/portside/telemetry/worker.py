"""The metrics of one worker: what is counted, and when it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from portside.telemetry.tallies import Sample, Source
from portside.telemetry.writing import MetricWriter

INTERVAL = 1.0
"""Seconds between two writes: a worker that is killed takes what it has counted since with it."""


class WorkerMetrics:
    """Writes what the sources of a worker have counted to its files, in the directory `files`."""

    def __init__(self, files: Path) -> None:
        self.files = files
        self._writer = MetricWriter()
        self._sources: list[Source] = []

    def add(self, source: Source) -> None:
        """Write what this source has, from now on."""
        self._sources.append(source)

    def write(self, samples: Iterable[Sample]) -> None:
        """Write samples that no source has."""
        self._writer.write(samples)

    async def keep_writing(self) -> None:
        """Write at intervals, and once more when cancelled."""
        try:
            while True:
                self._write_all()
                await asyncio.sleep(INTERVAL)
        finally:
            self._write_all()

    def _write_all(self) -> None:
        for source in self._sources:
            self._writer.write(source())
