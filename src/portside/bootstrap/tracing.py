"""What is traced of a worker, if traces are on."""

from __future__ import annotations

import os

from portside.api.addresses import Addresses
from portside.config import Settings, SettingsInvalid, TracesTrust
from portside.stores.blobs.opening import is_remote, kind_of
from portside.telemetry.traces.calls import (
    TracedCalls,
    database_attributes,
    describe_blob_call,
    describe_statement,
)
from portside.telemetry.traces.deliveries import TracedDeliveries
from portside.telemetry.traces.export import SpanExport
from portside.telemetry.traces.requests import TracedRequests

PATIENCE = 3.0
"""Seconds in which the last spans are sent, at the end of a worker."""


class Tracing:
    """Traces the stores and the requests of this worker; raises SettingsInvalid."""

    def __init__(self, settings: Settings, addresses: Addresses) -> None:
        self._export = open_export(settings)
        # What exceeds the timeout is cut off, and the log would blame requests for it.
        self._patience = min(PATIENCE, settings.shutdown_timeout / 2)
        tracer = self._export.tracer
        self.database = TracedCalls(
            tracer,
            describe_statement,
            common=database_attributes(settings.shown_database if settings.database else ""),
            is_remote=bool(settings.database),
        )
        self.blobs = TracedCalls(
            tracer,
            describe_blob_call,
            common={"portside.storage": kind_of(settings.storage)},
            is_remote=is_remote(settings.storage),
        )
        trusts_all = settings.traces_trust is TracesTrust.EVERYONE
        self.requests = TracedRequests(
            tracer,
            trusts=(lambda _: True) if trusts_all else addresses.is_called_by_proxy,
            client_address=addresses.client_address,
        )

        self.deliveries = TracedDeliveries(tracer)

    async def close(self) -> None:
        """Send the last spans."""
        await self._export.close(self._patience)


def open_export(settings: Settings) -> SpanExport:
    """Return what sends spans; raises SettingsInvalid."""
    try:
        return SpanExport(settings.traces_url, ratio=settings.traces_ratio, environment=os.environ)
    except (ValueError, RuntimeError) as error:
        raise SettingsInvalid(f"OpenTelemetry refuses its variables (OTEL_…): {error}") from error
