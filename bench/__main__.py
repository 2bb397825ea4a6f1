"""Run `python -m bench`; docs/howto/benchmark.md explains what it prints."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import access, figures, table
from bench.content import MIB
from bench.errors import BenchError
from bench.lists import ListRepositories, ListTags
from bench.programs import PACKAGES, require
from bench.results import Compared, Figure, Measured
from bench.turns import measure, running_pair, tell
from bench.works import (
    GetLarge,
    GetLargeSecurely,
    GetLargeSecurelyOverHttp1,
    GetManifest,
    GetMedium,
    HeadBlob,
    PushImage,
    PushLarge,
    Work,
)

STOPPED = 130
"""The exit code of a program that Ctrl-C has ended, as shells give it."""


def main() -> int:
    """Measure what was asked for and print it; 0 if all was measured, whatever came out."""
    works = make_works(MIB)
    arguments = _parse([work.name for work in works])
    # SIGTERM ends it as Ctrl-C does: both servers stopped, all data removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        require(PACKAGES)
        _run(arguments)
    except KeyboardInterrupt:
        tell("bench: stopped")
        return STOPPED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell(f"bench: {where}{error.strerror or error}")
        return 1
    except BenchError as error:
        tell(f"bench: {error}")
        return 1
    return 0


def make_works(size: int) -> list[Work]:
    """Make all rows in their order; `size` is that of the large blob in bytes."""
    return [
        GetManifest(),
        HeadBlob(),
        GetLarge(size),
        GetLargeSecurely(size),
        GetLargeSecurelyOverHttp1(size),
        GetMedium(),
        PushLarge(size),
        PushImage(),
        ListTags(),
        ListRepositories(),
    ]


def _run(arguments: argparse.Namespace) -> None:
    works = [work for work in make_works(arguments.size_mib * MIB) if work.name in arguments.only]
    chosen = [name for name in figures.NAMES if name in arguments.only]
    rows: list[Measured] = []
    amounts: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="portside-bench-", dir=arguments.directory) as folder:
        for is_secure in (False, True):
            group = [work for work in works if work.is_secure == is_secure]
            if not group:
                continue
            with running_pair(Path(folder) / f"pair-{is_secure}", is_secure=is_secure) as pair:
                rows += measure(group, pair, arguments.rounds, arguments.seconds)
                if "start" in chosen and not is_secure:
                    tell("start: on the store of this run")
                    amounts += figures.restart_figures(pair)
        amounts += _measure_figures(chosen, Path(folder))
        compared: list[Compared] = []
        if access.NAME in arguments.only:
            tell(f"{access.NAME}: an open registry beside a closed one")
            compared += access.measure(
                Path(folder) / access.NAME, arguments.rounds, arguments.seconds
            )
    rows.sort(key=lambda row: works.index(row.work))
    if rows:
        print(table.ratios(rows))
    if amounts:
        print(("\n" if rows else "") + table.figures(amounts))
    if compared:
        print(("\n" if rows or amounts else "") + table.compared(compared))
    if arguments.json:
        document = _document(arguments, rows, amounts, compared)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


def _measure_figures(chosen: list[str], folder: Path) -> Iterator[Figure]:
    measures = {
        "start": figures.start_figures,
        "memory": figures.memory_figures,
        "uploads": figures.upload_figures,
    }
    for name in chosen:
        tell(f"{name}: on empty stores")
        yield from measures[name](folder / name)


def _document(
    arguments: argparse.Namespace,
    rows: list[Measured],
    amounts: list[Figure],
    compared: list[Compared],
) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release()},
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "size-mib": arguments.size_mib,
        "works": [row.as_document() for row in rows],
        "figures": [amount.as_document() for amount in amounts],
        "access": [pair.as_document() for pair in compared],
    }


def _parse(works: list[str]) -> argparse.Namespace:
    names = [*works, *figures.NAMES, access.NAME]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Portside side by side with Debian's docker-registry.",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"measure these alone: {', '.join(names)}",
    )
    parser.add_argument(
        "--rounds", type=_count, default=5, help="turns of each that count (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=_count,
        default=3,
        help="length of a turn; what takes longer is done once (default: %(default)s)",
    )
    parser.add_argument(
        "--size-mib",
        type=_count,
        default=1024,
        help="size of the large blob (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there too")
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="where both keep their data; it is removed at the end (default: that of TMPDIR)",
    )
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
