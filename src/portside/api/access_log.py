"""The access log: one line for each request, when it has ended."""

from __future__ import annotations

import logging
from typing import Any, TextIO
from urllib.parse import unquote_plus

import msgspec
from starlette.types import Scope

from portside.api.addresses import Addresses
from portside.api.log_lines import line_handler, written_time
from portside.api.records import RequestRecord

log = logging.getLogger(__name__)

SECRET_NAMES = ("password", "secret", "token", "assertion")
"""Parts of the names of query parameters whose values are secret."""

SECRET_PATHS = ("/oauth2", "/token")
"""The token server's paths, where any parameter may hold a credential."""

MASK = "***"

_SCHEMES = frozenset({"basic", "bearer"})


def log_to(stream: TextIO) -> None:
    """Write the lines to a stream."""
    log.handlers = [line_handler(stream)]
    log.setLevel(logging.INFO)
    log.propagate = False


class AccessLog:
    """Writes the line of each request: a JSON object, or with `as_text` a line for a person."""

    def __init__(self, addresses: Addresses, *, as_text: bool = False) -> None:
        self._addresses = addresses
        self._write = _as_text if as_text else _json

    def __call__(self, record: RequestRecord, scope: Scope) -> None:
        """Log a request."""
        log.info("%s", self._write(self._entry(record, scope)))

    def _entry(self, record: RequestRecord, scope: Scope) -> dict[str, Any]:
        """Return what the line tells; what is not known is None."""
        endpoint, identity = record.endpoint, record.identity
        headers = dict(scope["headers"])
        agent = headers.get(b"user-agent")
        return {
            "time": written_time(record.received),
            "request": record.id,
            "trace": record.trace or None,
            "client": self._addresses.client_address(scope) or None,
            "identity": (identity.name or None) if identity is not None else None,
            "token": identity.name if identity is not None and identity.is_token else None,
            "scheme": _scheme(headers.get(b"authorization", b"")),
            "method": scope["method"],
            "path": scope["path"],
            "query": _masked(scope["path"], scope["query_string"].decode("latin-1")),
            "operation": endpoint.operation if endpoint is not None else None,
            "repository": record.name or None,
            "reference": record.last or None,
            "digest": record.digest or None,
            "status": record.status,
            "error": record.error or None,
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "seconds": round(record.seconds, 6),
            "first_byte": round(record.first_byte, 6),
            "agent": agent.decode("latin-1") if agent is not None else None,
        }


def _json(content: object) -> str:
    return msgspec.json.encode(content).decode("utf-8")


def _as_text(entry: dict[str, Any]) -> str:
    """Return the line for a person; what others choose is in quotes."""
    query = f"?{entry['query']}" if entry["query"] else ""
    parts = (
        entry["time"],
        "ACCESS",
        entry["client"] or "-",
        _json(entry["identity"]) if entry["identity"] else "-",
        _json(f"{entry['method']} {entry['path']}{query}"),
        entry["status"],
        entry["error"] or "-",
        f"in={entry['bytes_in']}",
        f"out={entry['bytes_out']}",
        f"{entry['seconds']:.3f}s",
        _json(entry["agent"]) if entry["agent"] else "-",
        f"request {entry['request']}",
        *((f"trace {entry['trace']}",) if entry["trace"] else ()),
    )
    return " ".join(map(str, parts))


def _scheme(authorization: bytes) -> str | None:
    """Return the scheme of the credentials, or None if there are none of a scheme that is read."""
    scheme = authorization[:7].split(b" ")[0].decode("latin-1").lower()
    return scheme if scheme in _SCHEMES else None


def _masked(path: str, query: str) -> str:
    """Return a query with the values masked that may be secret."""
    if not query:
        return ""
    is_secret = path.lower().startswith(SECRET_PATHS)
    return "&".join(_masked_pair(pair, is_secret=is_secret) for pair in query.split("&"))


def _masked_pair(pair: str, *, is_secret: bool) -> str:
    name, equals, _ = pair.partition("=")
    if not equals:
        return MASK if is_secret and pair else pair
    known = unquote_plus(name).lower()
    if is_secret or any(part in known for part in SECRET_NAMES):
        return f"{name}={MASK}"
    return pair
