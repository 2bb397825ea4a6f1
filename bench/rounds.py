"""Rounds in which the two registries alternate, so that a disturbance of the machine meets both."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from bench.peer import Pair
from bench.results import Measured
from bench.table import short
from bench.workloads import Workload

WARM = 1
"""Seconds of the first measurement of each, which does not count."""


def measure(works: Sequence[Workload], pair: Pair, rounds: int, seconds: int) -> Iterator[Measured]:
    """Load what the works need into both, then measure one work after the other."""
    for work in works:
        for peer in pair:
            tell(f"{work.name}: preparing {peer.name}")
            work.prepare(peer)
    os.sync()
    for work in works:
        yield _alternate(work, pair, rounds, seconds)


def tell(line: str) -> None:
    """Say on standard error how far it is."""
    print(line, file=sys.stderr, flush=True)


def _alternate(work: Workload, pair: Pair, rounds: int, seconds: int) -> Measured:
    for peer in pair:
        work.measure(peer, WARM)
    measured = Measured(work, [], [])
    for number in range(1, rounds + 1):
        for peer, rates in zip(pair, (measured.docker, measured.portside), strict=True):
            rates.append(work.measure(peer, seconds))
        rates_told = ", ".join(
            f"{peer.name} {short(rates[-1])}"
            for peer, rates in zip(pair, (measured.docker, measured.portside), strict=True)
        )
        tell(f"{work.name}: {number} of {rounds}: {rates_told} {work.unit}")
    return measured
