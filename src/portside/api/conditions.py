"""Conditional requests: entity tags are digests in quotes (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

from portside.api.calls import Call
from portside.stores.interfaces import TagCondition


def is_not_modified(call: Call, digest: str) -> bool:
    """Tell whether If-None-Match says that the client has this content already."""
    header = call.header("if-none-match")
    if header is None:
        return False
    known = _tags(header)
    return "*" in known or digest in known


def may_send_range(call: Call, digest: str) -> bool:
    """Tell whether If-Range lets a part be sent; a date never does, for there are no dates here."""
    header = call.header("if-range")
    return header is None or header.strip().strip('"') == digest


def tag_condition(call: Call) -> TagCondition | None:
    """Give what a push requires of the tag that it moves, or None if it requires nothing."""
    match, none_match = call.header("if-match"), call.header("if-none-match")
    if match is None and none_match is None:
        return None
    return TagCondition(
        match=_tags(match) if match is not None else None,
        none_match=_tags(none_match) if none_match is not None else None,
    )


def _tags(header: str) -> tuple[str, ...]:
    """Read a list of entity tags; some clients leave the quotes out."""
    return tuple(part.strip().removeprefix("W/").strip('"') for part in header.split(","))
