"""Byte ranges: what a reader asks for (Range) and what a writer announces (Content-Range)."""

from __future__ import annotations

import re
from typing import NamedTuple

from portside.spec.errors import RangeInvalid, RangeNotSatisfiable

_MAX_DIGITS = 19
"""Digits of a position: more than any file has bytes, and few enough to convert at once."""

# RFC 9110, section 14.1.1: ranges-specifier = range-unit "=" range-set
_RANGES = re.compile(r"bytes[ \t]*=[ \t]*(.+)", re.IGNORECASE)
# RFC 9110, section 14.1.2: int-range = first-pos "-" [ last-pos ], suffix-range = "-" suffix-length
_RANGE = re.compile(r"(?a:(\d*)-(\d*))")

# "Content-Range MUST match the following regular expression: ^[0-9]+-[0-9]+$" (end-5). The longer
# form of RFC 9110 ("bytes 0-9/100") is read too, for clients that were written after HTTP alone.
_CHUNK = re.compile(r"(?:bytes[ =])?(?a:(\d{1,19})-(\d{1,19}))(?:/(?a:\d{1,19}|\*))?")


class ByteRange(NamedTuple):
    """The bytes from `start` up to, and not including, `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """The number of bytes."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Write the Content-Range header of a part of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(header: str, *, size: int, max_ranges: int) -> list[ByteRange]:
    """Read a Range header for content of `size` bytes (RFC 9110, section 14.2).

    An empty list means that the header is to be ignored and the whole content sent: another unit,
    a header that is no range at all, or more than `max_ranges` ranges. Ranges that overlap or touch
    are coalesced, so that no byte is sent twice (RFC 9110, sections 15.3.7.2 and 17.15); the others
    keep their order.

    Raises RangeNotSatisfiable if no byte of the content lies in what is asked for.
    """
    specifier = _RANGES.fullmatch(header.strip())
    if specifier is None:
        return []
    parts = [part.strip() for part in specifier.group(1).split(",")]
    wanted = [part for part in parts if part]
    if not wanted or len(wanted) > max_ranges:
        return []
    found: list[ByteRange] = []
    for part in wanted:
        match = _RANGE.fullmatch(part)
        if match is None or not (match.group(1) or match.group(2)):
            return []
        resolved = _resolve(match.group(1), match.group(2), size)
        if resolved is not None:
            found.append(resolved)
    if not found:
        outside = f"the content has {size} bytes; {header[:200]!r} selects none of them"
        raise RangeNotSatisfiable(size, outside)
    return _coalesced(found) if len(found) > 1 else found


def _coalesced(ranges: list[ByteRange]) -> list[ByteRange]:
    """Join ranges that overlap or touch; each stands where the first of its ranges was."""
    joined: list[tuple[int, ByteRange]] = []
    for part, place in sorted((part, place) for place, part in enumerate(ranges)):
        if joined and part.start <= joined[-1][1].stop:
            first, before = joined[-1]
            whole = ByteRange(before.start, max(before.stop, part.stop))
            joined[-1] = (min(first, place), whole)
        else:
            joined.append((place, part))
    return [part for _, part in sorted(joined)]


def grouped(parts: list[ByteRange], *, gap: int) -> list[list[ByteRange]]:
    """Group parts that follow one another in the content with at most `gap` bytes between two."""
    groups = [parts[:1]]
    for part in parts[1:]:
        if 0 <= part.start - groups[-1][-1].stop <= gap:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _resolve(first: str, last: str, size: int) -> ByteRange | None:
    """Find the bytes that one range means, or None if there are none."""
    if max(len(first), len(last)) > _MAX_DIGITS:
        # A number with leading zeros is rare enough to be treated like an absurd one.
        first = first if len(first) <= _MAX_DIGITS else "9" * _MAX_DIGITS
        last = last if len(last) <= _MAX_DIGITS else "9" * _MAX_DIGITS
    if not first:
        length = min(int(last), size)
        return ByteRange(size - length, size) if length else None
    start = int(first)
    stop = min(int(last) + 1, size) if last else size
    return ByteRange(start, stop) if start < stop else None


def parse_chunk(header: str) -> ByteRange:
    """Read the Content-Range of a chunk (end-5, end-6), such as `0-1023`.

    Raises RangeInvalid.
    """
    match = _CHUNK.fullmatch(header.strip())
    if match is None:
        shape = f"invalid Content-Range {header[:80]!r}: expected FIRST-LAST, such as 0-1023"
        raise RangeInvalid(shape)
    first, last = int(match.group(1)), int(match.group(2))
    if last < first:
        backwards = f"invalid Content-Range {header[:80]!r}: it ends before it starts"
        raise RangeInvalid(backwards)
    return ByteRange(first, last + 1)
