"""The tokens of trusted issuers, verified with the keys that they publish (RFC 7517)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from portside.auth.grants import Caller, Grants
from portside.auth.issuers import ClaimMissing, Issuer
from portside.auth.tokens.own import TIMES_UNCHECKED, TokenInvalid
from portside.auth.tokens.times import CLOCK_SKEW, explain_times
from portside.files.text import FileInvalid
from portside.files.watched import WatchedFile

FETCH_TIMEOUT = 5.0
"""Seconds for the whole response with the keys."""

FETCH_PAUSE = 10.0
"""Seconds between two attempts to fetch keys, however many tokens arrive."""

KEEP = 12
"""How many times their refresh time keys are used if they cannot be fetched again."""

ALGORITHMS = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "EdDSA")
"""Signatures that are accepted, all of them with public keys."""

LEAST_RSA_BITS = 2048

log = logging.getLogger(__name__)


class PublishedKeys:
    """The keys that one issuer publishes at a URL: fetched when needed, and refreshed."""

    def __init__(
        self, issuer: Issuer, pool: ThreadPoolExecutor, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._issuer = issuer
        self._pool = pool
        self._clock = clock
        self._client = jwt.PyJWKClient(
            issuer.jwks_url, cache_jwk_set=False, cache_keys=False, timeout=FETCH_TIMEOUT
        )
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, name: str) -> jwt.PyJWK | None:
        """Return a key, or None if the issuer publishes none of that name or is unreachable."""
        # A request whose key is known does not wait while the keys are refreshed.
        is_enough = self._fetching.locked() and self._known(name) is not None
        if self._is_due(name) and not is_enough:
            async with self._fetching:
                if self._is_due(name):
                    await self._fetch()
        return self._known(name)

    def _known(self, name: str) -> jwt.PyJWK | None:
        return self._keys.get(name) if self._age <= self._issuer.jwks_refresh * KEEP else None

    @property
    def _age(self) -> float:
        return self._clock() - self._fetched

    def _is_due(self, name: str) -> bool:
        is_wanted = name not in self._keys or self._age > self._issuer.jwks_refresh
        return is_wanted and self._clock() - self._tried > FETCH_PAUSE

    async def _fetch(self) -> None:
        """Fetch the keys; the pause begins afterwards, so that all who need them wait for them."""
        loop = asyncio.get_running_loop()
        try:
            # The client's own timeout is for each read, and a server can send byte by byte.
            async with asyncio.timeout(FETCH_TIMEOUT):
                document = await loop.run_in_executor(self._pool, self._client.fetch_data)
            self._keys = _keys_of(document)
        except (
            jwt.PyJWTError,
            ValueError,
            TypeError,
            AttributeError,
            OSError,
            RecursionError,
        ) as error:
            log.warning("cannot fetch the keys of the issuer %s: %s", self._issuer.name, error)
            self._tried = self._clock()
            return
        self._fetched = self._tried = self._clock()


class KeyFile:
    """The keys of an issuer in a file, which is read again when it changes.

    There are no keys until the file could be used once.
    """

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._file: WatchedFile[dict[str, jwt.PyJWK]] | None = None
        try:
            self._file = read_key_file(issuer)
        except FileInvalid as error:
            log.error("%s; tokens of the issuer %s are rejected", error, issuer.name)  # noqa: TRY400

    async def find(self, name: str) -> jwt.PyJWK | None:
        """Return a key, or None if there is none of that name."""
        if self._file is None:
            with suppress(FileInvalid):
                self._file = read_key_file(self._issuer)
        return self._file.content.get(name) if self._file is not None else None


def read_key_file(issuer: Issuer) -> WatchedFile[dict[str, jwt.PyJWK]]:
    """Read the keys of an issuer that names a file; raises FileInvalid."""
    return WatchedFile(issuer.jwks_file, partial(_parse_keys, name=issuer.jwks_file))


def _parse_keys(text: str, *, name: str) -> dict[str, jwt.PyJWK]:
    try:
        found = jwt.PyJWKSet.from_json(text)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FileInvalid(f"{name} is not a JSON Web Key Set (RFC 7517): {error}") from error
    return _usable(found, name)


def _keys_of(document: Any) -> dict[str, jwt.PyJWK]:
    """Read a set of keys; an issuer that has withdrawn all of its keys publishes an empty set."""
    if document == {"keys": []}:
        return {}
    return _usable(jwt.PyJWKSet.from_dict(document), "a published key set")


def _usable(found: jwt.PyJWKSet, source: str) -> dict[str, jwt.PyJWK]:
    """Return the keys that may verify tokens, by name; the others are logged and left out."""
    usable: dict[str, jwt.PyJWK] = {}
    for key in found.keys:
        reason = _fault_of(key)
        if reason:
            log.warning("%s: the key %r is ignored: %s", source, key.key_id, reason)
        elif key.key_id:
            usable[key.key_id] = key
    return usable


def _fault_of(key: jwt.PyJWK) -> str:
    """Return why a key may not verify tokens, or nothing (RFC 7517, section 4; RFC 7518, 3.3)."""
    uses, operations = key.public_key_use, key._jwk_data.get("key_ops")  # noqa: SLF001  # no other door
    if uses is not None and uses != "sig":
        return f"its use is {uses!r}, not 'sig'"
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        return "its key_ops do not contain 'verify'"
    if key.algorithm_name not in ALGORITHMS:
        return f"its algorithm {key.algorithm_name} is not accepted"
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < LEAST_RSA_BITS:
        return f"an RSA key needs at least {LEAST_RSA_BITS} bits, and it has {key.key.key_size}"
    return ""


class TrustedIssuers:
    """Verifies the tokens of all trusted issuers.

    `skew` is by how many seconds their clocks may differ from this registry's.
    """

    def __init__(
        self, issuers: tuple[Issuer, ...], pool: ThreadPoolExecutor, *, skew: int = CLOCK_SKEW
    ) -> None:
        self._skew = skew
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._keys = {
            issuer.issuer: KeyFile(issuer) if issuer.jwks_file else PublishedKeys(issuer, pool)
            for issuer in issuers
        }

    async def read(self, text: str, issuer_name: str) -> Caller:
        """Return whose token of an issuer this is; raises TokenInvalid."""
        issuer = self._issuers.get(issuer_name)
        if issuer is None:
            raise TokenInvalid("the issuer of the token is not trusted")
        try:
            header = jwt.get_unverified_header(text)
            key = await self._keys[issuer_name].find(header.get("kid", ""))
            if key is None:
                raise TokenInvalid("the token is signed with an unknown key")
            if header.get("alg") != key.algorithm_name:
                raise TokenInvalid("the token is signed with another algorithm than its key")
            claims = jwt.decode(
                text,
                key,
                algorithms=list(ALGORITHMS),
                audience=issuer.audience,
                issuer=issuer.issuer,
                options={"require": ["iss", "aud", "exp"], **TIMES_UNCHECKED},
            )
            wrong = explain_times(claims, time.time(), skew=self._skew, grace=self._skew)
            if wrong:
                raise TokenInvalid(wrong)
            identity = issuer.identify(claims)
        except ClaimMissing as error:
            raise TokenInvalid(str(error)) from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise TokenInvalid("the token is not valid for this registry") from error
        grants = Grants.from_claim(claims["access"]) if "access" in claims else None
        return Caller(identity, grants, int(claims["exp"]) + self._skew)
