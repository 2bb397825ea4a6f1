"""The registrar: enters and strikes users, tokens and scope maps for whoever runs the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from msgspec.structs import replace

from portside.auth.identities import TOKEN_USER, IdentityNameInvalid, parse_identity_name
from portside.auth.passwords import (
    PasswordInvalid,
    digest_password,
    hash_password,
    make_password,
)
from portside.auth.registrations import (
    MadePassword,
    Registration,
    ScopeMapChange,
    TokenChange,
    by_pattern,
    set_enabled,
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

PASSWORD_NUMBERS = (1, 2)
"""A token has two passwords, so that one can be replaced while programs use the other."""

MAX_DESCRIPTION = 256
"""Characters: what fits in a line or two of a list."""

RESERVED = {
    TOKEN_USER: "the name that clients give when the password is a token",
    "anonymous": "what those who send no credentials are called",
}


class RegistrarError(Exception):
    """Something cannot be done as asked; the message is for the person who asked."""


class Registrar:
    """The verbs over the store of access control.

    Everything here raises RegistrarError. `clock` gives microseconds since 1970.
    """

    def __init__(self, store: AccessStore, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    async def get(self, name: str, kind: IdentityKind) -> StoredIdentity:
        """Read a user or a token."""
        found = await self._store.get_identity(name)
        if found is None or found.kind is not kind:
            raise _missing(name, kind, found)
        return found

    async def require_free(self, name: str) -> None:
        """Refuse a name that cannot be a new identity's."""
        check_name(name)
        found = await self._store.get_identity(name)
        if found is not None:
            raise RegistrarError(f"there is a {found.kind} named {name} already")

    async def add_user(self, name: str, password: str, *, cost: int) -> Registration:
        """Enter a person with the password that they chose."""
        await self.require_free(name)
        now = self._clock()
        stored = StoredPassword(1, await _hash(password, cost), now)
        user = StoredIdentity(name, IdentityKind.USER, now, passwords=(stored,))
        return await self._register(user)

    async def change_password(self, name: str, password: str, *, cost: int) -> None:
        """Give a user another password; the old one ends at once."""
        stored = StoredPassword(1, await _hash(password, cost), self._clock())
        await self._change(name, IdentityKind.USER, lambda user: replace(user, passwords=(stored,)))

    async def enable_user(self, name: str, *, enabled: bool) -> None:
        """Let a user in, or no longer."""
        now = self._clock()
        await self._change(
            name, IdentityKind.USER, lambda user: set_enabled(user, now, enabled=enabled)
        )

    async def remove(self, name: str, kind: IdentityKind) -> None:
        """Strike a user or a token."""
        if not await self._store.remove_identity(name, kind):
            raise _missing(name, kind, await self._store.get_identity(name))

    async def add_token(self, name: str, scope_map: str, *, expires: int | None) -> Registration:
        """Enter a token for a program, with two new passwords."""
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
            passwords=tuple(_keep(password, now) for password in made),
        )
        return (await self._register(token))._replace(passwords=made)

    async def change_token(self, name: str, change: TokenChange) -> StoredIdentity:
        """Change what a token may do, and for how long."""
        if change.scope_map is not None:
            await self.get_scope_map(change.scope_map)
        self._require_future(change.expires)
        now = self._clock()
        return await self._change(name, IdentityKind.TOKEN, lambda token: change.apply(token, now))

    async def regenerate(self, name: str, number: int) -> MadePassword:
        """Make one of a token's passwords anew; the other stays."""
        made = MadePassword(number, make_password())
        stored = _keep(made, self._clock())

        def change(token: StoredIdentity) -> StoredIdentity:
            kept = [password for password in token.passwords if password.number != number]
            ordered = sorted([*kept, stored], key=lambda password: password.number)
            return replace(token, passwords=tuple(ordered))

        await self._change(name, IdentityKind.TOKEN, change)
        return made

    async def get_scope_map(self, name: str) -> ScopeMap:
        """Read a scope map."""
        found = await self._store.get_scope_map(name)
        if found is None:
            raise RegistrarError(f"there is no scope map named {name[:80]!r}")
        return found

    async def add_scope_map(
        self, name: str, rules: tuple[ScopeRule, ...], *, description: str
    ) -> ScopeMap:
        """Enter a scope map."""
        check_spelling(name)
        _check_description(description)
        scope_map = ScopeMap(name, self._clock(), description, by_pattern(rules))
        if not await self._store.add_scope_map(scope_map):
            raise RegistrarError(f"there is a scope map named {name} already")
        return scope_map

    async def change_scope_map(self, name: str, change: ScopeMapChange) -> ScopeMap:
        """Change what every token that names a scope map may do."""
        _check_description(change.description or "")
        named = {rule.pattern for rule in (await self.get_scope_map(name)).rules}
        for pattern in change.without:
            if pattern not in named:
                raise RegistrarError(f"the scope map {name} does not name {pattern[:80]!r}")
        changed = await self._store.change_scope_map(name, change.apply)
        return changed or await self.get_scope_map(name)

    async def remove_scope_map(self, name: str) -> None:
        """Strike a scope map that no token names."""
        needed_by = await self._store.remove_scope_map(name)
        if needed_by is None:
            await self.get_scope_map(name)
        elif needed_by:
            tokens = ", ".join(needed_by)
            raise RegistrarError(f"the scope map {name} is needed by the tokens: {tokens}")

    async def _register(self, identity: StoredIdentity) -> Registration:
        is_first = not (await self._store.access_state()).closed
        if not await self._store.add_identity(identity):
            raise RegistrarError(f"{identity.name} was taken, or its scope map deleted, meanwhile")
        return Registration(identity, is_first)

    async def _change(
        self, name: str, kind: IdentityKind, change: Callable[[StoredIdentity], StoredIdentity]
    ) -> StoredIdentity:
        changed = await self._store.change_identity(name, kind, change)
        if changed is None:
            raise _missing(name, kind, await self._store.get_identity(name))
        return changed

    def _require_future(self, expires: int | None) -> None:
        if expires is not None and expires <= self._clock():
            raise RegistrarError("a token cannot expire before it is used; name a later time")


def check_spelling(text: str) -> None:
    """Refuse what cannot be a name, of a scope map or an identity; raises RegistrarError."""
    try:
        parse_identity_name(text)
    except IdentityNameInvalid as error:
        raise RegistrarError(str(error)) from error


def check_name(text: str) -> None:
    """Refuse what cannot name a new identity; raises RegistrarError."""
    check_spelling(text)
    if text in RESERVED:
        raise RegistrarError(f"{text} cannot be a name: it is {RESERVED[text]}")


def parse_scope_rules(texts: Iterable[str]) -> tuple[ScopeRule, ...]:
    """Read rules such as `team/*:content/read,metadata/read`; those for one pattern add up.

    Raises RegistrarError.
    """
    found: dict[RepositoryPattern, ScopeRule] = {}
    for text in texts:
        pattern_text, colon, words = text.rpartition(":")
        if not colon:
            example = "team/*:content/read,metadata/read"
            raise RegistrarError(
                f"{text[:80]!r} is not of the form PATTERN:ACTIONS, such as {example}"
            )
        try:
            pattern = RepositoryPattern.parse(pattern_text)
            actions = parse_actions(words)
        except (PatternInvalid, ActionInvalid) as error:
            raise RegistrarError(str(error)) from error
        if pattern in found:
            actions |= found[pattern].actions
        found[pattern] = ScopeRule(pattern, actions)
    return by_pattern(found.values())


def _check_description(text: str) -> None:
    if len(text) > MAX_DESCRIPTION or not text.isprintable():
        shape = f"a description is one line of at most {MAX_DESCRIPTION} characters"
        raise RegistrarError(shape)


def _keep(password: MadePassword, now: int) -> StoredPassword:
    return StoredPassword(password.number, digest_password(password.value), now)


def _missing(name: str, kind: IdentityKind, found: StoredIdentity | None) -> RegistrarError:
    """Say what is wrong with a name; `found` is the identity of another kind that has it."""
    if found is None or found.kind is kind:
        return RegistrarError(f"there is no {kind} named {name[:80]!r}")
    return RegistrarError(f"{name} is a {found.kind}; see `portside {found.kind} --help`")


async def _hash(password: str, cost: int) -> str:
    """Hash in a thread: it takes a quarter of a second."""
    try:
        return await asyncio.to_thread(partial(hash_password, password, cost=cost))
    except PasswordInvalid as error:
        raise RegistrarError(str(error)) from error
