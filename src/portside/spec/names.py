"""Repository names, tags and references, after the grammar of the distribution-spec.

A value of these types exists only if it parsed. They are strings, so that they cost nothing to
store, to compare and to print; `parse` is the only way to make one.
"""

from __future__ import annotations

import re
from typing import Self

from portside.spec.digests import Digest
from portside.spec.errors import NameInvalid, TagInvalid

NAME_MAX_LENGTH = 255
"""Characters. Many clients limit host, port and name to 255 together ("Pulling manifests")."""

# The expression that "<name> MUST match" ("Pulling manifests"), a component at a time.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")

# The expression that "<reference> as a tag MUST" match, in the same section.
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class RepositoryName(str):
    """The name of a repository, such as `library/app`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the name in a path, decoded.

        Raises NameInvalid.
        """
        if len(text) > NAME_MAX_LENGTH:
            excess = (
                f"{text[:32]!r}… has {len(text)} characters; at most {NAME_MAX_LENGTH} are allowed"
            )
            raise NameInvalid(excess)
        if _NAME.fullmatch(text) is None:
            shape = (
                f"invalid repository name {text!r}: use lower-case letters and digits, separated by"
                " '.', '_', '__' or '-', in components separated by '/'"
            )
            raise NameInvalid(shape)
        return cls(text)


class Tag(str):
    """A human-readable pointer to a manifest, such as `1.2.3`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a tag of a path or a query, decoded.

        Raises TagInvalid.
        """
        if _TAG.fullmatch(text) is None:
            shape = (
                f"invalid tag {text[:140]!r}: use 1 to 128 letters, digits, '_', '.' or '-',"
                " not starting with '.' or '-'"
            )
            raise TagInvalid(shape)
        return cls(text)


Reference = Tag | Digest
"""The last segment of `/manifests/<reference>`."""


def parse_reference(text: str) -> Reference:
    """Parse a tag or a digest; a text with a ':' is a digest, because no tag contains one.

    Raises DigestInvalid or TagInvalid.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)
