"""The registrar: adds, changes and removes users, tokens and scope maps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from portside.auth.identities import TOKEN_USER, IdentityNameInvalid, parse_identity_name
from portside.auth.passwords import (
    PasswordInvalid,
    digest_password,
    hash_password,
    make_password,
)
from portside.spec.actions import ActionInvalid, parse_actions
from portside.spec.patterns import PatternInvalid, RepositoryPattern
from portside.stores.access import (
    AccessStore,
    IdentityKind,
    ScopeMap,
    ScopeRule,
    StoredIdentity,
    StoredPassword,
)
from portside.stores.actors import NOBODY, Actor

PASSWORD_NUMBERS = (1, 2)
"""A token has two passwords, so that one can be replaced while programs use the other."""

MAX_DESCRIPTION = 256
"""Characters: what fits in a line or two of a list."""

RESERVED = {
    TOKEN_USER: "clients send it when the password is a token",
    "anonymous": "it denotes requests without credentials",
}


class RegistrarError(Exception):
    """A request that cannot be fulfilled; the message is for the person who made it."""


class MadePassword(NamedTuple):
    """A new password; it is not stored, and cannot be shown again."""

    number: int
    value: str


class Registration(NamedTuple):
    """A new identity, with the passwords that were made for it.

    `is_first` is whether it turned authentication on.
    """

    identity: StoredIdentity
    is_first: bool
    passwords: tuple[MadePassword, ...] = ()


class TokenChange(NamedTuple):
    """Changes to a token; None leaves something as it is.

    `expires` is in microseconds since 1970; with `endless`, the token never expires.
    """

    scope_map: str | None = None
    enabled: bool | None = None
    expires: int | None = None
    endless: bool = False

    def apply(self, token: StoredIdentity, now: int) -> StoredIdentity:
        """Return the changed token; `now` is in microseconds since 1970."""
        expires = token.expires if self.expires is None else self.expires
        changed = replace(
            token,
            scope_map=self.scope_map or token.scope_map,
            expires=None if self.endless else expires,
        )
        return changed if self.enabled is None else _set_enabled(changed, now, enabled=self.enabled)


class ScopeMapChange(NamedTuple):
    """Changes to a scope map; None leaves the description as it is.

    `rules` replace those for the same patterns; `without` names the patterns to remove.
    """

    rules: tuple[ScopeRule, ...] = ()
    without: tuple[str, ...] = ()
    description: str | None = None

    def apply(self, scope_map: ScopeMap) -> ScopeMap:
        """Return the changed scope map."""
        kept = {rule.pattern: rule for rule in scope_map.rules if rule.pattern not in self.without}
        kept |= {rule.pattern: rule for rule in self.rules}
        described = scope_map.description if self.description is None else self.description
        return replace(scope_map, rules=_by_pattern(kept.values()), description=described)


class Registrar:
    """The administration of one registry's identities and scope maps.

    Every method raises RegistrarError. `clock` returns microseconds since 1970. `require_space`
    raises StorageFull where something more would touch the reserve; changes and removals have room.
    `by` is who makes the changes.
    """

    def __init__(
        self,
        store: AccessStore,
        *,
        clock: Callable[[], int],
        require_space: Callable[[], None] | None = None,
        by: Actor = NOBODY,
    ) -> None:
        self._store = store
        self._by = by
        self._clock = clock
        self._require_space = require_space

    async def get(self, name: str, kind: IdentityKind) -> StoredIdentity:
        """Return a user or a token."""
        found = await self._store.get_identity(name)
        if found is None or found.kind is not kind:
            raise _missing(name, kind, found)
        return found

    async def list_identities(self, kind: IdentityKind) -> list[StoredIdentity]:
        """Return all users, or all tokens, by name."""
        return await self._store.list_identities(kind)

    async def require_free(self, name: str) -> None:
        """Refuse a name that a new identity cannot have."""
        check_name(name)
        found = await self._store.get_identity(name)
        if found is not None:
            raise RegistrarError(f"a {found.kind} named {name} already exists")

    async def add_user(
        self, name: str, password: str, *, cost: int, min_length: int = 1
    ) -> Registration:
        """Add a user with a password that a person chose, of at least `min_length` characters."""
        await self.require_free(name)
        return await self._register(await self._new_user(name, password, cost, min_length))

    async def add_first_user(
        self, name: str, password: str, *, cost: int, min_length: int = 1
    ) -> bool:
        """Add a user as `add_user` does; False if there has ever been a user or a token."""
        check_name(name)
        user = await self._new_user(name, password, cost, min_length)
        self._reserve()
        return await self._store.add_identity(user, only_first=True, by=self._by)

    async def _new_user(
        self, name: str, password: str, cost: int, min_length: int
    ) -> StoredIdentity:
        now = self._clock()
        stored = StoredPassword(1, await _hash(password, cost, min_length), now)
        return StoredIdentity(name, IdentityKind.USER, now, passwords=(stored,))

    async def change_password(
        self, name: str, password: str, *, cost: int, min_length: int = 1
    ) -> None:
        """Replace the password of a user; the old one is rejected at once."""
        hashed = await _hash(password, cost, min_length)
        stored = StoredPassword(1, hashed, self._clock())
        await self._change(name, IdentityKind.USER, lambda user: replace(user, passwords=(stored,)))

    async def enable_user(self, name: str, *, enabled: bool) -> None:
        """Enable or disable a user."""
        now = self._clock()
        await self._change(
            name, IdentityKind.USER, lambda user: _set_enabled(user, now, enabled=enabled)
        )

    async def remove(self, name: str, kind: IdentityKind) -> None:
        """Remove a user or a token."""
        if not await self._store.remove_identity(name, kind, by=self._by):
            raise _missing(name, kind, await self._store.get_identity(name))

    async def add_token(self, name: str, scope_map: str, *, expires: int | None) -> Registration:
        """Add a token for a program, with two new passwords."""
        await self.require_free(name)
        await self.get_scope_map(scope_map)
        self._require_future(expires)
        now = self._clock()
        made = tuple(MadePassword(number, make_password()) for number in PASSWORD_NUMBERS)
        token = StoredIdentity(
            name,
            IdentityKind.TOKEN,
            now,
            expires=expires,
            scope_map=scope_map,
            passwords=tuple(_stored(password, now) for password in made),
        )
        return (await self._register(token))._replace(passwords=made)

    async def change_token(self, name: str, change: TokenChange) -> StoredIdentity:
        """Change what a token may do, or for how long."""
        if change.scope_map is not None:
            await self.get_scope_map(change.scope_map)
        self._require_future(change.expires)
        now = self._clock()
        return await self._change(name, IdentityKind.TOKEN, lambda token: change.apply(token, now))

    async def regenerate(self, name: str, number: int) -> MadePassword:
        """Replace one of a token's passwords; the other one stays valid."""
        made = MadePassword(number, make_password())
        stored = _stored(made, self._clock())

        def change(token: StoredIdentity) -> StoredIdentity:
            kept = [password for password in token.passwords if password.number != number]
            ordered = sorted([*kept, stored], key=lambda password: password.number)
            return replace(token, passwords=tuple(ordered))

        await self._change(name, IdentityKind.TOKEN, change)
        return made

    async def get_scope_map(self, name: str) -> ScopeMap:
        """Return a scope map."""
        found = await self._store.get_scope_map(name)
        if found is None:
            raise RegistrarError(f"there is no scope map named {name[:80]!r}")
        return found

    async def list_scope_maps(self) -> list[ScopeMap]:
        """Return all scope maps by name."""
        return await self._store.list_scope_maps()

    async def add_scope_map(
        self, name: str, rules: tuple[ScopeRule, ...], *, description: str
    ) -> ScopeMap:
        """Add a scope map."""
        check_spelling(name)
        _check_description(description)
        scope_map = ScopeMap(name, self._clock(), description, _by_pattern(rules))
        self._reserve()
        if not await self._store.add_scope_map(scope_map, by=self._by):
            raise RegistrarError(f"a scope map named {name} already exists")
        return scope_map

    async def change_scope_map(self, name: str, change: ScopeMapChange) -> ScopeMap:
        """Change a scope map, and thereby what its tokens may do."""
        _check_description(change.description or "")
        named = {rule.pattern for rule in (await self.get_scope_map(name)).rules}
        for pattern in change.without:
            if pattern not in named:
                raise RegistrarError(f"the scope map {name} has no pattern {pattern[:80]!r}")
        if change.rules:
            self._reserve()
        changed = await self._store.change_scope_map(name, change.apply, by=self._by)
        return changed or await self.get_scope_map(name)

    async def remove_scope_map(self, name: str) -> None:
        """Remove a scope map that no token uses."""
        needed_by = await self._store.remove_scope_map(name, by=self._by)
        if needed_by is None:
            await self.get_scope_map(name)
        elif needed_by:
            tokens = ", ".join(needed_by)
            raise RegistrarError(f"the scope map {name} is used by these tokens: {tokens}")

    async def _register(self, identity: StoredIdentity) -> Registration:
        self._reserve()
        is_first = not (await self._store.access_state()).closed
        if not await self._store.add_identity(identity, by=self._by):
            taken = f"another command has just taken the name {identity.name}"
            raise RegistrarError(f"{taken}, or deleted the scope map")
        return Registration(identity, is_first)

    async def _change(
        self, name: str, kind: IdentityKind, change: Callable[[StoredIdentity], StoredIdentity]
    ) -> StoredIdentity:
        changed = await self._store.change_identity(name, kind, change, by=self._by)
        if changed is None:
            raise _missing(name, kind, await self._store.get_identity(name))
        return changed

    def _reserve(self) -> None:
        if self._require_space is not None:
            self._require_space()

    def _require_future(self, expires: int | None) -> None:
        if expires is not None and expires <= self._clock():
            raise RegistrarError("the expiry time is in the past; choose a later time")


def check_spelling(text: str) -> None:
    """Refuse an invalid name of a scope map or an identity; raises RegistrarError."""
    try:
        parse_identity_name(text)
    except IdentityNameInvalid as error:
        raise RegistrarError(str(error)) from error


def check_name(text: str) -> None:
    """Refuse a name that no identity can have; raises RegistrarError."""
    check_spelling(text)
    if text in RESERVED:
        raise RegistrarError(f"the name {text} is reserved: {RESERVED[text]}")


def parse_scope_rules(texts: Iterable[str]) -> tuple[ScopeRule, ...]:
    """Read rules such as `team/*:content/read,metadata/read`; actions for one pattern add up.

    Raises RegistrarError.
    """
    found: dict[RepositoryPattern, ScopeRule] = {}
    for text in texts:
        pattern_text, colon, words = text.rpartition(":")
        if not colon:
            example = "team/*:content/read,metadata/read"
            raise RegistrarError(
                f"invalid rule {text[:80]!r}: expected PATTERN:ACTIONS, such as {example}"
            )
        try:
            pattern = RepositoryPattern.parse(pattern_text)
            actions = parse_actions(words)
        except (PatternInvalid, ActionInvalid) as error:
            raise RegistrarError(str(error)) from error
        if pattern in found:
            actions |= found[pattern].actions
        found[pattern] = ScopeRule(pattern, actions)
    return _by_pattern(found.values())


def _set_enabled(identity: StoredIdentity, now: int, *, enabled: bool) -> StoredIdentity:
    """Return an identity that is enabled or disabled.

    Its passwords count as new ones from then on, so that tokens that were obtained with them before
    stay invalid.
    """
    if identity.enabled == enabled:
        return identity
    passwords = tuple(replace(password, created=now) for password in identity.passwords)
    return replace(identity, enabled=enabled, passwords=passwords)


def _by_pattern(rules: Iterable[ScopeRule]) -> tuple[ScopeRule, ...]:
    """Return rules in the order in which lists show them."""
    return tuple(sorted(rules, key=lambda rule: rule.pattern))


def _check_description(text: str) -> None:
    if len(text) > MAX_DESCRIPTION or not text.isprintable():
        shape = f"a description must be one line of at most {MAX_DESCRIPTION} characters"
        raise RegistrarError(shape)


def _stored(password: MadePassword, now: int) -> StoredPassword:
    return StoredPassword(password.number, digest_password(password.value), now)


def _missing(name: str, kind: IdentityKind, found: StoredIdentity | None) -> RegistrarError:
    """Return what is wrong with a name; `found` is an identity of another kind that has it."""
    if found is None or found.kind is kind:
        return RegistrarError(f"there is no {kind} named {name[:80]!r}")
    return RegistrarError(f"{name} is a {found.kind}; see `portside {found.kind} --help`")


async def _hash(password: str, cost: int, min_length: int) -> str:
    """Hash in a thread: it takes a quarter of a second."""
    try:
        return await asyncio.to_thread(
            partial(hash_password, password, cost=cost, min_length=min_length)
        )
    except PasswordInvalid as error:
        raise RegistrarError(str(error)) from error
