"""What the registrar is told to change, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from portside.stores.access import ScopeMap, ScopeRule, StoredIdentity


class MadePassword(NamedTuple):
    """A password that was made a moment ago, and that nobody can read again."""

    number: int
    value: str


class Registration(NamedTuple):
    """A new identity.

    `is_first` tells that the registry asks for credentials from now on. `passwords` are those that
    were made for it.
    """

    identity: StoredIdentity
    is_first: bool
    passwords: tuple[MadePassword, ...] = ()


class TokenChange(NamedTuple):
    """What is to become of a token; None leaves something as it is.

    `expires` is in microseconds since 1970; `endless` takes the end away.
    """

    scope_map: str | None = None
    enabled: bool | None = None
    expires: int | None = None
    endless: bool = False

    def apply(self, token: StoredIdentity, now: int) -> StoredIdentity:
        """Give the token as it will be; `now` is in microseconds since 1970."""
        expires = token.expires if self.expires is None else self.expires
        changed = replace(
            token,
            scope_map=self.scope_map or token.scope_map,
            expires=None if self.endless else expires,
        )
        return changed if self.enabled is None else set_enabled(changed, now, enabled=self.enabled)


class ScopeMapChange(NamedTuple):
    """What is to become of a scope map; None leaves the description as it is.

    `rules` replace those for the same patterns; `without` are patterns that are no longer named.
    """

    rules: tuple[ScopeRule, ...] = ()
    without: tuple[str, ...] = ()
    description: str | None = None

    def apply(self, scope_map: ScopeMap) -> ScopeMap:
        """Give the scope map as it will be."""
        kept = {rule.pattern: rule for rule in scope_map.rules if rule.pattern not in self.without}
        kept |= {rule.pattern: rule for rule in self.rules}
        described = scope_map.description if self.description is None else self.description
        return replace(scope_map, rules=by_pattern(kept.values()), description=described)


def set_enabled(identity: StoredIdentity, now: int, *, enabled: bool) -> StoredIdentity:
    """Disable an identity, or enable it again.

    Its passwords count from then on as new ones, so that nothing comes back to life that was
    obtained with them before.
    """
    if identity.enabled == enabled:
        return identity
    passwords = tuple(replace(password, created=now) for password in identity.passwords)
    return replace(identity, enabled=enabled, passwords=passwords)


def by_pattern(rules: Iterable[ScopeRule]) -> tuple[ScopeRule, ...]:
    """Order rules as lists show them."""
    return tuple(sorted(rules, key=lambda rule: rule.pattern))
