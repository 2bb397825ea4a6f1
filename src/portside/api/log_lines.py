"""The lines of every log: one for each record, in which nothing from outside can pass for another.

Paths, names, user agents and the answers of other servers reach the log. A line break among them
would forge a record, and an escape sequence would act on the reader's terminal (CWE-117).
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import msgspec

# C0, DEL and C1; the line and paragraph separators, at which some viewers break lines; and what
# reverses the order of the characters after it.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

CONTINUED = "    "
"""Begins every line of a traceback, and no record."""

ExceptionInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def escape_controls(text: str) -> str:
    """Return a text with its control characters escaped as in JSON, so that it is one line."""
    return _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


class LineFormatter(logging.Formatter):
    """Writes a record as one line, and indents the traceback that may follow it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # as logging has it
        """Return the line of a record."""
        return escape_controls(super().formatMessage(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the time of a record."""
        del datefmt
        return written_time(record.created)

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802
        """Return the lines of a traceback."""
        return _continued(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Return the lines of a stack."""
        return _continued(super().formatStack(stack_info))


def _continued(text: str) -> str:
    return "\n".join(CONTINUED + escape_controls(line) for line in text.split("\n"))


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        entry: dict[str, Any] = {
            "time": written_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _encodable(record.getMessage()),
        }
        if record.exc_info:
            entry["traceback"] = _encodable(self.formatException(record.exc_info))
        return escape_controls(msgspec.json.encode(entry).decode("utf-8"))


def _encodable(text: str) -> str:
    """Return a text without lone surrogates, which names of files have that are not in UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def written_time(seconds: float) -> str:
    """Return a time in seconds since 1970 as logs have it: RFC 3339, in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line_handler(stream: TextIO, line: str = "%(message)s") -> logging.Handler:
    """Return a handler that writes records to a stream; `line` is the format of a record."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(line))
    return handler


def log_formatter(*, as_json: bool) -> logging.Formatter:
    """Return the formatter of the log, with the time and the level of each record."""
    if as_json:
        return JsonFormatter()
    return LineFormatter("%(asctime)s %(levelname)s %(message)s")
