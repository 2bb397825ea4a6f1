"""Errors of requests that reach no operation; they belong to the tree of `errors`.

Unsupported
 +-- EndpointUnknown, MethodNotAllowed
 +-- HeadersTooLarge, HostInvalid
 +-- ContentEncodingUnsupported, TransferEncodingUnsupported
"""

from __future__ import annotations

from portside.spec.errors import Unsupported


class MethodNotAllowed(Unsupported):
    """The endpoint exists, but not with this method; `allowed` are the methods it has."""

    message = "the endpoint does not support this method"

    def __init__(self, allowed: tuple[str, ...], *details: str) -> None:
        super().__init__(*details)
        self.allowed = allowed


class EndpointUnknown(Unsupported):
    """No endpoint has this path."""

    status = 404
    message = "the registry has no such endpoint"


class HeadersTooLarge(Unsupported):
    """The request's header fields are larger than the limit (RFC 6585, section 5)."""

    status = 431
    message = "request header fields are too large"


class HostInvalid(Unsupported):
    """The request does not name one host (RFC 9112, section 3.2)."""

    status = 400
    message = "a request must have one Host header"


class ContentEncodingUnsupported(Unsupported):
    """The body is encoded; its digest is that of the bytes as they are (RFC 9110, 15.5.16)."""

    status = 415
    message = "content encodings are not supported"


class TransferEncodingUnsupported(Unsupported):
    """The body is transferred in a way that the registry does not know (RFC 9112, 6.1)."""

    status = 501
    message = "transfer encodings other than chunked are not supported"
