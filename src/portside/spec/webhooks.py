"""Webhooks: which events a receiver is told of, and in which format."""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterable
from typing import NamedTuple, Self

from portside.spec.patterns import RepositoryPattern, TagPattern


class Format(enum.StrEnum):
    """How an event is written for a receiver."""

    CLOUDEVENTS = "cloudevents"
    ACR = "acr"
    DISTRIBUTION = "distribution"

    def expresses(self, action: str) -> bool:
        """Whether the format has a form for the events of an action."""
        known = EXPRESSED.get(self)
        return known is None or action in known


EXPRESSED = {
    # ACR's reference: push of a manifest; delete of a repository or a manifest, and not of a tag.
    Format.ACR: frozenset({"manifest.pushed", "manifest.deleted", "repository.deleted"}),
    # distribution, notifications/bridge.go: push, mount and delete; pulls are not events here.
    Format.DISTRIBUTION: frozenset(
        {
            "manifest.pushed",
            "manifest.deleted",
            "tag.deleted",
            "repository.deleted",
            "blob.pushed",
            "blob.mounted",
            "blob.deleted",
        }
    ),
}
"""The actions that a format has a form for, if it does not have one for all of them."""


def covers(pattern: str, action: str) -> bool:
    """Whether a pattern is an action, or its noun with `.*` behind it."""
    return pattern in {action, f"{action.partition('.')[0]}.*"}


# Standard Webhooks, "Signature scheme".
SECRET_PREFIX = "whsec_"  # noqa: S105  # what secrets begin with
KEY_LEAST, KEY_MOST = 24, 64
"""Bytes of a key: at least 192 bits, and 512 at most."""


class SecretInvalid(ValueError):
    """A text that is not a secret of webhooks; the message does not show it."""


class Secret(NamedTuple):
    """A key that signs what is sent, which is never shown."""

    key: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a secret as Standard Webhooks writes it: `whsec_`, and the key in base64.

        Raises SecretInvalid.
        """
        try:
            key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            key = b""
        if not text.startswith(SECRET_PREFIX) or not KEY_LEAST <= len(key) <= KEY_MOST:
            shape = f"{KEY_LEAST} to {KEY_MOST} bytes in base64 behind it"
            raise SecretInvalid(f"a secret must begin with {SECRET_PREFIX}, and have {shape}")
        return cls(key)

    def __repr__(self) -> str:
        return "Secret(…)"


class SecretSource(NamedTuple):
    """Where the secrets of a webhook are: a file or an environment variable; empty for neither.

    They are read when something is sent, so that a secret that was replaced is used at once.
    """

    file: str = ""
    variable: str = ""

    def __str__(self) -> str:
        return self.file or f"${self.variable}"


class Webhook(NamedTuple):
    """A receiver, and the events that it is told of.

    `actions` are actions, or nouns with `.*` behind them. Where it is empty, all changes of
    repositories are sent; the other events only if they are named, and neither repositories nor
    tags are. Without `repositories`, those of all are sent; with `tags`, only those about such a
    tag. `allow_private` lets the host have a private address.
    """

    name: str
    url: str
    secret: SecretSource = SecretSource()
    actions: frozenset[str] = frozenset()
    repositories: tuple[RepositoryPattern, ...] = ()
    tags: tuple[TagPattern, ...] = ()
    format: Format = Format.CLOUDEVENTS
    allow_private: bool = False

    def wants(self, action: str, repository: str, tags: Iterable[str] = ()) -> bool:
        """Whether an event about some tags is sent; `repository` is empty if it has none."""
        is_named = any(covers(pattern, action) for pattern in self.actions)
        if not self.format.expresses(action):
            return False
        if not repository:
            return is_named and not self.repositories and not self.tags
        return (
            (is_named or not self.actions)
            and (not self.repositories or any(it.matches(repository) for it in self.repositories))
            and (not self.tags or any(it.matches(tag) for it in self.tags for tag in tags))
        )

    def __repr__(self) -> str:
        # Some receivers have a secret in their URL.
        return f"Webhook({self.name!r})"
