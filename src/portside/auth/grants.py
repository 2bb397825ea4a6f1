"""Grants: what credentials allow at most, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from portside.auth.identities import ANONYMOUS, Identity
from portside.auth.policy import Policy
from portside.spec.actions import Action, Actions, ordered
from portside.spec.errors import NameInvalid
from portside.spec.names import RepositoryName
from portside.spec.scopes import CATALOG_NAME, CATALOG_SCOPE, REGISTRY, REPOSITORY, Scope

EVERY_REPOSITORY = "*"

NOTHING: Actions = frozenset()


@dataclass(frozen=True, slots=True)
class Grants:
    """Actions by repository; `*` means every repository."""

    repositories: dict[str, Actions] = field(default_factory=dict)
    catalog: bool = False

    def cover(self, action: Action, repository: str) -> bool:
        """Whether an action in a repository is granted."""
        return action in self.repositories.get(repository, NOTHING) or (
            action in self.repositories.get(EVERY_REPOSITORY, NOTHING)
        )

    @property
    def scope(self) -> str:
        """The grants as a list of scopes."""
        scopes = [Scope(REPOSITORY, name, found) for name, found in self.repositories.items()]
        return " ".join(map(str, [*scopes, CATALOG_SCOPE] if self.catalog else scopes))

    def claim(self) -> list[dict[str, Any]]:
        """Return the claim `access` of Docker's token authentication."""
        entries = [
            {"type": REPOSITORY, "name": name, "actions": ordered(actions)}
            for name, actions in self.repositories.items()
        ]
        if self.catalog:
            entries.append({"type": REGISTRY, "name": CATALOG_NAME, "actions": ["*"]})
        return entries

    @classmethod
    def from_claim(cls, claim: object) -> Grants:
        """Read the claim `access`; entries that are not understood grant nothing."""
        repositories: dict[str, Actions] = {}
        catalog = False
        for entry in claim if isinstance(claim, list) else ():
            kind, name, words = _parts(entry)
            if kind == REGISTRY and name == CATALOG_NAME:
                catalog = catalog or "*" in words
            elif kind == REPOSITORY and _names_repository(name) and (actions := _actions(words)):
                repositories[name] = repositories.get(name, NOTHING) | actions
        return cls(repositories, catalog)


class Caller(NamedTuple):
    """Who makes a request, and the limits of the credentials.

    `grants` is what the credentials allow at most, `expires` when they end, in seconds since 1970;
    each is None for credentials without that limit.
    """

    identity: Identity
    grants: Grants | None = None
    expires: int | None = None

    def ending(self, expires: int) -> Caller:
        """Return the same caller with credentials that end at a time, or earlier."""
        return self._replace(expires=min(expires, self.expires or expires))


NOBODY = Caller(ANONYMOUS)
"""The caller of a request without credentials."""


def grant(policy: Policy, caller: Caller, asked: Iterable[Scope]) -> Grants:
    """Return what is asked for, allowed by the policy, and covered by the credentials.

    Granting less than was asked for is not an error.
    """
    identity, limit = caller.identity, caller.grants
    repositories: dict[str, Actions] = {}
    catalog = False
    for scope in asked:
        if scope.type == REGISTRY:
            is_admitted = not identity.is_anonymous or policy.admits_anonymous
            catalog = is_admitted and (limit is None or limit.catalog)
        else:
            actions = _allowed(policy, identity, scope)
            if limit is not None:
                actions = frozenset(a for a in actions if limit.cover(a, scope.name))
            if actions:
                known = repositories.get(scope.name, NOTHING)
                repositories[scope.name] = known | actions
    return Grants(repositories, catalog)


def _allowed(policy: Policy, identity: Identity, scope: Scope) -> Actions:
    """Return the actions of a scope that the policy allows.

    For every repository, those are the ones that rules for the pattern `*` allow: no narrower
    pattern matches the text `*`. Narrower rules still decide about each request.
    """
    if not _names_repository(scope.name):
        return NOTHING
    return frozenset(a for a in scope.actions if policy.allows(identity, a, scope.name))


def _parts(entry: object) -> tuple[str, str, list[str]]:
    if not isinstance(entry, dict):
        return "", "", []
    kind, name, words = entry.get("type"), entry.get("name"), entry.get("actions")
    if not isinstance(kind, str) or not isinstance(name, str) or not isinstance(words, list):
        return "", "", []
    return kind, name, [word for word in words if isinstance(word, str)]


def _names_repository(name: str) -> bool:
    try:
        return name == EVERY_REPOSITORY or bool(RepositoryName.parse(name))
    except NameInvalid:
        return False


def _actions(words: list[str]) -> Actions:
    if "*" in words:
        return frozenset(_BY_WORD.values())
    return frozenset(_BY_WORD[word] for word in words if word in _BY_WORD)


_BY_WORD = {str(action): action for action in ordered(frozenset(Action))}
