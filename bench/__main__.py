"""Run `python -m bench`; docs/howto/benchmark.md explains what it prints."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import access, counts, figures, table
from bench.content import MIB
from bench.programs import PACKAGES, BenchError, require
from bench.results import Compared, Counted, Figure, Measured
from bench.rounds import measure, tell
from bench.setups import Setup, running_backends, running_pair
from bench.workloads import (
    GetLarge,
    GetLargeSecurely,
    GetLargeSecurelyOverHttp1,
    GetManifest,
    GetManifestRemotely,
    GetMedium,
    GetMediumRemotely,
    HeadBlob,
    HeadBlobRemotely,
    ListRepositories,
    ListTags,
    ListTagsRemotely,
    PushImage,
    PushImageRemotely,
    PushLarge,
    PushLargeRemotely,
    RedirectBlob,
    Workload,
)

REMOTE = (Setup.STREAMED, Setup.REDIRECTED)

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


def make_works(size: int) -> list[Workload]:
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
        GetManifestRemotely(),
        HeadBlobRemotely(),
        GetMediumRemotely(),
        RedirectBlob(),
        PushLargeRemotely(size),
        PushImageRemotely(),
        ListTagsRemotely(),
    ]


def _run(arguments: argparse.Namespace) -> None:
    works = [work for work in make_works(arguments.size_mib * MIB) if work.name in arguments.only]
    chosen = [name for name in figures.NAMES if name in arguments.only]
    rows: list[Measured] = []
    amounts: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="portside-bench-", dir=arguments.directory) as folder:
        for setup in (Setup.LOCAL, Setup.SECURE):
            group = [work for work in works if work.setup is setup]
            if not group:
                continue
            with running_pair(Path(folder) / setup.name, setup) as pair:
                rows += measure(group, pair, arguments.rounds, arguments.seconds)
                if "start" in chosen and setup is Setup.LOCAL:
                    tell("start: on the store of this run")
                    amounts += figures.restart_figures(pair)
        amounts += _measure_figures(chosen, Path(folder))
        compared: list[Compared] = []
        if access.NAME in arguments.only:
            tell(f"{access.NAME}: an open registry beside a closed one")
            compared += access.measure(
                Path(folder) / access.NAME, arguments.rounds, arguments.seconds
            )
        remote_rows, counted = _run_remotely(arguments, works, Path(folder))
    rows.sort(key=lambda row: works.index(row.work))
    printed = [
        rows and table.ratios(rows),
        amounts and table.figures(amounts),
        compared and table.compared(compared),
        remote_rows and table.ratios(remote_rows, kept=", over PostgreSQL and S3"),
        counted and table.counts(counted),
    ]
    print("\n\n".join(part for part in printed if part))
    if arguments.json:
        document = _document(arguments, [*rows, *remote_rows], amounts, compared, counted)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


def _run_remotely(
    arguments: argparse.Namespace, works: Sequence[Workload], folder: Path
) -> tuple[list[Measured], list[Counted]]:
    """Measure what needs PostgreSQL and S3; they are started only if something does."""
    rows: list[Measured] = []
    counted: list[Counted] = []
    groups = {setup: [work for work in works if work.setup is setup] for setup in REMOTE}
    if not any(groups.values()) and counts.NAME not in arguments.only:
        return rows, counted
    with running_backends(folder / "backends") as backends:
        for setup, group in groups.items():
            if group:
                with running_pair(folder / setup.name, setup, backends) as pair:
                    rows += measure(group, pair, arguments.rounds, arguments.seconds)
        if counts.NAME in arguments.only:
            counted += counts.measure(folder / counts.NAME, backends)
    rows.sort(key=lambda row: works.index(row.work))
    return rows, counted


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
    counted: list[Counted],
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
        "counts": [row.as_document() for row in counted],
    }


def _parse(works: list[str]) -> argparse.Namespace:
    names = [*works, *figures.NAMES, access.NAME, counts.NAME]
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
        "--rounds", type=_count, default=5, help="rounds that count (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=_count,
        default=3,
        help="length of a measurement; what takes longer is done once (default: %(default)s)",
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
