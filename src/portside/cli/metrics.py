"""Serve the metrics of all workers, from the first process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from portside.cli.errors import ServerError
from portside.cli.listeners import explain_port
from portside.config import HostPort, Settings
from portside.stores.blobs.opening import kind_of
from portside.telemetry.files import MetricFiles

if TYPE_CHECKING:
    from portside.telemetry.listener import MetricsListener


class MetricsServer:
    """The port that Prometheus reads, and the files that the workers write.

    Raises ServerError if the port cannot be used.
    """

    def __init__(self, address: HostPort, settings: Settings) -> None:
        self._settings = settings
        self._files = MetricFiles()
        try:
            self._listener = _listen(address)
        except ServerError:
            self._files.close()
            raise
        self.url = self._listener.url

    @property
    def files(self) -> Path:
        """The directory of the files."""
        return self._files.path

    def start(self) -> None:
        """Answer from now on."""
        settings = self._settings
        self._listener.start(
            self.files,
            database="postgresql" if settings.database else "sqlite",
            storage=kind_of(settings.storage),
        )

    def leave(self) -> None:
        """Close what a worker has inherited."""
        self._listener.leave()

    def close(self) -> None:
        """Release the port, and remove the files."""
        self._listener.close()
        self._files.close()


def _listen(address: HostPort) -> MetricsListener:
    # The library of the metrics looks for their directory when it is imported, and most registries
    # do without it.
    from portside.telemetry.listener import MetricsListener  # noqa: PLC0415

    host, port = address
    try:
        return MetricsListener(host, port)
    except OSError as error:
        raise ServerError(explain_port(error, host, port, option="metrics-listen")) from error
