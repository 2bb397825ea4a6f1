"""What observes the stores and the requests of a worker, if anything does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from portside.api.addresses import Addresses
from portside.api.records import RecordReader
from portside.bootstrap.stores import Stores
from portside.config import Settings, SettingsInvalid
from portside.stores.interfaces import BlobStore
from portside.telemetry.observers import CallObserver, join_observers
from portside.telemetry.stores import ObservedBlobs, ObservedDatabase

if TYPE_CHECKING:
    from portside.bootstrap.tracing import Tracing


class Observing(Protocol):
    """Observes a worker."""

    @property
    def database(self) -> CallObserver:
        """Observes the calls of the database."""
        ...

    @property
    def blobs(self) -> CallObserver:
        """Observes the calls of the blob store."""
        ...

    @property
    def requests(self) -> RecordReader:
        """Observes the requests."""
        ...


def observe_stores(stores: Stores, observing: Sequence[Observing]) -> BlobStore:
    """Wrap the stores, and return the blob store to use; without observers, nothing is wrapped."""
    if not observing:
        return stores.blobs
    database = join_observers([one.database for one in observing])
    stores.engine.use_through(ObservedDatabase(stores.engine.database, database))
    return ObservedBlobs(stores.blobs, join_observers([one.blobs for one in observing]))


def open_tracing(settings: Settings, addresses: Addresses) -> Tracing | None:
    """Return what traces this worker, if traces are on; raises SettingsInvalid."""
    if not settings.traces_endpoint:
        return None
    try:
        from portside.bootstrap.tracing import Tracing  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise _missing(error) from error
    return Tracing(settings, addresses)


def try_tracing(settings: Settings) -> None:
    """Refuse to serve where traces are on and cannot be made; raises SettingsInvalid."""
    if not settings.traces_endpoint:
        return
    try:
        from portside.bootstrap.tracing import open_export  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise _missing(error) from error
    open_export(settings).stop()


def _missing(error: ImportError) -> SettingsInvalid:
    return SettingsInvalid(
        f"traces-endpoint needs OpenTelemetry ({error}); pip install 'portside[otel]'"
    )
