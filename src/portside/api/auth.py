"""Access control at the edge: authenticate a request, and admit it or challenge the client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.types import Scope as AsgiScope

from portside.api.actors import client_actor
from portside.api.addresses import Addresses
from portside.auth.access_control import AccessControl, CredentialsInvalid, Snapshot
from portside.auth.credentials import (
    BearerCredentials,
    CredentialsMalformed,
    parse_authorization,
)
from portside.auth.grants import NOBODY, Caller
from portside.auth.identities import Identity
from portside.auth.tokens.own import TokenInvalid
from portside.spec.actions import Action
from portside.spec.dialects import AuthScheme
from portside.spec.errors import Denied, TooManyRequests, Unauthorized, Unavailable
from portside.spec.names import RepositoryName
from portside.spec.patterns import NameRange
from portside.spec.scopes import CATALOG_SCOPE, Scope

TOKEN_PATH = "/oauth2/token"  # noqa: S105  # a path, and public

LOG_IN = "log in, or request an anonymous token"

Wanted = Callable[[], tuple[Scope, ...]]
"""Returns the scopes that a request needs; called only for a challenge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The access control of one registry, as the HTTP edge sees it.

    `realm` is the URL of the token server that challenges name; empty: this registry's own.
    """

    control: AccessControl
    addresses: Addresses
    scheme: AuthScheme
    service: str
    realm: str

    async def admit(
        self,
        snapshot: Snapshot,
        scope: AsgiScope,
        authorization: str | None,
        wanted: Wanted,
        *,
        retries_denied: bool = False,
    ) -> Permit:
        """Return who makes a request to a registry that is not open to everybody.

        `authorization` is the header of that name. Every challenge names the scopes of `wanted`, so
        that a client that then requests the token and repeats the request succeeds. A client that
        `retries_denied` gets a challenge also where another token cannot help.

        Raises Unauthorized and TooManyRequests.
        """
        caller = await self._identify(snapshot, scope, authorization, wanted)
        return Permit(self, snapshot, caller, scope, wanted, retries_denied=retries_denied)

    @property
    def challenges_first(self) -> bool:
        """Whether a challenge leads to a token, which every client can request."""
        return self.scheme is not AuthScheme.BASIC

    async def identifies(self, scope: AsgiScope, authorization: str | None) -> bool:
        """Whether a caller is known by name, or everybody may do everything.

        What cannot be checked now does not count, so that the response never depends on it.
        """
        try:
            snapshot = await self.control.snapshot()
            if not snapshot.closed:
                return True
            permit = await self.admit(snapshot, scope, authorization, tuple)
        except (Unauthorized, TooManyRequests, Unavailable):
            return False
        return not permit.is_anonymous

    async def _identify(
        self, snapshot: Snapshot, scope: AsgiScope, authorization: str | None, wanted: Wanted
    ) -> Caller:
        try:
            given = parse_authorization(authorization)
            if given is None:
                return NOBODY
            if not isinstance(given, BearerCredentials):
                source = self.addresses.client(scope)
                return await self.control.authenticate_basic(
                    snapshot, given, source, partial(client_actor, self.addresses, scope)
                )
            if self.scheme is AuthScheme.BASIC:
                raise CredentialsMalformed(
                    "this registry accepts only a name and a password (Basic)"
                )
            return await self.control.authenticate_bearer(snapshot, given.token)
        except (CredentialsInvalid, CredentialsMalformed) as error:
            raise Unauthorized(self.challenge(scope, wanted()), str(error)) from error
        except TokenInvalid as error:
            challenge = self.challenge(scope, wanted(), error="invalid_token")
            raise Unauthorized(challenge, str(error)) from error

    def challenge(self, scope: AsgiScope, wanted: tuple[Scope, ...], error: str = "") -> str:
        """Return a WWW-Authenticate header; every value is quoted, as clients require."""
        if self.scheme is AuthScheme.BASIC:
            return f'Basic realm="{self.service}"'
        realm = self.realm or self.addresses.base_url(scope) + TOKEN_PATH
        fields = {"realm": realm, "service": self.service}
        if wanted:
            fields["scope"] = " ".join(map(str, wanted))
        if error:
            fields["error"] = error
        return "Bearer " + ",".join(f'{name}="{value}"' for name, value in fields.items())


class Permit:
    """The caller of one request, and what the policy allows it."""

    __slots__ = ("_caller", "_gate", "_retries_denied", "_scope", "_snapshot", "_wanted")

    def __init__(
        self,
        gate: Gate,
        snapshot: Snapshot,
        caller: Caller,
        scope: AsgiScope,
        wanted: Wanted,
        *,
        retries_denied: bool,
    ) -> None:
        self._gate = gate
        self._snapshot = snapshot
        self._caller = caller
        self._scope = scope
        self._wanted = wanted
        self._retries_denied = retries_denied

    @property
    def identity(self) -> Identity:
        """The identity of the caller."""
        return self._caller.identity

    @property
    def is_anonymous(self) -> bool:
        """Whether the caller is nobody in particular."""
        return self._caller.identity.is_anonymous

    @property
    def name(self) -> str:
        """The name of the caller; empty for anonymous ones."""
        identity = self._caller.identity
        return "" if identity.is_anonymous else identity.name

    @property
    def _sent_nothing(self) -> bool:
        return self._caller is NOBODY

    def check_identity(self) -> None:
        """Require credentials of any kind (end-1); raises Unauthorized.

        A client that gets a 200 without credentials never sends any later, where they are needed.
        """
        if self._sent_nothing:
            raise Unauthorized(self._challenge(), LOG_IN)

    def check_catalog(self) -> None:
        """Require what listing repositories takes; raises Unauthorized."""
        self.check_identity()
        grants = self._caller.grants
        if grants is not None and not grants.catalog:
            challenge = self._challenge("insufficient_scope")
            raise Unauthorized(challenge, f"the token lacks the scope {CATALOG_SCOPE}")

    def check(self, action: Action, repository: RepositoryName) -> None:
        """Require an action in a repository; raises Unauthorized and Denied."""
        if self._snapshot.may(self._caller, action, repository):
            return
        identity = self._caller.identity
        if self._caller.grants is None and identity.is_anonymous:
            needed = f"authentication required to {action} in repository {repository}"
            raise Unauthorized(self._challenge(), needed)
        allowed = self._snapshot.policy.allows(identity, action, repository)
        if identity.is_anonymous or (allowed and self._caller.grants is not None):
            lacking = f"the token does not allow {action} in repository {repository}"
            raise Unauthorized(self._challenge("insufficient_scope"), lacking)
        denied = f"{identity.name} is not allowed to {action} in repository {repository}"
        if self._retries_denied:
            raise Unauthorized(self._challenge("insufficient_scope"), denied)
        raise Denied(self._challenge(), denied)

    async def is_current(self) -> bool:
        """Whether access control and the credentials are still what they were; for long requests.

        Raises Unavailable.
        """
        control, expires = self._gate.control, self._caller.expires
        return await control.snapshot() is self._snapshot and (
            expires is None or control.clock() < expires * 1_000_000
        )

    def may_pull(self, repository: str) -> bool:
        """Whether the content of a repository may be pulled."""
        return self._snapshot.may(self._caller, Action.PULL, repository)

    @property
    def shown(self) -> Sequence[NameRange]:
        """The names of the repositories that the caller may know of."""
        return self._snapshot.policy.shown_to(self._caller.identity)

    def _challenge(self, error: str = "") -> str:
        return self._gate.challenge(self._scope, self._wanted(), error)
