"""Errors of PostgreSQL and of the connection to it, as the errors of the registry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import asyncpg

from portside.spec.errors import StorageFull, Unavailable
from portside.stores.metadata.refusals import read_only

FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""Everything that a call of asyncpg raises. A timeout is an OSError too."""

RETRIED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Transactions that the server broke off because of others, and that can be run again."""

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    ConnectionError,
)
"""A connection that is gone, or that ended in the middle of a statement."""

_READ_ONLY = "PS001"
"""What the triggers of the read-only mode raise; PostgreSQL has no codes with "PS"."""

_ERRNO = re.compile(r"\[Errno (-?[0-9]+)\] ?(.*)")
"""The number in an error of asyncio, which names each address that was tried."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn every failure of the engine within a block into Unavailable or StorageFull."""
    try:
        yield
    except FAILURES as error:
        raise translate(error) from error


def unreachable(url: str, error: OSError) -> Unavailable:
    """Return the error for a server that cannot be reached, with its address."""
    parts = urlsplit(url)
    # The directory of a socket is in the query.
    hosts = parse_qs(parts.query).get("host") or [parts.netloc.rpartition("@")[2]]
    said = translate(error)
    where = f" at {hosts[-1]}" if hosts[-1] else ""
    return Unavailable(said.details[0].replace("the database", f"the database{where}", 1))


def translate(error: BaseException) -> Unavailable:
    """Return the registry's error for one of asyncpg or of the network."""
    if isinstance(error, asyncpg.DiskFullError):
        return StorageFull(f"the database: {error}")
    if getattr(error, "sqlstate", None) == _READ_ONLY:
        return read_only()
    if isinstance(error, TimeoutError):
        return Unavailable("the database does not answer in time")
    if isinstance(error, OSError) and (number := _ERRNO.search(str(error))):
        code = int(number[1])
        # Codes below 0 are those of a look-up of a name, which says what failed itself.
        return Unavailable(f"the database: {os.strerror(code) if code > 0 else number[2]}")
    said = str(error).splitlines()
    return Unavailable(f"the database: {said[0] if said else type(error).__name__}")
