"""The directory: every identity that has a password, from the store and from an htpasswd file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from portside.auth.callers import Caller
from portside.auth.htpasswd import Htpasswd
from portside.auth.identities import ANONYMOUS, Identity, Kind
from portside.auth.passwords import cost_of, is_digest_of, verify
from portside.auth.rules import Rule, Subjects
from portside.stores.access import AccessStore, IdentityKind, ScopeMap, StoredIdentity

Groups = dict[str, frozenset[str]]

_KINDS = {IdentityKind.USER: Kind.USER, IdentityKind.TOKEN: Kind.TOKEN}


class Account(NamedTuple):
    """An identity before it has proved itself.

    `hashes` are those of its passwords, by stamp; `expires` is in seconds since 1970.
    """

    identity: Identity
    hashes: dict[str, str]
    usable: bool = True
    expires: int | None = None

    def caller(self, stamp: str) -> Caller | None:
        """Give the identity as one of its passwords proves it, if that still does."""
        if not self.usable or stamp not in self.hashes:
            return None
        return Caller(replace(self.identity, stamp=stamp), None, self.expires)


_NOBODY = Account(ANONYMOUS, {}, usable=False)


class Directory:
    """Looks accounts up by name. A name in the store hides the same name in the file.

    `clock` gives microseconds since 1970.
    """

    def __init__(
        self, store: AccessStore, file: Htpasswd | None, groups: Groups, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._file = file
        self._groups = groups
        self._clock = clock

    async def find(self, name: str) -> Account | None:
        """Give an account, or None if nobody has that name."""
        stored = await self._store.get_identity(name)
        if stored is not None:
            return await self._from_store(stored)
        hashed = self._file.hashes.get(name) if self._file else None
        if hashed is None:
            return None
        identity = Identity(name, Kind.USER, self._groups.get(name, frozenset()))
        return Account(identity, {_stamp(Kind.USER, name, hashed): hashed})

    async def _from_store(self, stored: StoredIdentity) -> Account:
        kind = _KINDS[stored.kind]
        scope_map = None
        if stored.scope_map is not None:
            scope_map = await self._store.get_scope_map(stored.scope_map)
        identity = Identity(
            stored.name,
            kind,
            self._groups.get(stored.name, frozenset()),
            _scope_rules(stored.name, scope_map),
        )
        hashes = {
            _stamp(
                kind, stored.name, password.hash, str(stored.created), str(password.created)
            ): password.hash
            for password in stored.passwords
        }
        is_over = stored.expires is not None and stored.expires <= self._clock()
        expires = stored.expires // 1_000_000 if stored.expires is not None else None
        return Account(identity, hashes, stored.enabled and not is_over, expires)


def prove(account: Account | None, password: str, *, work: int) -> Caller | None:
    """Compare a password with those of an account; what is wrong takes the same time, whatever."""
    known = account or _NOBODY
    for stamp, hashed in known.hashes.items():
        if is_digest_of(password, hashed) and known.usable:
            return known.caller(stamp)
    chosen = next((item for item in known.hashes.items() if cost_of(item[1]) is not None), None)
    is_right = verify(password, chosen[1] if chosen else None, work=work)
    return known.caller(chosen[0]) if chosen is not None and is_right else None


def _scope_rules(name: str, scope_map: ScopeMap | None) -> tuple[Rule, ...]:
    if scope_map is None:
        return ()
    source = f"scope map {scope_map.name}"
    return tuple(
        Rule(source, Subjects.IDENTITY, name, rule.pattern, rule.actions)
        for rule in scope_map.rules
    )


def _stamp(*parts: str) -> str:
    """Digest what an identity is proved by.

    It changes with the password, and when the identity is made or enabled again.
    """
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()[:32]
