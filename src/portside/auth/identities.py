"""Identities: on whose behalf a request is made."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from portside.auth.rules import Rule

TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105  # a name, and public
"""The user name that says that the password is a token, in ACR and here."""

# ASCII without what Basic credentials, scopes and percent-encoding give a meaning.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._@+-]{0,62}[A-Za-z0-9_])?")


class Kind(enum.StrEnum):
    """Where an identity comes from."""

    ANONYMOUS = "anonymous"
    USER = "user"
    TOKEN = "token"  # noqa: S105  # the word, not a secret
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody, or nobody in particular.

    `rules` are those of the scope map, for a token. `stamp` is a digest of what the identity has
    proved itself with: once it has another password, or was disabled, it has another stamp.
    """

    name: str
    kind: Kind
    groups: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    stamp: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Tell whether nobody in particular is meant."""
        return self.kind is Kind.ANONYMOUS


ANONYMOUS = Identity("", Kind.ANONYMOUS)
"""Whoever sends no credentials."""


class IdentityNameInvalid(ValueError):
    """A text that cannot name an identity; the message is for the person who wrote it."""


def parse_identity_name(text: str) -> str:
    """Take a name for a new user or token.

    Raises IdentityNameInvalid.
    """
    if _NAME.fullmatch(text) is None:
        shape = (
            f"{text[:80]!r} cannot be a name: 1 to 64 letters, digits, '_', '.', '-', '@' or '+',"
            " with a letter, a digit or '_' at both ends"
        )
        raise IdentityNameInvalid(shape)
    return text
