"""Tokens of trusted issuers, verified with the keys that they publish (RFC 7517)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import jwt

from portside.auth.files import FileInvalid, WatchedFile
from portside.auth.grants import Grants
from portside.auth.identities import Identity
from portside.auth.issuers import ALGORITHMS, ClaimMissing, Issuer
from portside.auth.tokens.own import LEEWAY, TokenInvalid

FETCH_TIMEOUT = 5.0
"""Seconds for the whole of an answer with keys."""

FETCH_PAUSE = 10.0
"""Seconds between two attempts to fetch keys, whatever tokens arrive meanwhile."""

KEEP = 12
"""Keys that cannot be fetched again are used for as many times their refresh time, no longer."""

log = logging.getLogger(__name__)


class ForeignToken(NamedTuple):
    """What a verified token says; `grants` is None if it limits nothing. Seconds since 1970."""

    identity: Identity
    grants: Grants | None
    expires: int


class PublishedKeys:
    """The keys that one issuer publishes at a URL: fetched when needed, and again after a while."""

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
        """Give a key, or None if the issuer publishes none of that name or cannot be asked."""
        # Whoever has a key need not wait while it is fetched again; whoever has none does.
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
        """Fetch once; only then the pause begins, so that all who need the keys wait for them."""
        loop = asyncio.get_running_loop()
        try:
            # The client's own limit is for each read, and a server can drip.
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
            log.warning("the keys of the issuer %s cannot be fetched: %s", self._issuer.name, error)
            self._tried = self._clock()
            return
        self._fetched = self._tried = self._clock()


class KeyFile:
    """The keys of an issuer in a file, read again when it changes.

    There are none as long as it was never usable: no request can mend it.
    """

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._file: WatchedFile[dict[str, jwt.PyJWK]] | None = None
        try:
            self._file = read_key_file(issuer)
        except FileInvalid as error:
            log.error("%s; no token of the issuer %s is accepted", error, issuer.name)  # noqa: TRY400

    async def find(self, name: str) -> jwt.PyJWK | None:
        """Give a key, or None if there is none of that name."""
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
        raise FileInvalid(f"{name} is not a set of keys (RFC 7517): {error}") from error
    return {key.key_id: key for key in found.keys if key.key_id}


def _keys_of(document: Any) -> dict[str, jwt.PyJWK]:
    """Read a set of keys; an issuer that has withdrawn all of them publishes an empty one."""
    if document == {"keys": []}:
        return {}
    found = jwt.PyJWKSet.from_dict(document)
    return {key.key_id: key for key in found.keys if key.key_id}


class ForeignTokens:
    """Verifies the tokens of all trusted issuers."""

    def __init__(self, issuers: tuple[Issuer, ...], pool: ThreadPoolExecutor) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._keys = {
            issuer.issuer: KeyFile(issuer) if issuer.jwks_file else PublishedKeys(issuer, pool)
            for issuer in issuers
        }

    async def read(self, text: str, issuer_name: str) -> ForeignToken:
        """Verify a token of an issuer; raises TokenInvalid."""
        issuer = self._issuers.get(issuer_name)
        if issuer is None:
            raise TokenInvalid("the token is of an issuer that is not trusted here")
        try:
            key = await self._keys[issuer_name].find(jwt.get_unverified_header(text).get("kid", ""))
            if key is None:
                raise TokenInvalid("the token is signed by a key that is not known here")
            claims = jwt.decode(
                text,
                key,
                algorithms=list(ALGORITHMS),
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", "exp"]},
            )
            identity = issuer.identify(claims)
        except jwt.ExpiredSignatureError as error:
            raise TokenInvalid("the token has expired") from error
        except ClaimMissing as error:
            raise TokenInvalid(str(error)) from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise TokenInvalid("the token is not valid here") from error
        grants = Grants.from_claim(claims["access"]) if "access" in claims else None
        return ForeignToken(identity, grants, int(claims["exp"]))
