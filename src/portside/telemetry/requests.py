"""Requests by operation and status, counted from their records."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from portside.api.records import Recorder, RequestRecord
from portside.telemetry import catalogue
from portside.telemetry.tallies import Sample, Tally

NO_OPERATION = "none"
"""The operation of requests that reached no endpoint."""

_DURATIONS = catalogue.REQUEST_SECONDS.bounds
_LATENCIES = catalogue.FIRST_BYTE_SECONDS.bounds


class Requests:
    """Reads the record of each request."""

    def __init__(self) -> None:
        self._statuses: dict[tuple[str, int], _OfStatus] = {}
        self._classes: dict[tuple[str, str], _OfClass] = {}
        self._errors = Counter[str]()

    def __call__(self, record: RequestRecord, _: object) -> None:
        """Count one request."""
        endpoint = record.endpoint
        operation = endpoint.operation if endpoint is not None else NO_OPERATION
        key = (operation, record.status)
        counted = self._statuses.get(key)
        if counted is None:
            counted = self._statuses[key] = _OfStatus(self._class_of(*key))
        counted.requests += 1
        of_class = counted.of_class
        of_class.bytes_in += record.bytes_in
        of_class.bytes_out += record.bytes_out
        # Written out, as calls would take longer than the rest.
        seconds, first_byte = record.seconds, record.first_byte
        of_class.seconds.seconds += seconds
        of_class.seconds.counts[bisect_left(_DURATIONS, seconds)] += 1
        of_class.first_byte.seconds += first_byte
        of_class.first_byte.counts[bisect_left(_LATENCIES, first_byte)] += 1
        if record.error:
            self._errors[record.error] += 1

    def _class_of(self, operation: str, status: int) -> _OfClass:
        key = (operation, f"{status // 100}xx")
        found = self._classes.get(key)
        if found is None:
            found = self._classes[key] = _OfClass()
        return found

    def samples(self) -> Iterator[Sample]:
        """Read what was counted."""
        for (operation, status), counted in self._statuses.items():
            yield Sample(catalogue.REQUESTS, counted.requests, (operation, str(status)))
        for labels, of_class in self._classes.items():
            yield Sample(catalogue.BYTES_IN, of_class.bytes_in, labels)
            yield Sample(catalogue.BYTES_OUT, of_class.bytes_out, labels)
            yield Sample(catalogue.REQUEST_SECONDS, of_class.seconds, labels)
            yield Sample(catalogue.FIRST_BYTE_SECONDS, of_class.first_byte, labels)
        for code, count in self._errors.items():
            yield Sample(catalogue.REQUEST_ERRORS, count, (code,))


def running(recorder: Recorder) -> Iterator[Sample]:
    """Read how many requests have not ended."""
    yield Sample(catalogue.IN_FLIGHT, recorder.running)


class _OfStatus:
    """The requests of an operation that were answered with one status."""

    __slots__ = ("of_class", "requests")

    def __init__(self, of_class: _OfClass) -> None:
        self.requests = 0
        self.of_class = of_class


class _OfClass:
    """The requests of an operation that were answered with a status of one class."""

    __slots__ = ("bytes_in", "bytes_out", "first_byte", "seconds")

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.seconds = Tally(catalogue.REQUEST_SECONDS.bounds)
        self.first_byte = Tally(catalogue.FIRST_BYTE_SECONDS.bounds)
