"""The two registries take turns: A B A B, so that a disturbance of the machine meets both."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.certificate import Certificate, make_certificate
from bench.docker_registry import DockerRegistry, DockerRegistryInS3
from bench.peer import Pair
from bench.portside import Place, Portside, PortsideNode
from bench.results import Measured
from bench.setups import Backends, Setup
from bench.table import short
from bench.works import Work

WARM = 1
"""Seconds of the turn that each takes first and that does not count."""


@contextmanager
def running_pair(folder: Path, setup: Setup, backends: Backends | None = None) -> Iterator[Pair]:
    """Serve empty stores with both registries for the length of a block; then remove them.

    What they keep in `backends` stays.
    """
    folder.mkdir()
    if backends is None:
        pair = _local_pair(folder, make_certificate(folder) if setup is Setup.SECURE else None)
    else:
        pair = _pair_on(backends, folder, setup)
    try:
        for peer in pair:
            peer.start()
        yield pair
    finally:
        for peer in pair:
            peer.stop()
        shutil.rmtree(folder)


def _local_pair(folder: Path, certificate: Certificate | None) -> Pair:
    return Pair(
        DockerRegistry(folder / "docker", certificate), Portside(folder / "portside", certificate)
    )


def _pair_on(backends: Backends, folder: Path, setup: Setup) -> Pair:
    place = Place(backends.postgresql.make_database(), backends.s3, setup.name.lower())
    redirects = setup is Setup.REDIRECTED
    return Pair(
        DockerRegistryInS3(folder / "docker", backends.s3, redirects=redirects),
        PortsideNode(folder / "portside", place, redirects=redirects),
    )


def measure(works: Sequence[Work], pair: Pair, rounds: int, seconds: int) -> Iterator[Measured]:
    """Load what the works need into both, then measure one work after the other."""
    for work in works:
        for peer in pair:
            tell(f"{work.name}: preparing {peer.name}")
            work.prepare(peer)
    os.sync()
    for work in works:
        yield _take_turns(work, pair, rounds, seconds)


def tell(line: str) -> None:
    """Say on standard error how far it is."""
    print(line, file=sys.stderr, flush=True)


def _take_turns(work: Work, pair: Pair, rounds: int, seconds: int) -> Measured:
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
