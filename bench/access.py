"""What access control costs: the same requests to Portside with and without it, alternately."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from bench import loads
from bench.content import Image
from bench.portside import Portside
from bench.programs import BenchError
from bench.results import Compared
from bench.rounds import WARM, tell
from bench.uploads import push_image
from bench.workloads import CONNECTIONS

NAME = "access"
REPOSITORY = "bench/manifest"
PATH = f"/v2/{REPOSITORY}/manifests/1"
USER, PASSWORD = "bench", "a password for the benchmark"
SCHEMES = ("Basic", "Bearer")


def measure(folder: Path, rounds: int, seconds: int) -> Iterator[Compared]:
    """Start both, push the same image, and let wrk ask for its manifest, alternately."""
    with _running(folder / "open") as opened, _running(folder / "closed") as closed:
        _load(opened)
        _load(closed)
        _add_user(closed)
        for scheme in SCHEMES:
            header = f"Authorization: {_credentials(closed, scheme)}"
            found = Compared(scheme, [], [])
            for number in range(rounds + 1):
                length = seconds if number else WARM
                rates = _ask(opened, length), _ask(closed, length, header)
                if number:
                    found.opened.append(rates[0])
                    found.closed.append(rates[1])
                    tell(f"{NAME}, {scheme}: {number} of {rounds}: {rates[1] / rates[0]:.2f}")
            yield found


@contextmanager
def _running(folder: Path) -> Iterator[Portside]:
    registry = Portside(folder)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()


def _load(registry: Portside) -> None:
    with registry.connect() as connection:
        push_image(connection, REPOSITORY, "1", Image.fresh(layers=11, size=100))


def _add_user(registry: Portside) -> None:
    command = [sys.executable, "-m", "portside", "user", "add", USER, "--create"]
    done = subprocess.run(
        [*command, "--password-stdin", "--data", str(registry.data)],
        input=PASSWORD,
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"cannot add a user: {done.stderr.strip()}")


def _credentials(registry: Portside, scheme: str) -> str:
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode("ascii")
    if scheme == "Basic":
        return f"Basic {pair}"
    query = f"service=portside&scope=repository:{REPOSITORY}:pull"
    # The server is the one that was started above, on the loopback.
    request = Request(  # noqa: S310
        f"{registry.url}/oauth2/token?{query}", headers={"Authorization": f"Basic {pair}"}
    )
    with urlopen(request) as answer:  # noqa: S310
        return f"Bearer {json.load(answer)['token']}"


def _ask(registry: Portside, seconds: int, *headers: str) -> float:
    return loads.get_requests(
        registry, PATH, connections=CONNECTIONS, seconds=seconds, headers=headers
    )
