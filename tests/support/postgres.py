"""A real PostgreSQL for tests, with settings that trade durability for speed."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import asyncpg

from portside.stores.metadata.postgres.database import PostgresDatabase, Terms
from servers.postgresql import HASTY, running_postgresql
from servers.postgresql import PostgreSQL as Server
from support.memory import scratch
from support.missing import server_needed

__all__ = ["Server", "new_database", "running_server", "with_newest_schema"]


UNSAFE = ("fsync", "full_page_writes")

_TEMPLATES: dict[Server, str] = {}
"""By server, the name of a database that has the newest schema, which others are made from."""


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[Server]:
    """Run a server for the length of a block; skips the test if there is none, but in CI.

    A durable one has, after a crash, all that it had committed.
    """
    settings = {name: value for name, value in HASTY.items() if not durable or name not in UNSAFE}
    with server_needed(), running_postgresql(settings, scratch()) as server:
        yield server


async def with_newest_schema(server: Server) -> str:
    """Return the name of an empty database of the newest schema, to make others from."""
    if server not in _TEMPLATES:
        url = server.make_database()
        database = PostgresDatabase(Terms(url=url), clock=lambda: 1)
        await database.migrate()
        await database.disconnect()
        _TEMPLATES[server] = urlsplit(url).path.removeprefix("/")
    return _TEMPLATES[server]


@asynccontextmanager
async def new_database(server: Server) -> AsyncIterator[str]:
    """Make an empty database of the newest schema for the length of a block; yields its address.

    Unlike `Server.make_database`, it starts no program, and memory is not filled by hundreds.
    """
    name = f"test_{uuid.uuid4().hex}"
    await _execute(server, server.creation(name, await with_newest_schema(server)))
    yield server.url(name)
    # What a test has cut off may not have ended.
    await _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(server: Server, sql: str) -> None:
    connection = await asyncpg.connect(server.url())
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
