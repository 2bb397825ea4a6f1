"""The processes of one server: their memory, as Linux counts it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

SAMPLE_INTERVAL = 0.02
"""Seconds between two looks at the memory of a server under load."""


class Memory(NamedTuple):
    """Resident bytes: a page that processes share counts once in `pss`, in each one in `rss`."""

    pss: int
    rss: int


class Peak:
    """The most resident memory (RSS) that was seen; it is written by the thread that looks."""

    def __init__(self, rss: int) -> None:
        self.rss = rss


def memory_of(group: int) -> Memory:
    """Add up the memory of a group of processes."""
    pss = rss = 0
    for process in _processes(group):
        for line in (process / "smaps_rollup").read_text().splitlines():
            name, _, amount = line.partition(":")
            if name == "Pss":
                pss += int(amount.split()[0]) * 1024
            elif name == "Rss":
                rss += int(amount.split()[0]) * 1024
    return Memory(pss, rss)


@contextmanager
def watched_peak(group: int) -> Iterator[Peak]:
    """Watch the memory of a group of processes for the length of a block."""
    processes = _processes(group)
    peak = Peak(_resident(processes))
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_INTERVAL):
            peak.rss = max(peak.rss, _resident(processes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _resident(processes: list[Path]) -> int:
    """Read the cheap count: the exact one walks all pages, which would slow down the server."""
    pages = 0
    for process in processes:
        with suppress(OSError):  # A server that is being stopped has no memory any more.
            pages += int((process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _processes(group: int) -> list[Path]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                found.append(folder)
        except ProcessLookupError:
            continue
    return found
