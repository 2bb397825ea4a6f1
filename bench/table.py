"""The lines that are printed."""

from __future__ import annotations

from statistics import median

from bench.works import Work


def row(work: Work, theirs: list[float], ours: list[float]) -> str:
    """Write one work: both medians, the median of the ratios turn by turn, and what is asked."""
    ratios = [mine / yours for mine, yours in zip(ours, theirs, strict=True)]
    ratio = median(ratios)
    best = f"best peer {work.best:g}" if work.best is not None else ""
    verdict = "" if ratio >= work.floor else "  BELOW THE FLOOR"
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    return (
        f"{work.title:<38} docker-registry {_short(median(theirs)):>7} {work.unit:<9}"
        f" portside {_short(median(ours)):>7}  ratio {ratio:6.2f} ({spread})"
        f"  floor {work.floor:g} {best}{verdict}"
    )


def _short(rate: float) -> str:
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= factor:
            return f"{rate / factor:.2f}{letter}"
    return f"{rate:.1f}"
