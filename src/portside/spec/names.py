"""Repository names, tags and references, after the grammar of the distribution-spec.

A value of these types exists only if it parsed. They are strings, so that they cost nothing to
store, to compare and to print; `parse` is the only way to make one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, Self

from portside.spec.digests import Digest
from portside.spec.errors import NameInvalid, TagInvalid

NAME_MAX_LENGTH = 255
"""Characters. Many clients limit host, port and name to 255 together ("Pulling manifests")."""

REMEMBERED = 4096
"""Names that were parsed and are kept: most requests are for a few repositories."""

# The expression that "<name> MUST match" ("Pulling manifests"), a component at a time.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")

# The expression that "<reference> as a tag MUST" match, in the same section.
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class RepositoryName(str):
    """The name of a repository, such as `library/app`."""

    __slots__ = ()

    @classmethod
    @lru_cache(REMEMBERED)
    def parse(cls, text: str) -> Self:
        """Parse the name in a path, decoded; the last ones are remembered.

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


class QualifiedReference(NamedTuple):
    """A repository and, in it, a tag, a digest or both: `REPOSITORY[:TAG][@DIGEST]`."""

    repository: RepositoryName
    tag: Tag | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse what people write, such as `library/app:1.2.3`.

        Raises NameInvalid, TagInvalid and DigestInvalid.
        """
        named, at, digest = text.partition("@")
        path, slash, last = named.rpartition("/")
        component, colon, tag = last.partition(":")
        if ":" in path:
            host = f"invalid repository name {named[:280]!r}: leave out the host of the registry"
            raise NameInvalid(host)
        if ":" in tag:
            raise TagInvalid(f"invalid tag {tag[:140]!r}: write '@' before a digest")
        return cls(
            RepositoryName.parse(f"{path}{slash}{component}"),
            Tag.parse(tag) if colon else None,
            Digest.parse(digest) if at else None,
        )

    @property
    def named_tag(self) -> tuple[RepositoryName, Tag]:
        """The repository and its tag, where a tag is required."""
        if self.tag is None:
            raise AssertionError(self)
        return self.repository, self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"
