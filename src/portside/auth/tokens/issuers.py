"""Trusted issuers: others whose tokens are accepted, as the access file names them.

Their tokens are verified with the keys that they publish (RFC 7517).
"""

from __future__ import annotations

import asyncio
import logging
import string
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Meta

from portside.auth.files import FileInvalid, WatchedFile
from portside.auth.grants import Caller, Grants
from portside.auth.identities import Identity
from portside.auth.tokens.own import TIMES_UNCHECKED, TokenInvalid
from portside.auth.tokens.times import CLOCK_SKEW, explain_times
from portside.stores.access import IdentityKind

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

Claims = dict[str, Any]

_FORMATTER = string.Formatter()

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class IssuerInvalid(ValueError):
    """An `[[issuer]]` table that cannot be used; the message is for the person who wrote it."""


class ClaimMissing(Exception):
    """A token of a trusted issuer lacks a claim that names the identity."""


class Issuer(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="kebab"):
    """One `[[issuer]]` table.

    `identity` is a template of claims, such as `{sub}` or `{repository}/{environment}`. The result
    is prefixed with `name` and a colon, which no user's name can contain, so that nobody can be
    mistaken for a user of the registry. `groups_claim` names a claim with a list of groups, which
    get the same prefix. `jwks_refresh` is in seconds.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}\Z")]
    issuer: str
    audience: str
    jwks_file: str = ""
    jwks_url: str = ""
    jwks_refresh: Annotated[int, Meta(ge=10)] = 300
    identity: str = "{sub}"
    groups_claim: str = ""

    def check(self) -> None:
        """Refuse settings that could let anybody in; raises IssuerInvalid."""
        place = f"[[issuer]] {self.name}"
        if not self.issuer or not self.audience:
            raise IssuerInvalid(f"{place}: issuer and audience are required")
        if bool(self.jwks_file) == bool(self.jwks_url):
            raise IssuerInvalid(f"{place}: set either jwks-file or jwks-url")
        if self.jwks_url and not _is_safe(self.jwks_url):
            raise IssuerInvalid(
                f"{place}: jwks-url must begin with https:// (http:// for loopback)"
            )
        try:
            parsed = _FORMATTER.parse(self.identity)
            fields = [field for _, field, _, _ in parsed if field is not None]
        except ValueError as error:
            raise IssuerInvalid(f"{place}: identity {self.identity!r}: {error}") from error
        if not fields or not all(field.replace("_", "a").isalnum() for field in fields):
            shape = f"{place}: identity must contain claims in braces, such as {{sub}}"
            raise IssuerInvalid(shape)

    def identify(self, claims: Claims) -> Identity:
        """Return the identity that verified claims name; raises ClaimMissing."""
        pieces: list[str] = []
        for literal, field, _, _ in _FORMATTER.parse(self.identity):
            pieces.append(literal)
            if field is not None:
                pieces.append(self._claim(claims, field))
        groups = claims.get(self.groups_claim, []) if self.groups_claim else []
        if not isinstance(groups, list):
            groups = [groups]
        return Identity(
            name=f"{self.name}:{''.join(pieces)}",
            kind=IdentityKind.FOREIGN,
            groups=frozenset(f"{self.name}:{group}" for group in groups if _is_text(group)),
        )

    def _claim(self, claims: Claims, name: str) -> str:
        value = claims.get(name)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number and (value == "" or not _is_text(value)):
            raise ClaimMissing(f"the token of {self.name} has no text in the claim {name!r}")
        return str(value)


def check_issuers(issuers: Iterable[Issuer]) -> None:
    """Refuse invalid issuers, and two that could be confused; raises IssuerInvalid."""
    names: set[str] = set()
    urls: set[str] = set()
    for issuer in issuers:
        issuer.check()
        if issuer.name in names or issuer.issuer in urls:
            twice = f"[[issuer]] {issuer.name}: another issuer has the same name or URL"
            raise IssuerInvalid(twice)
        names.add(issuer.name)
        urls.add(issuer.issuer)


def _is_text(value: object) -> bool:
    """Whether a claim is text that can be encoded; JSON can hold lone surrogates."""
    try:
        return isinstance(value, str) and value.encode("utf-8") is not None
    except UnicodeEncodeError:
        return False


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    return is_local or (parts.scheme == "https" and bool(parts.hostname))


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
            if header["alg"] != key.algorithm_name:
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
