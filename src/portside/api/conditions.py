"""Conditional requests: entity tags are digests in quotes (RFC 9110, sections 8.8.3 and 13.1)."""

from __future__ import annotations

from portside.api.calls import Call
from portside.spec.conditions import TagCondition
from portside.spec.errors import PreconditionFailed


def is_not_modified(call: Call, digest: str) -> bool:
    """Tell whether If-None-Match says that the client has this content already."""
    header = call.header("if-none-match")
    if header is None:
        return False
    known = _weak(header)
    return "*" in known or digest in known


def check_match(call: Call, digest: str) -> None:
    """Require what If-Match says of content that is there; raises PreconditionFailed."""
    header = call.header("if-match")
    if header is not None and not TagCondition(match=_strong(header)).holds(digest):
        raise PreconditionFailed(f"{digest} is not among those of If-Match")


def may_send_range(call: Call, digest: str) -> bool:
    """Tell whether If-Range lets a part be sent; a date never does, for there are no dates here."""
    header = call.header("if-range")
    return header is None or header.strip().strip('"') == digest


def tag_condition(call: Call) -> TagCondition | None:
    """Give what a push or a delete requires of its reference, or None if that is nothing."""
    match, none_match = call.header("if-match"), call.header("if-none-match")
    if match is None and none_match is None:
        return None
    return TagCondition(
        match=_strong(match) if match is not None else None,
        none_match=_weak(none_match) if none_match is not None else None,
    )


def _strong(header: str) -> tuple[str, ...]:
    """Read If-Match, which a weak tag never fulfils (RFC 9110, section 13.1.1)."""
    parts = (part.strip() for part in header.split(","))
    return tuple(_tag(part) for part in parts if not part.startswith("W/"))


def _weak(header: str) -> tuple[str, ...]:
    """Read If-None-Match, for which weak tags and strong ones are alike (section 13.1.2)."""
    return tuple(_tag(part.strip().removeprefix("W/")) for part in header.split(","))


def _tag(written: str) -> str:
    """Take the quotes off, which some clients leave out; a star in quotes is not the star."""
    return "" if written == '"*"' else written.strip('"')
