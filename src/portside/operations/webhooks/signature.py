"""Signatures as Standard Webhooks 1.0 has them, which receivers verify with its libraries."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from portside.files.text import FileUnreadable, read_text
from portside.spec.webhooks import Secret, SecretInvalid, SecretSource, Webhook

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"


class SecretUnreadable(Exception):
    """A secret cannot be read; the message says where it should be, and does not show it."""


class Signer:
    """Signs what is sent to webhooks, with secrets from files or from variables of `environment`.

    They are read for each signature.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def sign(self, webhook: Webhook, delivery: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the headers of one attempt; without a secret, they have no signature.

        `delivery` is an id without dots, the same in each attempt. `timestamp` is when this one is
        made, in seconds since 1970. Raises SecretUnreadable.
        """
        headers = {ID: delivery, TIMESTAMP: str(timestamp)}
        secrets = self.read(webhook.secret)
        if secrets:
            content = b"%b.%d.%b" % (delivery.encode(), timestamp, body)
            # Receivers accept any of several, so that a secret can be replaced without a pause.
            headers[SIGNATURE] = " ".join(_signature(secret, content) for secret in secrets)
        return headers

    def read(self, source: SecretSource) -> Sequence[Secret]:
        """Return the secrets in a place, of which the text has one or several; none of no place.

        Raises SecretUnreadable.
        """
        if source == SecretSource():
            return ()
        texts = self._text(source).split()
        if not texts:
            raise SecretUnreadable(f"{source} is empty")
        try:
            return [Secret.parse(text) for text in texts]
        except SecretInvalid as error:
            raise SecretUnreadable(f"{source}: {error}") from error

    def _text(self, source: SecretSource) -> str:
        if source.variable:
            text = self._environment.get(source.variable)
            if text is None:
                raise SecretUnreadable(f"{source} is not set")
            return text
        try:
            return read_text(source.file)
        except FileUnreadable as error:
            raise SecretUnreadable(str(error)) from error


def _signature(secret: Secret, content: bytes) -> str:
    """Return one part of the header: the version of the scheme, and the HMAC."""
    code = hmac.new(secret.key, content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(code).decode()}"
