"""Scopes: what a client requests in a token, and what a token grants.

The grammar is that of Docker's token authentication ("Token Scope Documentation"):
`resourcetype[(class)]:name:action[,action]*`, several of them separated by spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from portside.spec.actions import ALL, REPOSITORY_ACTIONS, Action, Actions, ordered

REPOSITORY = "repository"
REGISTRY = "registry"
CATALOG_NAME = "catalog"

MAX_SCOPES = 50
"""Scopes that one token can have; a push of many mounts asks for two or three. With the longest
names, the token still fits into a header."""

# The class, as in `repository(plugin)`, is deprecated; it is read and means nothing.
_TYPE = re.compile(r"([a-z0-9]+)(?:\([a-z0-9]*\))?")

# What `az` asks for before it lists and restores deleted content. To restore a manifest takes what
# it takes to push it again.
_OF_DELETED = {"deleted_read": Action.METADATA_READ, "deleted_restore": Action.PUSH}
_CATALOGS = {CATALOG_NAME, "deleted_catalog"}

_WORDS = {str(action): action for action in REPOSITORY_ACTIONS} | _OF_DELETED


class Scope(NamedTuple):
    """Some actions on one resource; `name` is `*` for every repository."""

    type: str
    name: str
    actions: Actions

    def __str__(self) -> str:
        """Write the scope as a challenge or a token request holds it."""
        words = ["*"] if self.type == REGISTRY else ordered(self.actions)
        return f"{self.type}:{self.name}:{','.join(words)}"


CATALOG_SCOPE = Scope(REGISTRY, CATALOG_NAME, frozenset({Action.CATALOG}))
"""`registry:catalog:*`, which a list of repositories needs."""


def repository_scope(name: str, *actions: Action) -> Scope:
    """Make the scope of actions in a repository."""
    return Scope(REPOSITORY, name, frozenset(actions))


def parse_scopes(texts: Iterable[str]) -> list[Scope]:
    """Read the scopes of a request; what means nothing here grants nothing and is left out."""
    words = [word for text in texts for word in text.split()]
    found = (_parse(word) for word in words[:MAX_SCOPES])
    return [scope for scope in found if scope is not None]


def _parse(text: str) -> Scope | None:
    """Split at the first and the last colon: a name may hold one, before a port."""
    kind, first, rest = text.partition(":")
    name, last, words = rest.rpartition(":")
    matched = _TYPE.fullmatch(kind)
    if matched is None or not first or not last or not name:
        return None
    if matched.group(1) == REGISTRY and name in _CATALOGS:
        return CATALOG_SCOPE if words == "*" else None
    if matched.group(1) != REPOSITORY:
        return None
    asked = words.split(",")
    actions = ALL if "*" in asked else frozenset(_WORDS[word] for word in asked if word in _WORDS)
    return Scope(REPOSITORY, name, actions) if actions else None
