"""Identities to test access control with, and their credentials."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portside.auth.passwords import digest_password, hash_password
from portside.bootstrap import now, opened_stores
from portside.bootstrap.preparing import prepare
from portside.config import Settings
from portside.spec.actions import parse_actions
from portside.spec.patterns import RepositoryPattern
from portside.stores.access import (
    AccessStore,
    IdentityKind,
    ScopeMap,
    ScopeRule,
    StoredIdentity,
    StoredPassword,
)
from support.server import RunningRegistry, running_registry

COST = 4
"""The lowest cost that bcrypt has, as tests hash many passwords."""

PUBLIC = ("--anonymous", "public/*:pull")
"""Options that let everybody read below `public/`."""

CHEAP = {"PORTSIDE_PASSWORD_COST": str(COST)}
"""The environment of a registry that hashes passwords quickly."""


@dataclass(frozen=True)
class Login:
    """A name with its password; a user if there is no scope map, else a token.

    `actions` is what the token may do below `team/`.
    """

    name: str
    password: str
    actions: str = ""
    enabled: bool = True

    @property
    def pair(self) -> tuple[str, str]:
        """The name and the password, as HTTP clients take them."""
        return self.name, self.password

    @property
    def text(self) -> str:
        """The name and the password, as `NAME:PASSWORD`."""
        return f"{self.name}:{self.password}"

    @property
    def encoded(self) -> str:
        """The name and the password, encoded as in credentials files and the Basic scheme."""
        return base64.b64encode(self.text.encode()).decode()


ALICE = Login("alice", "alice's password")
"""A user, who may do everything."""

VICTIM = Login("victim", "the victim's password")
"""A user for whom tests try wrong passwords, so that no other identity is locked out by them."""

FORMER = Login("former", "the former user's password", enabled=False)
"""A user who is disabled."""

PULLER = Login("puller", "the puller's password", "content/read,metadata/read")
"""A token that may only pull, below `team/`."""

PUSHER = Login("pusher", "the pusher's password", "content/read,content/write")
"""A token that may pull and push, below `team/`."""

KEEPER = Login(
    "keeper",
    "the keeper's password",
    "content/read,content/write,content/delete,metadata/read,metadata/write",
)
"""A token that may do everything, below `team/`."""

SWEEPER = Login("sweeper", "the sweeper's password", "content/read,content/delete,metadata/read")
"""A token that may list and delete, but not lock or unlock, below `team/`."""


def seed_access(data: Path) -> None:
    """Store all of the above in a data directory, which is created if it is missing."""
    settings = Settings(data=str(data))
    prepare(settings)
    with opened_stores(settings) as stores:
        asyncio.run(_seed(stores.access))


@contextmanager
def guarded_registry(data: Path, *options: str) -> Iterator[RunningRegistry]:
    """Serve a new data directory with all of the above, for the length of a block."""
    seed_access(data)
    with running_registry(data, *PUBLIC, *options, env=CHEAP) as running:
        yield running


async def _seed(access: AccessStore) -> None:
    for login in (ALICE, VICTIM, FORMER, PULLER, PUSHER, KEEPER, SWEEPER):
        if login.actions:
            await _add_token(access, login)
        else:
            await _add_user(access, login)


async def _add_user(access: AccessStore, login: Login) -> None:
    hashed = hash_password(login.password, cost=COST)
    passwords = (StoredPassword(1, hashed, now()),)
    user = StoredIdentity(
        login.name, IdentityKind.USER, now(), enabled=login.enabled, passwords=passwords
    )
    assert await access.add_identity(user)


async def _add_token(access: AccessStore, login: Login) -> None:
    rule = ScopeRule(RepositoryPattern("team/*"), parse_actions(login.actions))
    assert await access.add_scope_map(ScopeMap(f"map-of-{login.name}", now(), rules=(rule,)))
    passwords = (StoredPassword(1, digest_password(login.password), now()),)
    token = StoredIdentity(
        login.name,
        IdentityKind.TOKEN,
        now(),
        enabled=login.enabled,
        scope_map=f"map-of-{login.name}",
        passwords=passwords,
    )
    assert await access.add_identity(token)
