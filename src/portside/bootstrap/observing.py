"""What observes the stores and the requests of a worker, if anything does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from portside.api.records import RecordReader
from portside.bootstrap.stores import Stores
from portside.stores.interfaces import BlobStore
from portside.telemetry.observers import CallObserver, join_observers
from portside.telemetry.stores import ObservedBlobs, ObservedDatabase


class Observing(Protocol):
    """Observes a worker: the calls of its database and of its blob store, and its requests."""

    database: CallObserver
    blobs: CallObserver
    requests: RecordReader


def observe_stores(stores: Stores, observing: Sequence[Observing]) -> BlobStore:
    """Wrap the stores, and return the blob store to use; without observers, nothing is wrapped."""
    if not observing:
        return stores.blobs
    database = join_observers([one.database for one in observing])
    stores.engine.use_through(ObservedDatabase(stores.engine.database, database))
    return ObservedBlobs(stores.blobs, join_observers([one.blobs for one in observing]))
