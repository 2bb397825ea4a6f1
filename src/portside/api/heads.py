"""The head of a request: what has to be right before anything is read of it."""

from __future__ import annotations

from starlette.types import Scope

from portside.spec.errors import (
    ContentEncodingUnsupported,
    HeadersTooLarge,
    HostInvalid,
    TransferEncodingUnsupported,
)

_PLAIN = {b"content-encoding": b"identity", b"transfer-encoding": b"chunked"}


def check_head(scope: Scope, limit: int) -> None:
    """Refuse a head of more than `limit` bytes, without one host, or with an encoded body.

    Raises HeadersTooLarge, HostInvalid, ContentEncodingUnsupported and TransferEncodingUnsupported.
    """
    size = len(scope["path"]) + len(scope["query_string"])
    hosts = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name == b"host":
            hosts += 1 if value else 0
        elif name in _PLAIN and value.strip().lower() != _PLAIN[name]:
            raise _not_plain(name, value)
    if size > limit:
        raise HeadersTooLarge(f"path, query and header fields may have {limit} bytes together")
    if hosts != 1 and scope["http_version"] == "1.1":
        raise HostInvalid(f"{hosts} were sent")


def _not_plain(
    name: bytes, value: bytes
) -> ContentEncodingUnsupported | TransferEncodingUnsupported:
    written = repr(value[:40].decode("latin-1"))
    if name == b"content-encoding":
        return ContentEncodingUnsupported(f"{written}: send the bytes that the digest is of")
    return TransferEncodingUnsupported(written)
