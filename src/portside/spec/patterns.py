"""Patterns: the repositories and the tags that a rule applies to."""

from __future__ import annotations

from typing import NamedTuple, Self

from portside.spec.errors import NameInvalid, TagInvalid
from portside.spec.names import NAME_MAX_LENGTH, RepositoryName, Tag


class PatternInvalid(ValueError):
    """A text that is not a pattern; the message is for the person who wrote it."""


_BELOW = "!"
"""Sorts before every character of a name."""

_ABOVE = "{"
"""Sorts behind every character of a name."""


class NameRange(NamedTuple):
    """The repository names from `start` up to, and not including, `stop`, in ASCII order."""

    start: str
    stop: str

    @property
    def is_single(self) -> bool:
        """Whether this is the range of one name."""
        return self.stop == self.start + _BELOW

    def after(self, last: str) -> NameRange:
        """Return the part of the range with names greater than `last`."""
        return NameRange(max(self.start, last + _BELOW), self.stop) if last else self


EVERY_NAME = (NameRange(_BELOW, _ABOVE),)
"""All names, where no rule hides any."""


class RepositoryPattern(str):
    """The name of a repository, or the start of names with a `*` behind it.

    `team/app` is one repository, `team/*` all below `team/` at any depth, `*` all there are. A star
    stands for at least one character, and only at the end, so that of two patterns that match a
    name one is always the more specific: the longer one.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a pattern.

        Raises PatternInvalid.
        """
        # A text is the start of a name exactly if it makes one with a letter behind it.
        example = text[:-1] + "a" if text.endswith("*") else text
        try:
            RepositoryName.parse(example)
        except NameInvalid as error:
            shape = (
                f"invalid pattern {text[:80]!r}: use a repository name such as team/app, or the"
                " start of one with a star at the end, such as team/*"
            )
            raise PatternInvalid(shape) from error
        return cls(text)

    @property
    def is_exact(self) -> bool:
        """Whether this is the name of one repository."""
        return not self.endswith("*")

    @property
    def names(self) -> NameRange:
        """The names that the pattern matches, which follow each other in ASCII order."""
        if self.is_exact:
            return NameRange(str(self), self + _BELOW)
        start = self[:-1]
        stop = start[:-1] + chr(ord(start[-1]) + 1) if start else _ABOVE
        return NameRange(start + _BELOW, stop)

    @property
    def specificity(self) -> int:
        """A number that is larger for the more specific of two patterns that match a name."""
        return NAME_MAX_LENGTH + 1 if self.is_exact else len(self)

    def matches(self, name: str) -> bool:
        """Whether the pattern matches a repository."""
        if self.is_exact:
            return name == self
        start = self[:-1]
        return len(name) > len(start) and name.startswith(start)


class TagPattern(str):
    """A tag, in which each `*` stands for at least one character, such as `pr-*` and `*-rc*`.

    Tags need no order of patterns, so that a star can be anywhere.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a pattern.

        Raises PatternInvalid.
        """
        try:
            Tag.parse(text.replace("*", "a"))
        except TagInvalid as error:
            wrong = "use a tag such as latest, with stars for its variable parts, such as pr-*"
            raise PatternInvalid(f"invalid pattern {text[:140]!r}: {wrong}") from error
        return cls(text)

    def matches(self, tag: str) -> bool:
        """Whether the pattern matches a tag."""
        first, *others = self.split("*")
        if not others:
            return tag == self
        *middle, last = others
        end = len(first)
        if not tag.startswith(first):
            return False
        for part in middle:
            # The first place is the best: it leaves the most to the stars behind it.
            found = tag.find(part, end + 1)
            if found < 0:
                return False
            end = found + len(part)
        return len(tag) - len(last) > end and tag.endswith(last)
