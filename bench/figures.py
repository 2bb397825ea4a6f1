"""Figures that are no ratios: the time to start, memory at rest and under uploads."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from bench.content import MIB, LargeBlob, LargeBlobs
from bench.docker_registry import DockerRegistry
from bench.peer import Pair, Peer, Started
from bench.portside import Portside
from bench.processes import Memory, watched_peak
from bench.results import Figure
from bench.uploads import push_large

NAMES = ("start", "memory", "uploads")

STARTS = 3
START_LIMIT = 1.5
REST = 1.0
"""Seconds after the first answer until memory counts as at rest: the other worker starts too."""

REST_LIMIT = 200.0
UPLOADS = 32
UPLOAD = 256 * MIB
UPLOADS_LIMIT = 150.0


def start_figures(folder: Path) -> Iterator[Figure]:
    """Start both on empty stores, a few times."""
    docker = [_start_once(DockerRegistry(folder / f"docker-{number}")) for number in range(STARTS)]
    portside = [_start_once(Portside(folder / f"portside-{number}")) for number in range(STARTS)]
    return _compare_starts("start", "empty store", docker, portside)


def restart_figures(pair: Pair) -> Iterator[Figure]:
    """Stop both and start them again on what the works have loaded."""
    pair.docker.stop()
    pair.portside.stop()
    docker = [_start_once(pair.docker) for _ in range(STARTS)]
    portside = [_start_once(pair.portside) for _ in range(STARTS)]
    return _compare_starts("restart", "store of this run", docker, portside)


def memory_figures(folder: Path) -> Iterator[Figure]:
    """Look at the memory of both at rest on empty stores."""
    docker, portside = (_rest(peer) for peer in _new_pair(folder))
    for kind in ("rss", "pss"):
        theirs, ours = (getattr(memory, kind) / MIB for memory in (docker, portside))
        title = "resident at rest, all processes, " + (
            "sum" if kind == "rss" else "shared pages once"
        )
        limit = REST_LIMIT if kind == "rss" else None
        yield Figure(f"memory-{kind}", f"{title} ({kind.upper()})", "MiB", theirs, ours, limit)


def upload_figures(folder: Path) -> Iterator[Figure]:
    """Push large blobs all at once, and see by how much the memory grows."""
    blobs = LargeBlobs(UPLOAD)
    docker, portside = (_grow(peer, blobs) for peer in _new_pair(folder))
    title = f"growth during {UPLOADS} uploads of {UPLOAD // MIB} MiB at once"
    yield Figure("uploads", title, "MiB", docker / MIB, portside / MIB, UPLOADS_LIMIT)


def _new_pair(folder: Path) -> Pair:
    return Pair(DockerRegistry(folder / "docker"), Portside(folder / "portside"))


def _start_once(peer: Peer) -> Started:
    try:
        return peer.start()
    finally:
        peer.stop()


def _compare_starts(
    name: str, store: str, docker: list[Started], portside: list[Started]
) -> Iterator[Figure]:
    said = [started.announced for started in portside if started.announced is not None]
    yield Figure(f"{name}-announced", f"start to ready line, {store}", "s", None, median(said))
    theirs, ours = (median(started.ready for started in peer) for peer in (docker, portside))
    yield Figure(f"{name}-ready", f"start to first answer, {store}", "s", theirs, ours, START_LIMIT)


def _rest(peer: Peer) -> Memory:
    try:
        peer.start()
        time.sleep(REST)
        return peer.memory
    finally:
        peer.stop()


def _grow(peer: Peer, blobs: LargeBlobs) -> int:
    try:
        peer.start()
        time.sleep(REST)
        rest = peer.memory.rss

        def push(blob: LargeBlob) -> None:
            with peer.connect() as connection:
                push_large(connection, "bench/uploads", blob)

        with watched_peak(peer.group) as peak, ThreadPoolExecutor(UPLOADS) as pool:
            try:
                list(pool.map(push, [blobs.fresh() for _ in range(UPLOADS)]))
            except KeyboardInterrupt:
                peer.stop()  # The uploads end with it; the pool waits for them.
                raise
        return peak.rss - rest
    finally:
        peer.stop()
        shutil.rmtree(peer.folder)
