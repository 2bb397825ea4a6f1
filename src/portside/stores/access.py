"""What a store keeps for access control: identities, scope maps, keys, and failed attempts.

An ability beside those of `interfaces`, with the same rules for Unavailable, StorageFull and
durability. Times are microseconds since 1970. The private keys are the only secrets: passwords are
stored as hashes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from portside.spec.actions import Actions
from portside.spec.patterns import RepositoryPattern
from portside.stores.actors import NOBODY, REGISTRY, Actor


class IdentityKind(enum.StrEnum):
    """What an identity is: a person, a token that a program uses, or neither.

    Users and tokens are stored. The identities of trusted issuers are not, nor is the one of
    requests without credentials.
    """

    ANONYMOUS = "anonymous"
    USER = "user"
    TOKEN = "token"  # noqa: S105  # the word, not a secret
    FOREIGN = "foreign"


class StoredPassword(msgspec.Struct, frozen=True):
    """One password of an identity, hashed; a user has number 1, a token 1 and 2.

    `created` is when it was made, or when its identity was last enabled again.
    """

    number: int
    hash: str
    created: int


class StoredIdentity(msgspec.Struct, frozen=True):
    """A user or a token. `expires` and `scope_map` are None where there is none."""

    name: str
    kind: IdentityKind
    created: int
    enabled: bool = True
    expires: int | None = None
    scope_map: str | None = None
    passwords: tuple[StoredPassword, ...] = ()


class ScopeRule(msgspec.Struct, frozen=True):
    """Actions that a scope map allows in the repositories of a pattern."""

    pattern: RepositoryPattern
    actions: Actions


class ScopeMap(msgspec.Struct, frozen=True):
    """What tokens that name this scope map may do."""

    name: str
    created: int
    description: str = ""
    rules: tuple[ScopeRule, ...] = ()


class SigningKey(msgspec.Struct, frozen=True):
    """A private key that signs tokens; the newest one signs, the others still verify.

    `id` is its thumbprint (RFC 7638), `private` its PEM (PKCS 8).
    """

    id: str
    private: str
    created: int


class AccessState(msgspec.Struct, frozen=True):
    """`version` changes with every identity, scope map or key that does.

    `closed` is set by the first identity and stays set: removing all users does not open a registry
    again.
    """

    version: int
    closed: bool


class FailureLimits(NamedTuple):
    """After how many failures attempts are refused: of one name, and of all from a source."""

    of_name: int
    of_source: int


NO_LIMITS = FailureLimits(-1, -1)

MOST_RECORDED = 1000
"""Names, of all sources together, whose failed attempts are recorded within the time they count."""


class AccessStore(Protocol):
    """Identities, scope maps, keys and failures.

    Methods return None or False for what cannot be done because something exists or does not. `by`
    is who makes a change.
    """

    async def access_state(self) -> AccessState:
        """Read the version; cheap enough for every request."""
        ...

    async def get_identity(self, name: str) -> StoredIdentity | None:
        """Read an identity of either kind."""
        ...

    async def list_identities(self, kind: IdentityKind) -> list[StoredIdentity]:
        """List identities by name."""
        ...

    async def slowest_hash(self) -> str | None:
        """Read a bcrypt hash of the highest cost, however many identities there are."""
        ...

    async def add_identity(
        self, identity: StoredIdentity, *, only_first: bool = False, by: Actor = NOBODY
    ) -> bool:
        """Add an identity; False if the name is taken or the scope map does not exist.

        With `only_first`, False if there has ever been one.
        """
        ...

    async def change_identity(
        self,
        name: str,
        kind: IdentityKind,
        change: Callable[[StoredIdentity], StoredIdentity],
        *,
        by: Actor = NOBODY,
    ) -> StoredIdentity | None:
        """Replace an identity by what `change` makes of it; the name and the kind stay.

        None if the identity does not exist, or the scope map that it should have.
        """
        ...

    async def remove_identity(self, name: str, kind: IdentityKind, *, by: Actor = NOBODY) -> bool:
        """Remove an identity."""
        ...

    async def get_scope_map(self, name: str) -> ScopeMap | None:
        """Read a scope map."""
        ...

    async def list_scope_maps(self) -> list[ScopeMap]:
        """List scope maps by name."""
        ...

    async def add_scope_map(self, scope_map: ScopeMap, *, by: Actor = NOBODY) -> bool:
        """Add a scope map; False if the name is taken."""
        ...

    async def change_scope_map(
        self, name: str, change: Callable[[ScopeMap], ScopeMap], *, by: Actor = NOBODY
    ) -> ScopeMap | None:
        """Replace a scope map by what `change` makes of it; None if it does not exist."""
        ...

    async def remove_scope_map(self, name: str, *, by: Actor = NOBODY) -> list[str] | None:
        """Remove a scope map that no token names.

        Return the tokens that name it and keep it (none: it was removed), or None if it does not
        exist.
        """
        ...

    async def list_keys(self) -> list[SigningKey]:
        """List signing keys, the newest first."""
        ...

    async def add_key(
        self, key: SigningKey, *, only_first: bool = False, by: Actor = REGISTRY
    ) -> bool:
        """Add a signing key; with `only_first`, False if there is one already."""
        ...

    async def remove_keys(self, ids: list[str], *, by: Actor = REGISTRY) -> None:
        """Remove signing keys."""
        ...

    async def count_failures(self, source: str, name: str | None, since: int) -> int:
        """Count failed attempts from a source, for one name or for all, since a time."""
        ...

    async def add_failure(
        self,
        source: str,
        name: str,
        *,
        forget_before: int,
        is_known: bool = True,
        limits: FailureLimits = NO_LIMITS,
        by: Actor = NOBODY,
    ) -> None:
        """Count a failed attempt; those before a time are forgotten.

        The first one of a name from a source since that time is recorded as an event, and that a
        limit is reached; with the name only if it `is_known`, that is, if an identity has it. So
        that strangers cannot fill the store, no more than MOST_RECORDED names are since then. While
        the registry is read-only, nothing is recorded.
        """
        ...
