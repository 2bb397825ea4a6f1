"""Identities: who makes a request, as far as the policy is concerned."""

from __future__ import annotations

import re
from dataclasses import dataclass

from portside.stores.access import IdentityKind, ScopeMap

TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105  # a name, and public
"""The user name that says that the password is a token, in ACR and here."""

# ASCII without the characters that Basic credentials, scopes and percent-encoding use.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._@+-]{0,62}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, a token, an identity of a trusted issuer, or the anonymous identity.

    `scope_map` is what a token may do. `stamp` is a digest of the credentials that the identity
    authenticated with: it changes with the password, and when the identity is enabled again.
    """

    name: str
    kind: IdentityKind
    groups: frozenset[str] = frozenset()
    scope_map: ScopeMap | None = None
    stamp: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Whether this is the identity of requests without credentials."""
        return self.kind is IdentityKind.ANONYMOUS

    @property
    def is_token(self) -> bool:
        """Whether this is a token, which a program uses."""
        return self.kind is IdentityKind.TOKEN


ANONYMOUS = Identity("", IdentityKind.ANONYMOUS)
"""The identity of requests without credentials."""


class IdentityNameInvalid(ValueError):
    """A text that cannot name an identity; the message is for the person who wrote it."""


def parse_identity_name(text: str) -> str:
    """Return the name of a new user or token.

    Raises IdentityNameInvalid.
    """
    if _NAME.fullmatch(text) is None:
        shape = (
            f"invalid name {text[:80]!r}: expected 1 to 64 letters, digits, '_', '.', '-', '@' or"
            " '+', with a letter, a digit or '_' at both ends"
        )
        raise IdentityNameInvalid(shape)
    return text
