"""The keys that sign this registry's tokens (P-256, ES256)."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from portside.stores.access import AccessStore, SigningKey
from portside.stores.actors import NOBODY, Actor

ALGORITHM = "ES256"


def make_key(now: int) -> SigningKey:
    """Return a new key; `now` is in microseconds since 1970."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return SigningKey(_thumbprint(_public_jwk(private)), pem.decode("ascii"), now)


class KeyRing:
    """The signing keys in use: the newest one signs, all of them verify."""

    def __init__(self, keys: list[SigningKey]) -> None:
        loaded = {key.id: _load(key) for key in keys}
        self.newest = keys[0].id
        self.signing = loaded[self.newest]
        self.verifying = {name: key.public_key() for name, key in loaded.items()}
        self.jwks: dict[str, Any] = {
            "keys": [
                {**_public_jwk(key), "kid": name, "use": "sig", "alg": ALGORITHM}
                for name, key in loaded.items()
            ]
        }
        """The published key set (RFC 7517, section 5)."""


async def load_keys(store: AccessStore, now: int) -> KeyRing:
    """Read the keys, and create the first one if there is none."""
    keys = await store.list_keys()
    if not keys:
        await store.add_key(make_key(now), only_first=True)
        keys = await store.list_keys()
    return KeyRing(keys)


async def rotate_keys(
    store: AccessStore, now: int, *, token_life: int, by: Actor = NOBODY
) -> SigningKey:
    """Create a key, which signs from now on; times are in microseconds.

    The older keys still verify, until all tokens that they have signed have expired: a key is
    removed `token_life` after the next newer one replaced it.
    """
    keys = await store.list_keys()
    successors = [now, *(key.created for key in keys)]
    expired = [
        key.id
        for key, replaced in zip(keys, successors, strict=False)
        if replaced + token_life < now
    ]
    if expired:
        await store.remove_keys(expired, by=by)
    key = make_key(now)
    await store.add_key(key, by=by)
    return key


def _load(key: SigningKey) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key.private.encode("ascii"), password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise TypeError(f"the signing key {key.id} is not of the curve P-256")
    return loaded


def _public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """Return the public half of a key, its members in the order that a thumbprint needs."""
    members = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {name: members[name] for name in ("crv", "kty", "x", "y")}


def _thumbprint(jwk: dict[str, str]) -> str:
    """Return the name of a key, made from its public half (RFC 7638, section 3)."""
    canonical = json.dumps(jwk, separators=(",", ":")).encode("ascii")
    digest = hashlib.sha256(canonical).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
