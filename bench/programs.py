"""The programs that the benchmark starts, and the Debian packages that have them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable


class BenchError(Exception):
    """The benchmark cannot go on; the message is one line for the person who started it."""


PACKAGES = {
    "docker-registry": "docker-registry",
    "wrk": "wrk",
    "ab": "apache2-utils",
    "curl": "curl",
    "openssl": "openssl",
}

OF_NO_CONCERN = ("PORTSIDE_", "REGISTRY_", "AWS_", "PG")
"""Variables that would change what is measured: both servers, and the clients of PostgreSQL and S3
in them, read settings from them."""


def require(programs: Iterable[str]) -> None:
    """Raise BenchError with the packages to install for the programs that are missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = " ".join(sorted({PACKAGES[program] for program in missing}))
        verb = "is" if len(missing) == 1 else "are"
        raise BenchError(f"{', '.join(missing)} {verb} missing: apt-get install {packages}")


def run(*command: str) -> str:
    """Run a program to its end; returns what it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        why = said[-1] if said else "it said nothing"
        raise BenchError(f"{command[0]} ended with {done.returncode}: {why}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Return the environment without settings of a server."""
    return {key: text for key, text in os.environ.items() if not key.startswith(OF_NO_CONCERN)}
