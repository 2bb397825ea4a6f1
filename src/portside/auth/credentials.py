"""Credentials of a request, as sent in the Authorization header (RFC 7617, RFC 6750)."""

from __future__ import annotations

import binascii
from typing import NamedTuple


class BasicCredentials(NamedTuple):
    """A name and a password."""

    name: str
    password: str


class BearerCredentials(NamedTuple):
    """A token."""

    token: str


class CredentialsMalformed(Exception):
    """An Authorization header that is not valid Basic or Bearer; the message never shows it."""


def parse_authorization(header: str | None) -> BasicCredentials | BearerCredentials | None:
    """Read an Authorization header.

    An empty name with an empty password counts as no credentials: clients that were asked for Basic
    send that if they have no password for the registry.

    Raises CredentialsMalformed.
    """
    if header is None:
        return None
    scheme, _, rest = header.strip().partition(" ")
    value = rest.strip()
    if scheme.lower() == "bearer" and value:
        return BearerCredentials(value)
    if scheme.lower() != "basic":
        raise CredentialsMalformed("the Authorization header must be Basic or Bearer")
    try:
        decoded = binascii.a2b_base64(value, strict_mode=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise CredentialsMalformed("the Basic credentials are not UTF-8 text in base64") from error
    name, colon, password = decoded.partition(":")
    if not colon:
        raise CredentialsMalformed("the Basic credentials have no colon")
    return BasicCredentials(name, password) if name or password else None
