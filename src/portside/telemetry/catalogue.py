"""Every metric, declared once: its name, type, labels and meaning.

Names and units follow Prometheus' conventions. The values of a label are few and known: operations,
statuses, error codes, never a repository or an identity. What is declared here and not described in
`docs/reference/metrics.md` fails the tests.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Kind(enum.StrEnum):
    """The types of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(enum.StrEnum):
    """How the values that the workers have of a gauge become one, in the words of the library."""

    SUM = "livesum"
    MOST = "max"
    NEWEST = "mostrecent"


class Metric(NamedTuple):
    """A metric; only a histogram has `bounds`, in seconds."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merge: Merge = Merge.SUM


_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds until an answer begins, and for what is done for it."""

_DURATION = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds for a whole request: a large blob on a slow line takes long, and nothing is wrong."""

_LOOKUP = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
"""Seconds for a call of a database: a lookup takes microseconds in SQLite."""


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"portside_{name}_total", Kind.COUNTER, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str, merge: Merge = Merge.SUM) -> Metric:
    return Metric(f"portside_{name}", Kind.GAUGE, meaning, labels, merge=merge)


def _seconds(name: str, meaning: str, bounds: tuple[float, ...], *labels: str) -> Metric:
    return Metric(f"portside_{name}_seconds", Kind.HISTOGRAM, meaning, labels, bounds)


def _newest(name: str, meaning: str, *labels: str) -> Metric:
    return _gauge(name, meaning, *labels, merge=Merge.NEWEST)


REQUESTS = _counter(
    "http_requests",
    "Requests that have ended; a status of 0 means that no response was begun",
    "operation",
    "status",
)
REQUEST_ERRORS = _counter("http_errors", "Responses with an error, by its code", "code")
REQUEST_SECONDS = _seconds(
    "http_request_duration",
    "Time from the headers of a request to the end of its response",
    _DURATION,
    "operation",
    "status_class",
)
FIRST_BYTE_SECONDS = _seconds(
    "http_first_byte",
    "Time from the headers of a request to those of its response",
    _LATENCY,
    "operation",
    "status_class",
)
BYTES_IN = _counter(
    "http_received_bytes", "Bytes of the bodies of requests", "operation", "status_class"
)
BYTES_OUT = _counter(
    "http_sent_bytes", "Bytes of the bodies of responses", "operation", "status_class"
)
IN_FLIGHT = _gauge("http_requests_in_flight", "Requests that have not ended")

DATABASE_SECONDS = _seconds(
    "database_call_duration", "Time for a call of the database", _LOOKUP, "call"
)
DATABASE_ERRORS = _counter(
    "database_errors", "Calls that the database failed; `full` is a full disk", "call", "error"
)
DATABASE_RETRIES = _counter("database_retries", "Transactions and reads that were run again")
CONNECTIONS_IN_USE = _gauge("database_connections_in_use", "Connections of the pool at work")
CONNECTIONS_MOST = _gauge("database_connections_max", "Connections that the pool may have")
CONNECTION_WAITERS = _gauge("database_connection_waiters", "Requests that wait for a connection")
WRITE_QUEUE = _gauge("database_write_queue_length", "Writes that wait for the writer of SQLite")

STORAGE_SECONDS = _seconds(
    "storage_call_duration", "Time for a call of the blob store", _LATENCY, "call"
)
STORAGE_ERRORS = _counter(
    "storage_errors", "Calls that the blob store failed; `full` is a full disk", "call", "error"
)

LOGINS = _counter(
    "logins",
    "Passwords verified: accepted, refused as wrong, or limited after too many attempts",
    "outcome",
)

COLLECTIONS = _counter("collection_rounds", "Rounds of the garbage collector", "outcome")
COLLECTED_BYTES = _counter("collection_freed_bytes", "Bytes of blobs that were collected")
COLLECTED_BLOBS = _counter("collection_removed_blobs", "Blobs that were collected")
COLLECTED_MANIFESTS = _counter("collection_purged_manifests", "Deleted manifests that were purged")
COLLECTED_AT = _gauge(
    "collection_last_success_timestamp_seconds",
    "When the last round ended without an error; 0 before the first one",
    merge=Merge.MOST,
)
EXPIRED_UPLOADS = _counter("expired_uploads", "Upload sessions that expired")
RETENTIONS = _counter("retention_rounds", "Times the rules of retention were applied", "outcome")
RETENTION_TAGS = _counter("retention_deleted_tags", "Tags that the rules deleted")
RETENTION_MANIFESTS = _counter("retention_deleted_manifests", "Manifests that the rules deleted")
RETAINED_AT = _gauge(
    "retention_last_success_timestamp_seconds",
    "When the rules of retention were last applied without an error; 0 before the first time",
    merge=Merge.MOST,
)

DELIVERIES = _counter(
    "webhook_deliveries",
    "Attempts to deliver an event: `delivered`, `failed`, or `dead`, which is not tried again",
    "webhook",
    "outcome",
)
DELIVERIES_WAITING = _newest("webhook_waiting", "Deliveries that wait", "webhook")
DELIVERIES_DEAD = _newest("webhook_dead", "Deliveries that are dead", "webhook")
OLDEST_DELIVERY = _newest(
    "webhook_oldest_seconds",
    "Age of the first delivery that waits; 0 if none does, or the webhook is paused",
    "webhook",
)
EVENTS_WAITING = _newest(
    "webhook_events_waiting", "Events that the webhook has not read, wanted or not", "webhook"
)

REPOSITORIES = _newest("repositories", "Repositories that hold a manifest or a blob")
MANIFESTS = _newest("manifests", "Manifests that are not deleted")
TAGS = _newest("tags", "Tags")
MANIFEST_BYTES = _newest("manifest_bytes", "Bytes of manifests, of deleted ones too")
BLOBS = _newest("blobs", "Blobs, each once")
BLOB_BYTES = _newest("blob_bytes", "Bytes of blobs, each once")
UPLOADS_OPEN = _newest("uploads_open", "Upload sessions that are open")
COUNTED_AT = _newest("counted_timestamp_seconds", "When the content was last counted")

READY = _newest(
    "ready", "1 if a store works, 0 if not: what /readyz and /readyz/writes say", "store", "work"
)
DISK_FREE = _newest("disk_free_bytes", "Bytes that are free on the disk of a store", "store")
DISK_RESERVE = _newest("disk_reserve_bytes", "Bytes that pushes leave free: `reserve-bytes`")

BUILD = _gauge(
    "build_info", "1, with what the registry is made of", "version", "python", "database", "storage"
)
WORKERS = _gauge("workers", "Worker processes that run")
CPU = _counter("process_cpu_seconds", "Processor time of all processes, of ended workers too")
MEMORY = _gauge(
    "process_resident_memory_bytes", "Memory of all processes; shared pages count twice"
)
DESCRIPTORS = _gauge("process_open_fds", "Open descriptors of all processes")
DESCRIPTORS_MOST = _gauge("process_max_fds", "Descriptors that each process may have open")
STARTED_AT = _gauge("process_start_time_seconds", "When the registry was started")

METRICS = tuple(value for value in tuple(globals().values()) if isinstance(value, Metric))
"""All of them, in this order."""

OF_FIRST_PROCESS = (BUILD, WORKERS, CPU, MEMORY, DESCRIPTORS, DESCRIPTORS_MOST, STARTED_AT)
"""Those that the first process reads when it is asked; the workers have the others."""
