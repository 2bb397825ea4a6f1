"""Identities for the matrices of access: each may do one kind of thing, all of them, or nothing."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass

from portside.auth.passwords import digest_password
from portside.auth.tokens.keys import KeyRing
from portside.bootstrap import now, opened_stores
from portside.bootstrap.preparing import prepare
from portside.bootstrap.stores import Stores
from portside.config import Settings
from portside.spec.actions import ALL, Action, Actions
from portside.spec.endpoints import ENDPOINTS, Endpoint
from portside.spec.patterns import RepositoryPattern
from portside.stores.access import (
    IdentityKind,
    ScopeMap,
    ScopeRule,
    StoredIdentity,
    StoredPassword,
)

ASKING = [endpoint for endpoint in ENDPOINTS if endpoint.action is not None]
"""The endpoints that ask who the caller is: those under `/v2` and `/acr/v1`."""

REPOSITORY = "team/app"
PASSWORD = "a-password-of-the-matrix"  # noqa: S105
NOTHING: Actions = frozenset()


@dataclass(frozen=True)
class Who:
    """An identity that is stored: what it may do in the repository, and whether it can log in."""

    name: str
    actions: Actions
    enabled: bool = True
    expired: bool = False
    pattern: str = REPOSITORY

    @property
    def may_log_in(self) -> bool:
        return self.enabled and not self.expired

    @property
    def allowed(self) -> Actions:
        return self.actions if self.pattern == REPOSITORY and self.may_log_in else NOTHING


STORED = (
    Who("pulls", frozenset({Action.PULL})),
    Who("pushes", frozenset({Action.PUSH})),
    Who("deletes", frozenset({Action.DELETE})),
    Who("metadata", frozenset({Action.METADATA_READ, Action.METADATA_WRITE})),
    Who("all", ALL),
    Who("elsewhere", ALL, pattern="team/application"),
    Who("disabled", ALL, enabled=False),
    Who("expired", ALL, expired=True),
)


def seed_identities(settings: Settings, *, below: str = "") -> KeyRing:
    """Store the identities in a new data directory, each with a scope map of its own.

    `below` ends their patterns: `/*` is for what is below the repository. Returns the keys of the
    registry.
    """
    prepare(settings)
    with opened_stores(settings) as stores:
        return asyncio.run(_seed(stores, below))


async def _seed(stores: Stores, below: str) -> KeyRing:
    for who in STORED:
        rules = (ScopeRule(RepositoryPattern(who.pattern + below), who.actions),)
        await stores.access.add_scope_map(ScopeMap(who.name, now(), rules=rules))
        identity = StoredIdentity(
            who.name,
            IdentityKind.TOKEN,
            now(),
            enabled=who.enabled,
            expires=now() - 1 if who.expired else None,
            scope_map=who.name,
            passwords=(StoredPassword(1, digest_password(PASSWORD), now()),),
        )
        assert await stores.access.add_identity(identity)
    return KeyRing(await stores.access.list_keys())


def basic(name: str, password: str = PASSWORD) -> str:
    """Write Basic credentials."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def is_allowed(endpoint: Endpoint, actions: Actions) -> bool:
    """Judge as the policy does: any identity may ping, and list what it may see."""
    return endpoint.action in (Action.NONE, Action.CATALOG) or endpoint.action in actions
