"""Durations and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.spec.quantities import (
    DURATIONS,
    SIZES,
    QuantityInvalid,
    format_duration,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("5m", 300), ("12h", 43200), ("30d", 2592000), ("2w", 1209600)],
)
def test_durations(text: str, seconds: int) -> None:
    """A number and a unit are microseconds."""
    assert parse_duration(text) == seconds * 1_000_000


@pytest.mark.parametrize(
    ("text", "size"),
    [("7B", 7), ("1KiB", 1024), ("1KB", 1000), ("50GiB", 50 << 30), ("1TB", 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    """Binary and decimal units are told apart."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "5", "d", "-1d", "1.5d", " 1d", "1d\n", "1D", "1d1h", "\u0661d"]
)
def test_invalid(text: str) -> None:
    """Anything else is refused, and so are sizes where durations are expected."""
    for parse in (parse_duration, parse_size):
        with pytest.raises(QuantityInvalid, match="such as"):
            parse(text)


@given(st.integers(0, 10_000), st.sampled_from(sorted(DURATIONS)))
def test_format(number: int, unit: str) -> None:
    """A duration is shown so that it can be read again."""
    try:
        duration = parse_duration(f"{number}{unit}")
    except QuantityInvalid as error:
        assert number * DURATIONS[unit] > 3650 * 24 * 3600
        assert "at most" in str(error)  # noqa: PT017
        return
    assert parse_duration(format_duration(duration)) == duration


def test_units() -> None:
    """A size that a database cannot count is refused, whatever its unit."""
    for unit, bytes_ in SIZES.items():
        fitting = (2**63 - 1) // bytes_
        if len(str(fitting)) <= 18:
            assert parse_size(f"{fitting}{unit}") == fitting * bytes_
        with pytest.raises(QuantityInvalid):
            parse_size(f"{fitting + 1}{unit}")
