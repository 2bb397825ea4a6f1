"""Access control: from the credentials of a request to a caller."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from portside.auth.callers import Caller
from portside.auth.credentials import BasicCredentials
from portside.auth.directory import Directory, prove
from portside.auth.grants import Grants
from portside.auth.identities import TOKEN_USER, Kind
from portside.auth.issuers import Issuer
from portside.auth.limits import LoginLimits
from portside.auth.rulebook import RuleBook
from portside.auth.snapshot import Snapshot, Version
from portside.auth.tokens.foreign import ForeignTokens
from portside.auth.tokens.keys import load_keys
from portside.auth.tokens.own import ISSUER, OwnToken, TokenFactory, TokenInvalid, claimed_issuer
from portside.spec.errors import TooManyRequests
from portside.stores.access import AccessStore

TOKEN_USERS = frozenset({TOKEN_USER, ""})
"""BuildKit and containerd send a token with an empty name: their `FetchToken` is a GET."""

AT_ONCE = 2
"""Slow hashes that one process computes at the same time."""


MAX_WAITING = 64
"""Logins that may wait for their turn; more are told to come again."""


_Question = tuple[Version, bytes]


class CredentialsInvalid(Exception):
    """A name and password that nobody has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTerms:
    """On which terms credentials are taken. Lives are in seconds.

    `required` closes the registry although there are no identities in its store; `work` is the
    cost of the slow hash that a failed login takes at least.
    """

    required: bool
    audience: str
    work: int
    access_life: int
    refresh_life: int
    credential_life: float


class AccessControl:
    """Who makes a request, and what it may do; one for each process.

    `clock` gives microseconds since 1970, `elapsed` the seconds by which credentials are forgotten.
    """

    def __init__(
        self,
        store: AccessStore,
        *,
        rules: RuleBook,
        terms: AccessTerms,
        limits: LoginLimits,
        clock: Callable[[], int],
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._rules = rules
        self._terms = terms
        self._limits = limits
        self.clock = clock
        self._elapsed = elapsed
        self._pool = ThreadPoolExecutor(AT_ONCE + 2, thread_name_prefix="portside-auth")
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._proving: dict[_Question, asyncio.Future[Caller]] = {}
        self._secret = secrets.token_bytes(32)
        self._snapshot: Snapshot | None = None
        self._foreign = ForeignTokens((), self._pool)
        self._foreign_of: tuple[Issuer, ...] = ()

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(cancel_futures=True)

    async def snapshot(self) -> Snapshot:
        """Give what holds now; costs next to nothing if nothing has changed."""
        state = await self._store.access_state()
        version = (state.version, *self._rules.version)
        known = self._snapshot
        if known is not None and known.version == version:
            return known
        rules = self._rules.read()
        version = (state.version, *rules.version)
        keys = await load_keys(self._store, self.clock())
        self._snapshot = Snapshot(
            version,
            closed=self._terms.required or state.closed,
            policy=rules.policy,
            directory=Directory(self._store, rules.htpasswd, rules.groups, self.clock),
            keys=keys,
            tokens=TokenFactory(keys, audience=self._terms.audience),
            work=max(self._terms.work, rules.htpasswd.cost if rules.htpasswd else 0),
        )
        if rules.issuers != self._foreign_of:
            self._foreign = ForeignTokens(rules.issuers, self._pool)
            self._foreign_of = rules.issuers
        return self._snapshot

    async def authenticate_basic(
        self, snapshot: Snapshot, given: BasicCredentials, source: str
    ) -> Caller:
        """Find out whose name and password these are; `source` is the client's address.

        A verified pair is remembered for a while; an unknown one costs a slow hash.

        Raises CredentialsInvalid and TooManyRequests.
        """
        # With the source: what is remembered must not answer those whose attempts are refused.
        key = self._key("basic", source, given.name, given.password)
        known = snapshot.recall(key, self._elapsed())
        if known is not None:
            return known
        question = (snapshot.version, key)
        proving = self._proving.get(question)
        if proving is None:
            proving = asyncio.ensure_future(self._prove_in_turn(snapshot, given, source))
            self._proving[question] = proving
            proving.add_done_callback(partial(self._proved, question))
        caller = await asyncio.shield(proving)
        snapshot.remember(key, caller, self._elapsed() + self._memory(caller))
        return caller

    def _proved(self, question: _Question, proving: asyncio.Future[Caller]) -> None:
        """Forget what many requests with the same credentials have waited for together."""
        del self._proving[question]
        if not proving.cancelled():
            proving.exception()

    async def _prove_in_turn(
        self, snapshot: Snapshot, given: BasicCredentials, source: str
    ) -> Caller:
        if given.name in TOKEN_USERS:
            return await self._prove_token(snapshot, given.password)
        await self._limits.check(source, given.name)
        if self._waiting >= MAX_WAITING:
            raise TooManyRequests(1, "too many logins at the same time; try again")
        self._waiting += 1
        try:
            async with self._turns:
                return await self._prove(snapshot, given, source)
        finally:
            self._waiting -= 1

    async def _prove(self, snapshot: Snapshot, given: BasicCredentials, source: str) -> Caller:
        """Compare; what failed while this one waited for its turn counts."""
        await self._limits.check(source, given.name)
        account = await snapshot.directory.find(given.name)
        compare = partial(prove, account, given.password, work=snapshot.work)
        caller = await asyncio.get_running_loop().run_in_executor(self._pool, compare)
        if caller is None:
            await self._limits.note_failure(source, given.name)
            raise CredentialsInvalid("the name or the password is wrong")
        return caller

    async def _prove_token(self, snapshot: Snapshot, token: str) -> Caller:
        """Take a token for a password; it costs no slow hash, and cannot be guessed."""
        try:
            return await self.exchange(snapshot, token)
        except TokenInvalid as error:
            raise CredentialsInvalid("the name or the password is wrong") from error

    def _memory(self, caller: Caller) -> float:
        """Give for how many seconds verified credentials are remembered: never beyond their end."""
        left = self._terms.credential_life
        if caller.expires is not None:
            left = min(left, caller.expires - self.clock() / 1e6)
        return left

    async def authenticate_bearer(self, snapshot: Snapshot, token: str) -> Caller:
        """Find out whose access token this is; raises TokenInvalid.

        A verified token is remembered until it expires.
        """
        key = self._key("bearer", token)
        known = snapshot.recall(key, self._elapsed())
        if known is not None:
            return known
        issuer = claimed_issuer(token)
        if issuer == ISSUER:
            own = snapshot.tokens.read_access_token(token)
            caller = (await self._renew(snapshot, own)).ending(own.expires)
            caller = caller._replace(grants=own.grants)
        else:
            foreign = await self._foreign.read(token, issuer)
            caller = Caller(foreign.identity, foreign.grants, foreign.expires)
        snapshot.remember(key, caller, self._elapsed() + self._memory(caller))
        return caller

    async def exchange(self, snapshot: Snapshot, token: str) -> Caller:
        """Find out whose refresh token, or token of a trusted issuer, this is.

        Raises TokenInvalid.
        """
        issuer = claimed_issuer(token)
        if issuer != ISSUER:
            foreign = await self._foreign.read(token, issuer)
            return Caller(foreign.identity, foreign.grants, foreign.expires)
        own = snapshot.tokens.read_refresh_token(token)
        return (await self._renew(snapshot, own)).ending(own.expires)._replace(grants=own.grants)

    async def _renew(self, snapshot: Snapshot, token: OwnToken) -> Caller:
        """Give the caller as it is now; raises TokenInvalid if it is not what it was."""
        claimed = token.identity
        if claimed.kind is Kind.ANONYMOUS:
            return Caller(claimed)
        if claimed.kind is Kind.FOREIGN:
            trusted = {issuer.name for issuer in self._foreign_of}
            if claimed.name.partition(":")[0] not in trusted:
                raise TokenInvalid("the token was made for one of an issuer not trusted here")
            return Caller(claimed)
        account = await snapshot.directory.find(claimed.name)
        current = account.caller(claimed.stamp) if account is not None else None
        if current is None:
            raise TokenInvalid("the credentials that the token was made for are no longer valid")
        return current

    def access_token(self, snapshot: Snapshot, caller: Caller, grants: Grants) -> tuple[str, int]:
        """Sign an access token; gives it with its life in seconds.

        It does not outlive the credentials that it is made for.
        """
        now = self.clock() // 1_000_000
        life = self._terms.access_life
        if caller.expires is not None:
            life = max(1, min(life, caller.expires - now))
        return snapshot.tokens.access_token(caller.identity, grants, now=now, life=life), life

    def refresh_token(self, snapshot: Snapshot, caller: Caller) -> str:
        """Sign a refresh token; it does not outlive the credentials that it is made for."""
        now = self.clock() // 1_000_000
        expires = now + self._terms.refresh_life
        if caller.expires is not None:
            expires = min(expires, caller.expires)
        return snapshot.tokens.refresh_token(
            caller.identity, now=now, expires=expires, grants=caller.grants
        )

    def _key(self, *parts: str) -> bytes:
        """Digest credentials with a key that only this process has, to remember them by."""
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._secret, digest_size=32).digest()
