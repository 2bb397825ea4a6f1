"""What is measured of a worker, if metrics are on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from portside.api.records import Recorder
from portside.auth.access_control import AccessControl
from portside.bootstrap.stores import Stores
from portside.config import Settings
from portside.operations.readiness import Readiness
from portside.stores.blobs.disk.store import DiskBlobs
from portside.telemetry import catalogue
from portside.telemetry.calls import CountedCalls, database_load
from portside.telemetry.content import Watch
from portside.telemetry.requests import Requests, running
from portside.telemetry.tallies import Sample
from portside.telemetry.tasks import TaskCounts
from portside.telemetry.worker import WorkerMetrics

Task = Callable[[], Coroutine[Any, Any, None]]


class Measuring:
    """Measures the stores, the requests and the tasks of this worker.

    `files` is the directory for what it finds.
    """

    def __init__(self, files: Path, settings: Settings, stores: Stores) -> None:
        self._settings = settings
        self._stores = stores
        self._worker = WorkerMetrics(files)
        self.database = CountedCalls(catalogue.DATABASE_SECONDS, catalogue.DATABASE_ERRORS)
        self._worker.add(self.database.samples)
        self._worker.add(partial(database_load, stores.engine.database))
        self.blobs = CountedCalls(catalogue.STORAGE_SECONDS, catalogue.STORAGE_ERRORS)
        self._worker.add(self.blobs.samples)
        self.requests = Requests()
        self._worker.add(self.requests.samples)

    def add(self, recorder: Recorder, control: AccessControl, counts: TaskCounts) -> None:
        """Read what these count."""
        self._worker.add(partial(running, recorder))
        self._worker.add(partial(_logins, control))
        self._worker.add(counts.samples)

    def tasks(self, readiness: Readiness) -> tuple[Task, ...]:
        """Return what runs in the background; the last one is to end after everything else."""
        watch = Watch(
            self._stores.metadata,
            readiness,
            webhooks=self._stores.metadata,
            disks=_disks(self._settings, self._stores),
            reserve=self._settings.reserve_bytes,
            write=self._worker.write,
        )
        return partial(watch.run, self._worker.files), self._worker.keep_writing


def _logins(control: AccessControl) -> Iterator[Sample]:
    for outcome, count in control.logins.items():
        yield Sample(catalogue.LOGINS, count, (outcome,))


def _disks(settings: Settings, stores: Stores) -> dict[str, Path]:
    """Return the directories of the stores that are on disks of this machine."""
    disks = {} if settings.database else {"database": settings.root}
    if isinstance(stores.blobs, DiskBlobs):
        disks["blobs"] = stores.blobs.location
    return disks
