"""Conditional requests: entity tags are digests in quotes (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

from typing import Self

import msgspec

from portside.spec.patterns import TagPattern


class TagCondition(msgspec.Struct, frozen=True):
    """What must hold of a reference when it is pushed to or deleted (If-Match, If-None-Match).

    `match` lists the digests of which the tag must have one; `*` means any. `none_match` lists
    those that it must not have. A tag that a pattern in `immutable` matches must neither move nor
    go, as the rules of its repository say.
    """

    match: tuple[str, ...] | None = None
    none_match: tuple[str, ...] | None = None
    immutable: tuple[TagPattern, ...] = ()

    @classmethod
    def parse(cls, if_match: str | None, if_none_match: str | None) -> Self:
        """Read the headers of those names."""
        return cls(
            match=_strong(if_match) if if_match is not None else None,
            none_match=_weak(if_none_match) if if_none_match is not None else None,
        )

    def holds(self, current: str | None) -> bool:
        """Whether the condition holds for the digest that the tag has now (None: no such tag)."""
        if self.match is not None and not _among(current, self.match):
            return False
        return self.none_match is None or not _among(current, self.none_match)


def keeping(
    condition: TagCondition | None, immutable: tuple[TagPattern, ...]
) -> TagCondition | None:
    """Return a condition that keeps immutable tags as well; None if nothing has to hold."""
    if not immutable:
        return condition
    return msgspec.structs.replace(condition or TagCondition(), immutable=immutable)


def allows_range(if_range: str | None, digest: str) -> bool:
    """Whether If-Range lets a part be sent; a date never does, as content has no date here."""
    return if_range is None or if_range.strip().strip('"') == digest


def _among(current: str | None, listed: tuple[str, ...]) -> bool:
    return current is not None and ("*" in listed or current in listed)


def _strong(header: str) -> tuple[str, ...]:
    """Read If-Match, which a weak tag never fulfils (RFC 9110, section 13.1.1)."""
    parts = (part.strip() for part in header.split(","))
    return tuple(_tag(part) for part in parts if not part.startswith("W/"))


def _weak(header: str) -> tuple[str, ...]:
    """Read If-None-Match, for which weak and strong tags are alike (section 13.1.2)."""
    return tuple(_tag(part.strip().removeprefix("W/")) for part in header.split(","))


def _tag(written: str) -> str:
    """Take the quotes off, which some clients leave out; a star in quotes is not the star."""
    return "" if written == '"*"' else written.strip('"')
