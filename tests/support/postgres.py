"""A real PostgreSQL for tests, with settings that trade durability for speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from servers.postgresql import HASTY, running_postgresql
from servers.postgresql import PostgreSQL as Server
from support.missing import server_needed

__all__ = ["Server", "running_server"]


UNSAFE = ("fsync", "full_page_writes")


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[Server]:
    """Run a server for the length of a block; skips the test if there is none, but in CI.

    A durable one has, after a crash, all that it had committed.
    """
    settings = {name: value for name, value in HASTY.items() if not durable or name not in UNSAFE}
    with server_needed(), running_postgresql(settings) as server:
        yield server
