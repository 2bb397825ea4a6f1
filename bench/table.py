"""What is printed: one table of ratios and one of figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.results import ACCESS_FLOOR, Compared, Figure, Measured
from bench.works import CONNECTIONS

_STEPS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def ratios(rows: Sequence[Measured]) -> str:
    """Write the rows; a row under its floor is marked."""
    lines = [
        ("work", "", "docker-registry", "portside", "ratio", "spread", "floor", "best peer", "")
    ]
    lines += [
        (
            row.work.title,
            row.work.unit,
            short(median(row.docker)),
            short(median(row.portside)),
            _three(row.ratio),
            f"{_three(min(row.ratios))}-{_three(max(row.ratios))}",
            "" if row.work.floor is None else f"{row.work.floor:g}",
            "" if row.work.best is None else f"{row.work.best:g}",
            "UNDER THE FLOOR" if row.is_under else "",
        )
        for row in rows
    ]
    return _align(lines, left={0, 1, 8})


def figures(rows: Sequence[Figure]) -> str:
    """Write the figures; one over its limit is marked."""
    lines = [("figure", "", "docker-registry", "portside", "limit", "")]
    lines += [
        (
            row.title,
            row.unit,
            "" if row.docker is None else _three(row.docker),
            _three(row.portside),
            "" if row.limit is None else f"{row.limit:g}",
            "OVER THE LIMIT" if row.is_over else "",
        )
        for row in rows
    ]
    return _align(lines, left={0, 1, 5})


def compared(rows: Sequence[Compared]) -> str:
    """Write what credentials cost; a row under its floor is marked."""
    lines = [("GET manifest", "", "open", "closed", "ratio", "spread", "floor", "")]
    lines += [
        (
            f"with {row.scheme}, {CONNECTIONS} connections",
            "requests/s",
            short(median(row.opened)),
            short(median(row.closed)),
            _three(row.ratio),
            f"{_three(min(row.ratios))}-{_three(max(row.ratios))}",
            f"{ACCESS_FLOOR:g}",
            "UNDER THE FLOOR" if row.ratio < ACCESS_FLOOR else "",
        )
        for row in rows
    ]
    return _align(lines, left={0, 1, 7})


def short(rate: float) -> str:
    """Write a rate with three digits and the letter of its thousands."""
    factor, letter = next((step for step in _STEPS if rate >= step[0]), _STEPS[-1])
    return f"{_three(rate / factor)}{letter}"


def _three(number: float) -> str:
    return f"{number:.{0 if number >= 100 else 1 if number >= 10 else 2}f}"  # noqa: PLR2004


def _align(lines: Sequence[tuple[str, ...]], *, left: set[int]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
