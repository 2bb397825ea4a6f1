"""This registry's own tokens: access tokens for requests, refresh tokens for access tokens.

Both are JWTs (RFC 7519) with the claims of Docker's token authentication. Their content is plain
ASCII without `>`, `?` and `~`: ACR's clients decode the payload with the standard alphabet of
base64, which differs from the URL-safe one for these characters only. The claim `exp` is the first:
the SDK for Java reads the payload to the end of the first object in it.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import jwt
from jwt.types import Options

from portside.auth.grants import Grants
from portside.auth.identities import Identity
from portside.auth.tokens.keys import ALGORITHM, KeyRing
from portside.auth.tokens.times import CLOCK_SKEW, explain_times
from portside.stores.access import IdentityKind

ISSUER = "portside"
ACCESS = "access_token"
REFRESH = "refresh_token"
_NAMES = {ACCESS: "an access token", REFRESH: "a refresh token"}

LEEWAY = 5
"""Seconds after its end for which a token is accepted, as the clocks of two nodes may differ."""

TIMES_UNCHECKED: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
"""Options of PyJWT, whose messages do not say by how much the clocks differ."""

_REQUIRED = ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "kind", "grant_type"]


class TokenInvalid(Exception):
    """A token that is not accepted; the message is for its bearer, and shows none of it."""


class TokenClaims(NamedTuple):
    """What a verified token says of its bearer, who may have changed since it was signed.

    `grants` is None for a refresh token of credentials that only the policy limits. `expires` is in
    seconds since 1970.
    """

    identity: Identity
    grants: Grants | None
    expires: int


class TokenFactory:
    """Signs and verifies tokens with a key ring, for one audience.

    `skew` is how many seconds the clock of another node may be ahead.
    """

    def __init__(self, keys: KeyRing, *, audience: str, skew: int = CLOCK_SKEW) -> None:
        self._keys = keys
        self._skew = skew
        self._audience = audience

    def access_token(self, identity: Identity, grants: Grants, *, now: int, life: int) -> str:
        """Return a token that allows its bearer what is granted; times are in seconds."""
        return self._sign(identity, ACCESS, now, now + life, access=grants.claim())

    def refresh_token(
        self, identity: Identity, *, now: int, expires: int, grants: Grants | None = None
    ) -> str:
        """Return a token that replaces the credentials of an identity; times are in seconds.

        It allows no more than they do: `grants` is their limit, if they have one. With the claim
        `aad_identity`, `acr` requests a token for each repository in place of one for all of them,
        as it does where ACR assigns roles by repository.
        """
        limit: dict[str, Any] = {} if grants is None else {"access": grants.claim()}
        by_repository = {} if identity.is_anonymous else {"aad_identity": _plain(identity.name)}
        return self._sign(identity, REFRESH, now, expires, **by_repository, **limit)

    def _sign(
        self, identity: Identity, grant_type: str, now: int, expires: int, **claims: Any
    ) -> str:
        payload = {
            "exp": expires,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "aud": self._audience,
            "sub": _plain(identity.name),
            "kind": str(identity.kind),
            "groups": sorted(_plain(group) for group in identity.groups),
            "stamp": identity.stamp,
            "jti": secrets.token_hex(16),
            "grant_type": grant_type,
            "version": "1.0",
            **claims,
        }
        headers = {"kid": self._keys.newest, "typ": "JWT"}
        return jwt.encode(payload, self._keys.signing, algorithm=ALGORITHM, headers=headers)

    def read_access_token(self, text: str) -> TokenClaims:
        """Return what an access token says; raises TokenInvalid."""
        return self._read(text, ACCESS)

    def read_refresh_token(self, text: str) -> TokenClaims:
        """Return what a refresh token says; raises TokenInvalid."""
        return self._read(text, REFRESH)

    def _read(self, text: str, grant_type: str) -> TokenClaims:
        try:
            key = self._keys.verifying.get(jwt.get_unverified_header(text).get("kid", ""))
            if key is None:
                raise TokenInvalid("the token is signed with an unknown key")
            claims = jwt.decode(
                text,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=ISSUER,
                options={"require": _REQUIRED, "strict_aud": True, **TIMES_UNCHECKED},
            )
            kind = IdentityKind(claims["kind"])
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise TokenInvalid("the token is not valid for this registry") from error
        wrong = explain_times(claims, time.time(), skew=self._skew, grace=LEEWAY)
        if wrong:
            raise TokenInvalid(wrong)
        if claims["grant_type"] != grant_type:
            raise TokenInvalid(f"the token is not {_NAMES[grant_type]}")
        identity = Identity(
            name=unquote(claims["sub"]),
            kind=kind,
            groups=frozenset(unquote(group) for group in claims.get("groups", [])),
            stamp=claims.get("stamp", ""),
        )
        is_limited = grant_type == ACCESS or "access" in claims
        grants = Grants.from_claim(claims.get("access")) if is_limited else None
        return TokenClaims(identity, grants, claims["exp"])


def claimed_issuer(text: str) -> str:
    """Return the issuer that an unverified token names; raises TokenInvalid."""
    try:
        claims = jwt.decode(text, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenInvalid("the token is malformed") from error
    return str(claims.get("iss", ""))


def _plain(text: str) -> str:
    return quote(text, safe=":/@+").replace("~", "%7E")
