"""Why `portside serve` does not start; apart from the server, which takes long to import."""

from __future__ import annotations


class ServerError(Exception):
    """The registry cannot be started; the message is for the person who tried."""


class CertificateInvalid(ServerError):
    """The server cannot use a certificate or its key; the message names the file."""
