"""Errors of access control; they belong to the tree of `errors`.

    RegistryError
     +-- Unauthorized
     +-- Denied
     +-- TooManyRequests
     +-- Unsupported
     |    +-- GrantTypeUnsupported
     +-- SizeInvalid
          +-- FormTooLarge

Those of the token server are answered in the same way as all others.
"""

from __future__ import annotations

from portside.spec.errors import RegistryError, SizeInvalid, Unsupported


class Unauthorized(RegistryError):
    """The request needs credentials, or other ones (code-11).

    `challenge` is the WWW-Authenticate header that tells the client how to get them.
    """

    code = "UNAUTHORIZED"
    status = 401
    message = "authentication required"

    def __init__(self, challenge: str, *details: str) -> None:
        super().__init__(*details)
        self.challenge = challenge


class Denied(RegistryError):
    """The identity is known, and may not do this (code-12).

    `challenge` is for dialects that know no status but 401 for this.
    """

    code = "DENIED"
    status = 403
    message = "requested access to the resource is denied"

    def __init__(self, challenge: str, *details: str) -> None:
        super().__init__(*details)
        self.challenge = challenge


class TooManyRequests(RegistryError):
    """Too many failed attempts to authenticate; `seconds` is how long to wait (code-14)."""

    code = "TOOMANYREQUESTS"
    status = 429
    message = "too many requests"

    def __init__(self, seconds: int, *details: str) -> None:
        super().__init__(*details)
        self.seconds = seconds


class GrantTypeUnsupported(Unsupported):
    """A token was asked for in a way that the token server does not know (RFC 6749, 5.2)."""

    status = 400
    message = "the grant type is not supported"


class FormTooLarge(SizeInvalid):
    """A request to the token server is larger than any that makes sense."""

    status = 413
    message = "the form is larger than the token server accepts"
