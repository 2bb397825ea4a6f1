"""Conditions: what must hold of a tag or a manifest before it is changed."""

from __future__ import annotations

import msgspec


class TagCondition(msgspec.Struct, frozen=True):
    """What must hold of a reference when it is pushed to or deleted (If-Match, If-None-Match).

    `match` lists the digests of which the tag must have one; `*` stands for any. `none_match` lists
    those that it must not have.
    """

    match: tuple[str, ...] | None = None
    none_match: tuple[str, ...] | None = None

    def holds(self, current: str | None) -> bool:
        """Judge the digest that the tag has now, or None if there is no such tag."""
        if self.match is not None and not _among(current, self.match):
            return False
        return self.none_match is None or not _among(current, self.none_match)


def _among(current: str | None, listed: tuple[str, ...]) -> bool:
    return current is not None and ("*" in listed or current in listed)
