"""Signatures of documents, in the format of Docker's libtrust (a JWS inside of the document).

Clients check that a document and its signature belong together, and trust no key in particular. So
a signer has a key of its own, made when it is first needed and never stored, as distribution has
without `signingkeyfile`; the keys of tokens sign nothing whose content others choose.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

_INDENT = "   "
_NUMBER = 32
"""Bytes of a coordinate and of half a signature of P-256 (RFC 7518, sections 3.4 and 6.2)."""

_TAIL = b"\n}"


class _Key(NamedTuple):
    private: ec.EllipticCurvePrivateKey
    jwk: dict[str, str]


class DocumentSigner:
    """Signs JSON documents with ES256; `clock` returns the time in microseconds since 1970."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    @cached_property
    def _key(self) -> _Key:
        private = ec.generate_private_key(ec.SECP256R1())
        public = private.public_key()
        numbers = public.public_numbers()
        jwk = {
            "crv": "P-256",
            "kid": _key_id(public),
            "kty": "EC",
            "x": _base64(numbers.x.to_bytes(_NUMBER, "big")),
            "y": _base64(numbers.y.to_bytes(_NUMBER, "big")),
        }
        return _Key(private, jwk)

    def sign(self, document: bytes) -> bytes:
        """Return an indented JSON object with the field `signatures` added at its end.

        The signed bytes are those of `document`; the protected header says how to restore them.
        """
        if not document.endswith(_TAIL):
            raise ValueError("only an indented JSON object can be signed")
        formatted = document.removesuffix(_TAIL)
        moment = datetime.fromtimestamp(self._clock() // 1_000_000, UTC)
        protected = _base64(
            _json(
                {
                    "formatLength": len(formatted),
                    "formatTail": _base64(_TAIL),
                    "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            )
        )
        signing_input = f"{protected}.{_base64(document)}".encode("ascii")
        block = {
            "header": {"jwk": self._key.jwk, "alg": "ES256"},
            "signature": _base64(self._signature(signing_input)),
            "protected": protected,
        }
        shown = json.dumps([block], indent=_INDENT).replace("\n", f"\n{_INDENT}")
        added = f',\n{_INDENT}"signatures": {shown}'
        return formatted + added.encode("ascii") + _TAIL

    def _signature(self, content: bytes) -> bytes:
        """Return both halves of a signature (RFC 7518, section 3.4)."""
        halves = decode_dss_signature(self._key.private.sign(content, ec.ECDSA(hashes.SHA256())))
        return b"".join(half.to_bytes(_NUMBER, "big") for half in halves)


def _key_id(public: ec.EllipticCurvePublicKey) -> str:
    """Return libtrust's name of a key: 240 bits of a hash, as twelve groups of base32."""
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode("ascii")
    return ":".join(text[start : start + 4] for start in range(0, len(text), 4))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
