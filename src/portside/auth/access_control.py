"""Access control: who makes a request, and what the request may do."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from portside.auth.access_files import AccessFiles
from portside.auth.credentials import BasicCredentials
from portside.auth.directory import Directory
from portside.auth.grants import NOBODY, Caller, Grants
from portside.auth.identities import TOKEN_USER
from portside.auth.issuers import Issuer
from portside.auth.limits import LoginLimits
from portside.auth.login_queue import LoginQueue
from portside.auth.passwords import highest_cost
from portside.auth.policy import OPEN_POLICY, Policy
from portside.auth.tokens.foreign import TrustedIssuers
from portside.auth.tokens.keys import KeyRing, load_keys, make_key
from portside.auth.tokens.own import ISSUER, TokenClaims, TokenFactory, TokenInvalid, claimed_issuer
from portside.spec.actions import Action
from portside.spec.errors import TooManyRequests
from portside.stores.access import AccessStore, IdentityKind
from portside.stores.actors import Actor

TOKEN_USERS = frozenset({TOKEN_USER, ""})
"""BuildKit and containerd send a token with an empty name: their `FetchToken` is a GET."""

MAX_HASHING = 2
"""Slow hashes that one process computes at the same time."""

MAX_REMEMBERED = 10_000
"""Credentials. Each takes about 1 kB; when there are more, all are forgotten."""

Version = tuple[int, int, int]

_Question = tuple[Version, bytes]


class CredentialsInvalid(Exception):
    """A name and password that nobody has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTerms:
    """How credentials are accepted, and for how many seconds.

    `open` turns access control off, whatever the store and the files say. `required` enforces it
    even if the store has no identities. `work` is the least cost of the slow hash that a failed
    login takes. `login_refresh_tokens` answers `docker login` with a refresh token; `login_queue`
    logins may wait for a slow hash. `clock_skew` is by how much the clocks of issuers may differ.
    """

    open: bool
    required: bool
    audience: str
    work: int
    access_life: int
    refresh_life: int
    credential_life: float
    login_refresh_tokens: bool
    login_queue: int
    clock_skew: int


class Snapshot:
    """All that decides about requests, at one version; `closed` is whether it is enforced.

    `jwks` is the published key set (RFC 7517, section 5).

    Verified credentials and decisions are remembered here, and forgotten with the snapshot: when an
    identity, a scope map, a key or a file has changed, the next request makes a new one.
    """

    def __init__(
        self,
        version: Version,
        *,
        closed: bool,
        policy: Policy,
        directory: Directory,
        jwks: dict[str, Any],
        tokens: TokenFactory,
        work: int,
    ) -> None:
        self.version = version
        self.closed = closed
        self.policy = policy
        self.directory = directory
        self.jwks = jwks
        self.tokens = tokens
        self.work = work
        self._remembered: dict[bytes, tuple[Caller, float]] = {}

    def recall(self, key: bytes, now: float) -> Caller | None:
        """Return a caller that was remembered, if its time is not over."""
        found = self._remembered.get(key)
        return found[0] if found is not None and now < found[1] else None

    def remember(self, key: bytes, caller: Caller, until: float) -> None:
        """Keep a verified caller until a time, in the clock's seconds."""
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = (caller, until)

    def may(self, caller: Caller, action: Action, repository: str) -> bool:
        """Whether both the policy and the credentials allow an action."""
        return self.policy.allows(caller.identity, action, repository) and (
            caller.grants is None or caller.grants.cover(action, repository)
        )


class AccessControl:
    """Authenticates requests; one for each process.

    `clock` returns microseconds since 1970, `elapsed` the seconds that decide how long credentials
    are remembered. `logins` counts passwords by what verifying them came to.
    """

    def __init__(
        self,
        store: AccessStore,
        *,
        files: AccessFiles,
        terms: AccessTerms,
        limits: LoginLimits,
        clock: Callable[[], int],
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._files = files
        self.terms = terms
        self._limits = limits
        self.clock = clock
        self._elapsed = elapsed
        self._pool = ThreadPoolExecutor(MAX_HASHING + 2, thread_name_prefix="portside-auth")
        self._queue = LoginQueue(running=MAX_HASHING, length=terms.login_queue)
        self._verifying: dict[_Question, asyncio.Future[Caller]] = {}
        self.logins = Counter(accepted=0, refused=0, limited=0)
        self._keyed = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=32)
        self._snapshot: Snapshot | None = None
        self._open_tokens = self._factory(KeyRing([make_key(clock())]))
        self._issuers: tuple[Issuer, ...] = ()
        self._trusted = TrustedIssuers(self._issuers, self._pool, skew=terms.clock_skew)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    async def snapshot(self) -> Snapshot:
        """Return the current snapshot; costs next to nothing if nothing has changed.

        An open registry issues tokens as well, for clients that cannot do without. It signs them
        with a key that only this process has, so that they are invalid once access control is on.
        """
        if self.terms.open:
            return self._always_open
        state = await self._store.access_state()
        version = (state.version, *self._files.version)
        known = self._snapshot
        if known is not None and known.version == version:
            return known
        rules = self._files.read()
        version = (state.version, *rules.version)
        keys = await load_keys(self._store, self.clock())
        slowest = await self._store.slowest_hash()
        closed = self.terms.required or state.closed
        self._snapshot = Snapshot(
            version,
            closed=closed,
            policy=rules.policy if closed else OPEN_POLICY,
            directory=Directory(self._store, rules.htpasswd, rules.groups, self.clock),
            jwks=keys.jwks,
            tokens=self._factory(keys) if closed else self._open_tokens,
            work=max(
                self.terms.work,
                rules.htpasswd.cost if rules.htpasswd else 0,
                highest_cost([slowest] if slowest is not None else []),
            ),
        )
        if rules.issuers != self._issuers:
            self._trusted = TrustedIssuers(rules.issuers, self._pool, skew=self.terms.clock_skew)
            self._issuers = rules.issuers
        return self._snapshot

    def _factory(self, keys: KeyRing) -> TokenFactory:
        return TokenFactory(keys, audience=self.terms.audience, skew=self.terms.clock_skew)

    @cached_property
    def _always_open(self) -> Snapshot:
        """The snapshot of a registry whose settings turn access control off."""
        return Snapshot(
            (0, 0, 0),
            closed=False,
            policy=OPEN_POLICY,
            directory=Directory(self._store, None, {}, self.clock),
            jwks={"keys": []},
            tokens=self._open_tokens,
            work=self.terms.work,
        )

    async def authenticate_basic(
        self,
        snapshot: Snapshot,
        given: BasicCredentials,
        address: str,
        client: Callable[[], Actor] | None = None,
    ) -> Caller:
        """Return whose name and password these are; `address` is the client's.

        `client` returns who is recorded with a login that fails.

        A verified pair is remembered for a while; an unknown one takes a slow hash. While the
        registry is open, every pair is accepted, and is anonymous.

        Raises CredentialsInvalid and TooManyRequests.
        """
        if not snapshot.closed:
            return NOBODY
        # The address is part of the key: an address whose attempts are refused must not learn that
        # a password is right because another address has used it.
        key = self._key("basic", address, given.name, given.password)
        known = snapshot.recall(key, self._elapsed())
        if known is not None:
            return known
        question = (snapshot.version, key)
        verifying = self._verifying.get(question)
        if verifying is None:
            known_client = client or partial(Actor, address=address)
            verifying = asyncio.ensure_future(
                self._count_login(snapshot, given, address, known_client)
            )
            self._verifying[question] = verifying
            verifying.add_done_callback(partial(self._verified, question))
        caller = await asyncio.shield(verifying)
        snapshot.remember(key, caller, self._elapsed() + self._memory(caller))
        return caller

    def _verified(self, question: _Question, verifying: asyncio.Future[Caller]) -> None:
        """Forget a verification that requests with the same credentials have waited for."""
        del self._verifying[question]
        if not verifying.cancelled():
            verifying.exception()

    async def _count_login(
        self,
        snapshot: Snapshot,
        given: BasicCredentials,
        address: str,
        client: Callable[[], Actor],
    ) -> Caller:
        try:
            caller = await self._verify_login(snapshot, given, address, client)
        except CredentialsInvalid:
            self.logins["refused"] += 1
            raise
        except TooManyRequests:
            self.logins["limited"] += 1
            raise
        self.logins["accepted"] += 1
        return caller

    async def _verify_login(
        self,
        snapshot: Snapshot,
        given: BasicCredentials,
        address: str,
        client: Callable[[], Actor],
    ) -> Caller:
        if given.name in TOKEN_USERS:
            return await self._verify_token_password(snapshot, given.password)
        caller = await self._verify_made_password(snapshot, given)
        if caller is not None:
            return caller
        await self._limits.check(address, given.name)
        async with self._queue.turn(address):
            return await self._verify_password(snapshot, given, address, client)

    async def _verify_made_password(
        self, snapshot: Snapshot, given: BasicCredentials
    ) -> Caller | None:
        """Return whose generated password this is, or None.

        It cannot be guessed and takes no slow hash, so that no failed logins of others stop it.
        """
        directory = snapshot.directory
        found = await directory.find(given.name)
        stamp = directory.prove_made(found, given.password)
        return await directory.caller(found, stamp) if found is not None and stamp else None

    async def _verify_password(
        self,
        snapshot: Snapshot,
        given: BasicCredentials,
        address: str,
        client: Callable[[], Actor],
    ) -> Caller:
        """Compare the password; failures that happened while this login waited count too."""
        await self._limits.check(address, given.name)
        directory = snapshot.directory
        found = await directory.find(given.name)
        prove = partial(directory.prove, found, given.password, work=snapshot.work)
        stamp = await asyncio.get_running_loop().run_in_executor(self._pool, prove)
        caller = await directory.caller(found, stamp) if found is not None and stamp else None
        if caller is None:
            is_known = found is not None
            await self._limits.note_failure(address, given.name, client(), is_known=is_known)
            raise CredentialsInvalid("wrong name or password")
        return caller

    async def _verify_token_password(self, snapshot: Snapshot, token: str) -> Caller:
        """Accept a token as a password, without a slow hash: it cannot be guessed."""
        try:
            return await self.exchange(snapshot, token)
        except TokenInvalid as error:
            raise CredentialsInvalid("wrong name or password") from error

    def _memory(self, caller: Caller) -> float:
        """Return for how many seconds verified credentials are remembered, at most to their end."""
        life = self.terms.credential_life
        if caller.expires is not None:
            life = min(life, caller.expires - self.clock() / 1e6)
        return life

    async def authenticate_bearer(self, snapshot: Snapshot, token: str) -> Caller:
        """Return whose access token this is; raises TokenInvalid.

        A verified token is remembered for a while, at most until it expires.
        """
        key = self._key("bearer", token)
        known = snapshot.recall(key, self._elapsed())
        if known is not None:
            return known
        issuer = claimed_issuer(token)
        if issuer == ISSUER:
            caller = await self._current(snapshot, snapshot.tokens.read_access_token(token))
        else:
            caller = await self._trusted.read(token, issuer)
        snapshot.remember(key, caller, self._elapsed() + self._memory(caller))
        return caller

    async def exchange(self, snapshot: Snapshot, token: str) -> Caller:
        """Return whose refresh token, or token of a trusted issuer, this is.

        While the registry is open, every text is accepted, and is anonymous. Raises TokenInvalid.
        """
        if not snapshot.closed:
            return NOBODY
        issuer = claimed_issuer(token)
        if issuer != ISSUER:
            return await self._trusted.read(token, issuer)
        return await self._current(snapshot, snapshot.tokens.read_refresh_token(token))

    async def _current(self, snapshot: Snapshot, claims: TokenClaims) -> Caller:
        """Return the bearer of a token as it is now, limited to what the token allows.

        Raises TokenInvalid if the credentials that the token was issued for are no longer valid.
        """
        bearer = await self._bearer(snapshot, claims)
        return bearer.ending(claims.expires)._replace(grants=claims.grants)

    async def _bearer(self, snapshot: Snapshot, claims: TokenClaims) -> Caller:
        claimed = claims.identity
        if claimed.kind is IdentityKind.ANONYMOUS:
            return Caller(claimed)
        if claimed.kind is IdentityKind.FOREIGN:
            trusted = {issuer.name for issuer in self._issuers}
            if claimed.name.partition(":")[0] not in trusted:
                raise TokenInvalid("the token is for an identity of an issuer that is not trusted")
            return Caller(claimed)
        directory = snapshot.directory
        found = await directory.find(claimed.name)
        current = await directory.caller(found, claimed.stamp) if found is not None else None
        if current is None:
            raise TokenInvalid("the credentials that the token was issued for are no longer valid")
        return current

    def access_token(self, snapshot: Snapshot, caller: Caller, grants: Grants) -> tuple[str, int]:
        """Return a new access token, and its life in seconds.

        It does not outlive the credentials that it is made for.
        """
        now = self.clock() // 1_000_000
        life = self.terms.access_life
        if caller.expires is not None:
            life = max(1, min(life, caller.expires - now))
        return snapshot.tokens.access_token(caller.identity, grants, now=now, life=life), life

    def refresh_token(self, snapshot: Snapshot, caller: Caller) -> str:
        """Return a new refresh token; it does not outlive the credentials that it is made for."""
        now = self.clock() // 1_000_000
        expires = now + self.terms.refresh_life
        if caller.expires is not None:
            expires = min(expires, caller.expires)
        return snapshot.tokens.refresh_token(
            caller.identity, now=now, expires=expires, grants=caller.grants
        )

    def _key(self, *parts: str) -> bytes:
        """Return a digest of credentials, under a key that only this process has."""
        hasher = self._keyed.copy()
        hasher.update("\0".join(parts).encode("utf-8", "surrogatepass"))
        return hasher.digest()
