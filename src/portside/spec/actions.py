"""Actions: what a caller may be allowed to do in a repository, in the words of each dialect."""

from __future__ import annotations

import enum


class Action(enum.StrEnum):
    """What a caller must be allowed to do to use an endpoint.

    The values are the words of Docker's token scopes and of ACR's. NONE and CATALOG are not about a
    repository: the first asks for an identity alone, the second for the list of repositories.
    """

    NONE = "none"
    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    METADATA_READ = "metadata_read"
    METADATA_WRITE = "metadata_write"
    CATALOG = "catalog"


Actions = frozenset[Action]

REPOSITORY_ACTIONS: tuple[Action, ...] = (
    Action.PULL,
    Action.PUSH,
    Action.DELETE,
    Action.METADATA_READ,
    Action.METADATA_WRITE,
)
"""Every action in a repository, in the order in which lists show them."""

ALL: Actions = frozenset(REPOSITORY_ACTIONS)
"""The actions that `*` means."""

_ACR_WORDS = {
    "content/read": Action.PULL,
    "content/write": Action.PUSH,
    "content/delete": Action.DELETE,
    "metadata/read": Action.METADATA_READ,
    "metadata/write": Action.METADATA_WRITE,
}
_WORDS = {str(action): action for action in REPOSITORY_ACTIONS} | _ACR_WORDS
_ACR_NAMES = {action: word for word, action in _ACR_WORDS.items()}


class ActionInvalid(ValueError):
    """A word that is not an action; the message is for the person who wrote it."""


def parse_actions(text: str) -> Actions:
    """Read a list such as `pull,push`, `content/read,metadata/read` or `*`.

    Raises ActionInvalid.
    """
    found: set[Action] = set()
    for word in text.split(","):
        stripped = word.strip()
        if stripped == "*":
            found |= ALL
        elif stripped in _WORDS:
            found.add(_WORDS[stripped])
        else:
            known = ", ".join([*_ACR_WORDS, *REPOSITORY_ACTIONS, "*"])
            raise ActionInvalid(f"unknown action {stripped[:40]!r}; use {known}")
    return frozenset(found)


def ordered(actions: Actions) -> list[Action]:
    """List actions in their usual order."""
    return [action for action in REPOSITORY_ACTIONS if action in actions]


def acr_names(actions: Actions) -> list[str]:
    """List actions in the words of ACR's scope maps."""
    return [_ACR_NAMES[action] for action in ordered(actions)]
