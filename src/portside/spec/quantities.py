"""Durations and sizes as people write them: `30d`, `50GiB`."""

from __future__ import annotations

import re

DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
"""Seconds of each unit."""

SIZES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
"""Bytes of each unit."""

LONGEST = 3650 * DURATIONS["d"]
"""Seconds; ten years, as for all that a registry keeps for some time."""

LARGEST = 2**63 - 1
"""Bytes; what file systems and databases can count."""


class QuantityInvalid(ValueError):
    """A text that is not a quantity; the message is for the person who wrote it."""


def parse_duration(text: str) -> int:
    """Return the microseconds of a duration; raises QuantityInvalid."""
    shape = "use a whole number and a unit (s, m, h, d or w), such as 30d or 12h"
    seconds = _parse(text, DURATIONS, shape, what="duration")
    if seconds > LONGEST:
        raise QuantityInvalid(f"invalid duration {text[:40]!r}: at most 3650d are allowed")
    return seconds * 1_000_000


def parse_size(text: str) -> int:
    """Return the bytes of a size; raises QuantityInvalid."""
    shape = f"use a whole number and a unit ({', '.join(SIZES)}), such as 50GiB"
    size = _parse(text, SIZES, shape, what="size")
    if size > LARGEST:
        raise QuantityInvalid(f"invalid size {text[:40]!r}: less than 8388608TiB is allowed")
    return size


def format_duration(microseconds: int) -> str:
    """Return a duration in the largest unit that it is a multiple of."""
    seconds = microseconds // 1_000_000
    units = [unit for unit, size in DURATIONS.items() if seconds % size == 0 and unit != "w"]
    return f"{seconds // DURATIONS[units[-1]]}{units[-1]}" if seconds else "0s"


def format_size(size: int) -> str:
    """Return a number of bytes as people read it, such as `12.3 MiB`."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    exponent = min(max(abs(size).bit_length() - 1, 0) // 10, len(units) - 1)
    if exponent == 0:
        return f"{size} B"
    return f"{size / 1024**exponent:.1f} {units[exponent]}"


def _parse(text: str, units: dict[str, int], shape: str, *, what: str) -> int:
    found = re.fullmatch(r"([0-9]{1,18})([A-Za-z]+)", text)
    if found is None or found[2] not in units:
        raise QuantityInvalid(f"invalid {what} {text[:40]!r}: {shape}")
    return int(found[1]) * units[found[2]]
