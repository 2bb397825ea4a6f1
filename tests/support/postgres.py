"""A real PostgreSQL for tests, which is as quick as it can be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from servers.postgresql import HASTY, running_postgresql
from servers.postgresql import PostgreSQL as Server
from support.missing import server_needed

__all__ = ["Server", "running_server"]


@contextmanager
def running_server() -> Iterator[Server]:
    """Run a server for the length of a block; skips the test if there is none, but in CI."""
    with server_needed(), running_postgresql(HASTY) as server:
        yield server
