"""Errors of PostgreSQL and of the connection to it, as the errors of the registry."""

from __future__ import annotations

import errno
import os
import re
import socket
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

_REMEDIES: dict[type[BaseException], str] = {
    asyncpg.InvalidPasswordError: (
        "set PGPASSWORD or PGPASSWORD_FILE, or add the password to ~/.pgpass"
    ),
    asyncpg.InvalidCatalogNameError: "create it, or correct the name in --database",
    asyncpg.InvalidAuthorizationSpecificationError: (
        "allow the user in pg_hba.conf, or correct the user in --database"
    ),
    asyncpg.TooManyConnectionsError: (
        "lower --database-connections, or raise max_connections of the server"
    ),
    socket.gaierror: "correct the host in --database",
}
"""What to do about a connection that fails; the most specific class is first."""

_ERRNO = re.compile(r"\[Errno (-?[0-9]+)\] ?(.*)")
"""The number in an error of asyncio, which names each address that was tried."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn every failure of the engine within a block into Unavailable or StorageFull."""
    try:
        yield
    except FAILURES as error:
        raise translate(error) from error


def refused(url: str, error: OSError | asyncpg.PostgresError) -> Unavailable:
    """Return the error for a server that lets nobody connect, with its address and what to do."""
    parts = urlsplit(url)
    # The directory of a socket is in the query.
    hosts = parse_qs(parts.query).get("host") or [parts.netloc.rpartition("@")[2]]
    said = translate(error).details[0]
    where = f" at {hosts[-1]}" if hosts[-1] else ""
    remedy = _remedy(error, is_password_in_url=parts.password is not None)
    return Unavailable(said.replace("the database", f"the database{where}", 1) + remedy)


def _remedy(error: OSError | asyncpg.PostgresError, *, is_password_in_url: bool) -> str:
    """Return what to do about a connection that fails, if that is known."""
    if isinstance(error, asyncpg.InvalidPasswordError) and is_password_in_url:
        return "; correct the user or the password in --database"
    if isinstance(error, OSError) and _number(error) == errno.ECONNREFUSED:
        return "; start PostgreSQL there, or correct the host and the port in --database"
    return next((f"; {text}" for kind, text in _REMEDIES.items() if isinstance(error, kind)), "")


def _number(error: OSError) -> int:
    """Return the number of an error; that of several addresses is in its text only."""
    written = _ERRNO.search(str(error))
    return int(written[1]) if written else error.errno or 0


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
    owner = "; make the user the owner of the database" if _may_not_create(error) else ""
    return Unavailable(f"the database: {said[0] if said else type(error).__name__}{owner}")


def _may_not_create(error: BaseException) -> bool:
    """Whether the user may not create tables, which since PostgreSQL 15 only the owner may."""
    return isinstance(error, asyncpg.InsufficientPrivilegeError) and " schema " in str(error)
