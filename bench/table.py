"""What is printed: tables of ratios, of figures and of counts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.results import ACCESS_FLOOR, Compared, Counted, Figure, Measured
from bench.workloads import CONNECTIONS
from servers.counts import Counts

_STEPS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def ratios(rows: Sequence[Measured], kept: str = "") -> str:
    """Write the rows; a row under its floor is marked. `kept` says where the content is."""
    lines = [
        (
            f"work{kept}", "", "docker-registry", "portside", "ratio", "spread", "floor",
            "best peer", "",
        )
    ]  # fmt: skip
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


def counts(rows: Sequence[Counted]) -> str:
    """Write what operations ask for; a pass is all bytes of the blob to S3 or from it."""
    lines = [
        ("operation", "queries", "begin, end", "requests to S3", "passes", "docker-registry", "")
    ]
    lines += [
        (
            row.title,
            str(row.portside.queries),
            str(row.portside.frames or ""),
            _requests(row.portside),
            _passes(row.portside, row.size),
            "" if row.docker is None else _requests(row.docker),
            "" if row.docker is None else _passes(row.docker, row.size),
        )
        for row in rows
    ]
    return _align(lines, left={0, 3, 5})


def _requests(counts: Counts) -> str:
    """Write how many there were, and of which kinds."""
    if not counts.requests:
        return "0"
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.requests.items()))
    return f"{counts.requests.total()}: {kinds}"


def _passes(counts: Counts, size: int) -> str:
    """Write how often the bytes travelled."""
    return f"{(counts.received + counts.sent) / size:.2f}" if size else ""


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
