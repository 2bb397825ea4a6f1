"""Run `python -m bench.life`: what the life of content costs in a registry of a million manifests.

`docs/howto/benchmark.md` explains what it prints. The registry is made in minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from bench.content import MIB, Image
from bench.loads import ACCEPT
from bench.population import Filler, PostgresFiller, Size, SqliteFiller, name_of
from bench.portside import Portside
from bench.programs import BenchError, clean_environment, require, run
from bench.rounds import tell
from bench.uploads import push_image
from servers import ServerMissing
from servers.postgresql import running_postgresql

LONG_AGO = 2 * 24 * 3600
"""Seconds since everything was deleted that is: longer than a grace period."""

CONNECTIONS = 8
LAYER = 10_000

FEWEST = 20
"""Images that are pushed at least, so that there is a slowest one to speak of."""

REPOSITORY = "bench/life"


class Made(NamedTuple):
    """A registry: its directory, the options that name its database, and how that is filled.

    `spent` returns the seconds of processor time that the server of the database has taken so far.
    """

    data: Path
    database: list[str]
    filler: Filler
    spent: Callable[[], float]

    @property
    def options(self) -> list[str]:
        """The options of a command."""
        return ["--data", str(self.data), *self.database]


Part = Callable[[Made, argparse.Namespace], None]


class Load(NamedTuple):
    """Operations per second, and the milliseconds that the slowest hundredth takes at least."""

    rate: float
    p99: float


class Collecting(Portside):
    """Portside with its collector always at work, or without one."""

    def __init__(self, folder: Path, made: Made, *, collects: bool) -> None:
        super().__init__(folder)
        self.data = made.data
        self._database = made.database
        self._collects = collects

    def options(self) -> list[str]:
        """Name the database, and turn the collector on or off."""
        chosen = ["--gc-interval", "1"] if self._collects else ["--no-gc"]
        return [*super().options(), *self._database, *chosen]


def measure_usage(made: Made, _: argparse.Namespace) -> None:
    """Measure the whole registry, and one repository."""
    _spend(made, "usage", "usage", "--json")
    _spend(made, "usage of 1 repository", "usage", "--repository", name_of(3))


def measure_beside(made: Made, arguments: argparse.Namespace) -> None:
    """Pull and push in turns without a collector and beside one."""
    for name, load in (("pulls", _pull), ("pushes", _push)):
        found: dict[bool, list[Load]] = {False: [], True: []}
        for number in range(arguments.rounds):
            for collects, loads in found.items():
                with _serving(made, collects=collects) as registry:
                    loads.append(load(registry, arguments.seconds))
            tell(f"{name}: {number + 1} of {arguments.rounds}")
        without, beside = found[False], found[True]
        rates = [b.rate / a.rate for a, b in zip(without, beside, strict=True)]
        delays = [b.p99 / a.p99 for a, b in zip(without, beside, strict=True)]
        print(
            f"{name}: {median(a.rate for a in without):.0f}/s without a collection,"
            f" {median(a.rate for a in beside):.0f}/s beside one (ratio {median(rates):.2f},"
            f" {min(rates):.2f}-{max(rates):.2f}); p99 {median(a.p99 for a in without):.1f} ms,"
            f" {median(a.p99 for a in beside):.1f} ms (ratio {median(delays):.2f},"
            f" {min(delays):.2f}-{max(delays):.2f})",
            flush=True,
        )


def measure_round(made: Made, _: argparse.Namespace) -> None:
    """Collect what is due, and then what the purged manifests needed."""
    _spend(made, "plan of a round", "collect", "--dry-run")
    _spend(made, "round", "collect")
    _spend(made, "round without grace", "collect", "--grace", "0")
    _spend(made, "round with nothing to do", "collect")


PARTS: dict[str, Part] = {
    "usage": measure_usage,
    "beside": measure_beside,
    "round": measure_round,
}
"""In this order: a round leaves nothing to collect."""


def main() -> int:
    """Make the registry, and measure what was asked for."""
    arguments = _parse()
    try:
        require(["wrk"])
        with (
            tempfile.TemporaryDirectory(
                prefix="portside-bench-", dir=arguments.directory
            ) as folder,
            DATABASES[arguments.database](Path(folder)) as made,
        ):
            _fill(made, Size(arguments.repositories))
            for name, part in PARTS.items():
                if name in arguments.only:
                    tell(f"{name}:")
                    part(made, arguments)
    except (BenchError, ServerMissing, OSError) as error:
        tell(f"bench: {error}")
        return 1
    return 0


@contextmanager
def _on_sqlite(folder: Path) -> Iterator[Made]:
    data = folder / "data"
    yield Made(data, [], SqliteFiller(data / "portside.db"), lambda: 0.0)


@contextmanager
def _on_postgresql(folder: Path) -> Iterator[Made]:
    with running_postgresql({}) as server:
        url = server.make_database()
        filler = PostgresFiller(server, url)
        yield Made(folder / "data", ["--database", url], filler, server.processor_time)


DATABASES = {"sqlite": _on_sqlite, "postgresql": _on_postgresql}


def _fill(made: Made, size: Size) -> None:
    """Make the registry, with one image that is pulled."""
    with _serving(made, collects=False):
        pass
    tell(f"making {size.every_manifest:,} manifests and {size.every_link:,} links")
    made.filler.fill(size, int((time.time() - LONG_AGO) * 1_000_000))
    with _serving(made, collects=False) as served, served.connect() as connection:
        push_image(connection, REPOSITORY, "1", Image.fresh(1, LAYER))


@contextmanager
def _serving(made: Made, *, collects: bool) -> Iterator[Portside]:
    with tempfile.TemporaryDirectory(dir=made.data.parent) as folder:
        registry = Collecting(Path(folder) / "served", made, collects=collects)
        try:
            registry.start()
            # The collector begins a second later at the latest.
            time.sleep(2)
            yield registry
        finally:
            registry.stop()


def _pull(registry: Portside, seconds: int) -> Load:
    """GET a manifest by tag with wrk."""
    url = f"{registry.url}/v2/{REPOSITORY}/manifests/1"
    options = (f"-c{CONNECTIONS}", "-t1", f"-d{seconds}s", "--latency", "-H", ACCEPT)
    printed = run("wrk", *options, url)
    rate = re.search(r"Requests/sec: +([\d.]+)", printed)
    p99 = re.search(r"99% +([\d.]+)(us|ms|s)\b", printed)
    if rate is None or p99 is None or "Non-2xx" in printed:
        raise BenchError(f"wrk printed {printed!r}")
    milliseconds = {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]
    return Load(float(rate[1]), float(p99[1]) * milliseconds)


def _push(registry: Portside, seconds: int) -> Load:
    """Push one image of one layer after the other."""
    delays: list[float] = []
    with registry.connect() as connection:
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + seconds or len(delays) < FEWEST:
            push_image(connection, REPOSITORY, "2", Image.fresh(1, LAYER))
            delays.append(time.monotonic() - now)
        elapsed = time.monotonic() - begun
    return Load(len(delays) / elapsed, quantiles(delays, n=100, method="inclusive")[-1] * 1000)


def _spend(made: Made, title: str, *arguments: str) -> None:
    """Run a command, and print what it took."""
    begun, before = time.monotonic(), made.spent()
    process = subprocess.Popen(
        [sys.executable, "-m", "portside", *arguments, *made.options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=clean_environment(),
    )
    _, status, used = os.wait4(process.pid, 0)
    # wait4 has seen its end, of which Popen must know.
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"portside {arguments[0]} ended with {process.returncode}")
    elapsed, own, others = (
        time.monotonic() - begun,
        used.ru_utime + used.ru_stime,
        made.spent() - before,
    )
    of_server = f" and {others:.1f} s in PostgreSQL" if others else ""
    print(
        f"{title}: {elapsed:.1f} s, {own:.1f} s of processor time{of_server},"
        f" {used.ru_maxrss * 1024 / MIB:.0f} MiB",
        flush=True,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.life",
        description="Measure the life of content in a registry of a million manifests.",
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument(
        "--database",
        choices=list(DATABASES),
        default="sqlite",
        help="where the metadata is (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=int, default=10, help="length of a turn (default: %(default)s)"
    )
    parser.add_argument(
        "--repositories",
        type=int,
        default=1_000,
        help="repositories of 1,000 manifests each (default: %(default)s)",
    )
    parser.add_argument("--directory", help="where the registry is made, and removed at the end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
