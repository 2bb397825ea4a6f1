"""Why `portside serve` does not start; apart from it, for it takes long to import."""

from __future__ import annotations


class ServerError(Exception):
    """The registry cannot be started; the message is for the person who tried."""


class CertificateInvalid(Exception):
    """The server cannot use a certificate or a key; the message is for whoever named the file."""
