"""Grants: what a token lets its bearer do, at most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from portside.spec.actions import Action, Actions, ordered
from portside.spec.errors import NameInvalid
from portside.spec.names import RepositoryName
from portside.spec.scopes import CATALOG_NAME, CATALOG_SCOPE, REGISTRY, REPOSITORY, Scope

EVERY_REPOSITORY = "*"

NOTHING: Actions = frozenset()


@dataclass(frozen=True, slots=True)
class Grants:
    """Actions by repository; `*` stands for every repository that the policy gives."""

    repositories: dict[str, Actions] = field(default_factory=dict)
    catalog: bool = False

    def cover(self, action: Action, repository: str) -> bool:
        """Tell whether an action in a repository is granted."""
        return action in self.repositories.get(repository, NOTHING) or (
            action in self.repositories.get(EVERY_REPOSITORY, NOTHING)
        )

    @property
    def scope(self) -> str:
        """Write the grants as a list of scopes."""
        scopes = [Scope(REPOSITORY, name, found) for name, found in self.repositories.items()]
        return " ".join(map(str, [*scopes, CATALOG_SCOPE] if self.catalog else scopes))

    def claim(self) -> list[dict[str, Any]]:
        """Write the claim `access` of Docker's token authentication."""
        entries = [
            {"type": REPOSITORY, "name": name, "actions": ordered(actions)}
            for name, actions in self.repositories.items()
        ]
        if self.catalog:
            entries.append({"type": REGISTRY, "name": CATALOG_NAME, "actions": ["*"]})
        return entries

    @classmethod
    def from_claim(cls, claim: object) -> Grants:
        """Read the claim `access`; what it says in other words, or of no repository, is nothing."""
        repositories: dict[str, Actions] = {}
        catalog = False
        for entry in claim if isinstance(claim, list) else ():
            kind, name, words = _parts(entry)
            if kind == REGISTRY and name == CATALOG_NAME:
                catalog = catalog or "*" in words
            elif kind == REPOSITORY and _names_repository(name) and (actions := _actions(words)):
                repositories[name] = repositories.get(name, NOTHING) | actions
        return cls(repositories, catalog)


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
