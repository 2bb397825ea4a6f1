"""Access control at the edge: authenticate a request, and admit it or challenge the client."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope as AsgiScope

from portside.api.addresses import Addresses
from portside.auth.access_control import AccessControl, CredentialsInvalid, Snapshot
from portside.auth.credentials import (
    BearerCredentials,
    CredentialsMalformed,
    parse_authorization,
)
from portside.auth.grants import NOBODY, Caller
from portside.auth.tokens.own import TokenInvalid
from portside.spec.actions import Action
from portside.spec.dialects import AuthScheme
from portside.spec.errors import Denied, TooManyRequests, Unauthorized, Unavailable
from portside.spec.names import RepositoryName
from portside.spec.scopes import CATALOG_SCOPE, Scope, repository_scope

TOKEN_PATH = "/oauth2/token"  # noqa: S105  # a path, and public


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

    async def admit(self, scope: AsgiScope, authorization: str | None) -> Permit | None:
        """Return who makes a request; None while the registry is open to everybody.

        `authorization` is the header of that name.

        Raises Unauthorized and TooManyRequests.
        """
        snapshot = await self.control.snapshot()
        if not snapshot.closed:
            return None
        caller = await self._identify(snapshot, scope, authorization)
        return Permit(self, snapshot, caller, scope)

    async def identifies(self, scope: AsgiScope, authorization: str | None) -> bool:
        """Whether a caller is known by name, or everybody may do everything.

        What cannot be checked now does not count, so that the response never depends on it.
        """
        try:
            permit = await self.admit(scope, authorization)
        except (Unauthorized, TooManyRequests, Unavailable):
            return False
        return permit is None or not permit.is_anonymous

    async def _identify(
        self, snapshot: Snapshot, scope: AsgiScope, authorization: str | None
    ) -> Caller:
        try:
            given = parse_authorization(authorization)
            if given is None:
                return NOBODY
            if not isinstance(given, BearerCredentials):
                source = self.addresses.client(scope)
                return await self.control.authenticate_basic(snapshot, given, source)
            if self.scheme is AuthScheme.BASIC:
                raise CredentialsMalformed(
                    "this registry accepts only a name and a password (Basic)"
                )
            return await self.control.authenticate_bearer(snapshot, given.token)
        except (CredentialsInvalid, CredentialsMalformed) as error:
            raise Unauthorized(self.challenge(scope), str(error)) from error
        except TokenInvalid as error:
            challenge = self.challenge(scope, error="invalid_token")
            raise Unauthorized(challenge, str(error)) from error

    def challenge(self, scope: AsgiScope, *wanted: Scope, error: str = "") -> str:
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

    __slots__ = ("_caller", "_gate", "_scope", "_snapshot")

    def __init__(self, gate: Gate, snapshot: Snapshot, caller: Caller, scope: AsgiScope) -> None:
        self._gate = gate
        self._snapshot = snapshot
        self._caller = caller
        self._scope = scope

    @property
    def is_anonymous(self) -> bool:
        """Whether the caller is nobody in particular."""
        return self._caller.identity.is_anonymous

    @property
    def _sent_nothing(self) -> bool:
        return self._caller is NOBODY

    def check_identity(self) -> None:
        """Require credentials of any kind (end-1); raises Unauthorized.

        A client that gets a 200 without credentials never sends any later, where they are needed.
        """
        if self._sent_nothing:
            challenge = self._gate.challenge(self._scope)
            raise Unauthorized(challenge, "log in, or request an anonymous token")

    def check_catalog(self) -> None:
        """Require what listing repositories takes; raises Unauthorized."""
        if self._sent_nothing:
            challenge = self._gate.challenge(self._scope, CATALOG_SCOPE)
            raise Unauthorized(challenge, "log in, or request an anonymous token")
        grants = self._caller.grants
        if grants is not None and not grants.catalog:
            challenge = self._gate.challenge(self._scope, CATALOG_SCOPE, error="insufficient_scope")
            raise Unauthorized(challenge, f"the token lacks the scope {CATALOG_SCOPE}")

    def check(
        self, action: Action, repository: RepositoryName, challenge: tuple[Action, ...]
    ) -> None:
        """Require an action in a repository; raises Unauthorized and Denied.

        `challenge` lists the actions to ask a token for; empty, it is the one.
        """
        if self._snapshot.may(self._caller, action, repository):
            return
        self._refuse(action, repository, repository_scope(repository, *(challenge or (action,))))

    def may_mount(
        self, repository: RepositoryName, source: RepositoryName, challenge: tuple[Action, ...]
    ) -> bool:
        """Whether blobs of `source` may be pulled, and so mounted elsewhere.

        Raises Unauthorized if only the token lacks the scope, so that the client asks for a token
        that has it.
        """
        if self._snapshot.may(self._caller, Action.PULL, source):
            return True
        if self._lacks_only_scope(Action.PULL, source):
            target = repository_scope(repository, *challenge)
            self._refuse(Action.PULL, source, target, repository_scope(source, Action.PULL))
        return False

    def may_pull(self, repository: str) -> bool:
        """Whether the content of a repository may be pulled."""
        return self._snapshot.may(self._caller, Action.PULL, repository)

    def shows(self, repository: str) -> bool:
        """Whether the caller may know that a repository exists."""
        return self._snapshot.policy.shows(self._caller.identity, repository)

    def _lacks_only_scope(self, action: Action, repository: str) -> bool:
        allowed = self._snapshot.policy.allows(self._caller.identity, action, repository)
        return allowed and self._caller.grants is not None

    def _refuse(self, action: Action, repository: str, *wanted: Scope) -> None:
        identity = self._caller.identity
        if self._caller.grants is None and identity.is_anonymous:
            challenge = self._gate.challenge(self._scope, *wanted)
            needed = f"authentication required to {action} in repository {repository}"
            raise Unauthorized(challenge, needed)
        if self._lacks_only_scope(action, repository) or identity.is_anonymous:
            challenge = self._gate.challenge(self._scope, *wanted, error="insufficient_scope")
            lacking = f"the token does not allow {action} in repository {repository}"
            raise Unauthorized(challenge, lacking)
        challenge = self._gate.challenge(self._scope, *wanted)
        denied = f"{identity.name} is not allowed to {action} in repository {repository}"
        raise Denied(challenge, denied)
