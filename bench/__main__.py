"""Run `python -m bench`; docs/howto/benchmark.md explains the table."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from bench import figures, table
from bench.content import Prepared, prepare
from bench.peers import Peers
from bench.works import WORKS, Work

TOOLS = {
    "docker-registry": "docker-registry",
    "wrk": "wrk",
    "ab": "apache2-utils",
    "curl": "curl",
    "openssl": "openssl",
}


def main() -> int:
    """Measure what was asked for, and print the table."""
    arguments = _parse()
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        print(f"bench: please install: {' '.join(missing)}", file=sys.stderr)
        return 1
    works = [work for work in WORKS if not arguments.only or work.name in arguments.only]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Peers(Path(folder)) as peers:
        with_lists = any(work.name.startswith("list-") for work in works)
        prepared = prepare(peers, Path(folder), megabytes=arguments.size_mib, with_lists=with_lists)
        for work in works:
            measured = _measure(work, peers, prepared, arguments)
            print(table.row(work, *measured), flush=True)
        if not arguments.only or "figures" in arguments.only:
            peers.plain.portside.stop()
            for line in figures.lines(Path(folder)):
                print(line, flush=True)
    return 0


def _measure(
    work: Work, peers: Peers, prepared: Prepared, arguments: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Let the two take turns, after one turn of each that does not count."""
    ours: list[float] = []
    theirs: list[float] = []
    pair = peers.secure if work.is_secure else peers.plain
    for number in range(arguments.rounds + 1):
        for peer, rates in ((pair.docker, theirs), (pair.portside, ours)):
            rate = work.measure(peer, prepared, arguments.seconds)
            if number:
                rates.append(rate)
    return theirs, ours


def _parse() -> argparse.Namespace:
    names = [*(work.name for work in WORKS), "figures"]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=names, help="measure these alone")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each that count")
    parser.add_argument("--seconds", type=int, default=3, help="length of a turn, where it has one")
    parser.add_argument("--size-mib", type=int, default=1024, help="size of the large blob")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
