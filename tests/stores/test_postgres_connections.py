"""Connections to PostgreSQL come back whole, whatever became of those who had them."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from portside import __version__
from portside.spec.errors import Unavailable
from portside.stores.metadata.engine import Load
from portside.stores.metadata.postgres.connection_cache import CACHED, ConnectionCache
from portside.stores.metadata.postgres.database import PostgresDatabase, Terms
from stores.conftest import Clock
from support.postgres import Server

MANY = 40
PID = "SELECT pg_backend_pid()"
SLEEPING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%' AND state = 'active'
"""


@pytest.fixture
def database(postgresql: Server, clock: Clock) -> PostgresDatabase:
    """Use no more than two connections."""
    return PostgresDatabase(Terms(url=postgresql.make_database(), connections=2), clock=clock)


async def pid_of(database: PostgresDatabase) -> int:
    """Return which connection is used."""
    row = await database.find(PID)
    assert row is not None
    pid: int = row[0]
    return pid


async def test_the_same_is_used_again(database: PostgresDatabase) -> None:
    """One who asks alone needs one connection."""
    assert len({await pid_of(database) for _ in range(5)}) == 1
    await database.disconnect()


async def test_many_share_few(database: PostgresDatabase) -> None:
    """Everybody is served, in turn."""
    found = await asyncio.gather(*(pid_of(database) for _ in range(MANY)))
    assert len(found) == MANY
    assert len(set(found)) <= 2
    await database.disconnect()


async def test_load(database: PostgresDatabase) -> None:
    """The engine says how many connections are in use, and how many requests wait for one."""
    assert database.load() == Load(connections=2)
    async with database.connected(), database.connected():
        waiting = asyncio.create_task(pid_of(database))
        await asyncio.sleep(0)
        assert database.load() == Load(in_use=2, connections=2, waiting=1)
    await waiting
    assert database.load() == Load(connections=2)
    await database.disconnect()


async def test_an_interrupted_one_is_cleared(database: PostgresDatabase, clock: Clock) -> None:
    """Requests that are cancelled within a statement, or while they wait, keep nothing."""
    watcher = PostgresDatabase(database.terms, clock=clock)
    for _ in range(3):
        asked = [asyncio.create_task(database.find("SELECT pg_sleep(60)")) for _ in range(4)]
        while await watcher.find(SLEEPING) != (2,):
            assert not any(task.done() for task in asked)
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        assert len(await asyncio.gather(*(pid_of(database) for _ in range(MANY)))) == MANY
    await database.disconnect()
    await watcher.disconnect()


async def test_a_transaction_is_not_handed_on(database: PostgresDatabase) -> None:
    """A forgotten transaction harms nobody else."""
    async with database.connected() as connection:
        await connection.execute("BEGIN")
    async with database.connected() as connection:
        assert not connection.is_in_transaction()
    await database.disconnect()


async def test_one_that_was_cut_off_is_replaced(database: PostgresDatabase) -> None:
    """A connection that ends while it is at hand is noticed."""
    first = await pid_of(database)
    async with database.connected(), database.connected() as other:
        await other.execute("SELECT 1")
    await database.find_all(f"SELECT pg_terminate_backend({first})")
    assert first not in {await pid_of(database) for _ in range(3)}
    assert len(await asyncio.gather(*(pid_of(database) for _ in range(MANY)))) == MANY
    await database.disconnect()


async def test_the_pool_sees_each_in_time(postgresql: Server) -> None:
    """It replaces those that have served for long, and only those that it gets back."""
    elapsed = [0.0]
    pool = asyncpg.create_pool(postgresql.make_database(), min_size=0, max_size=1)
    await pool
    cache = ConnectionCache(pool, connections=1, patience=5, elapsed=lambda: elapsed[0])
    for now, idle in ((0.0, 0), (CACHED, 0), (CACHED + 1, 1), (CACHED + 2, 0)):
        taken = await cache.take()
        elapsed[0] = now
        await cache.give_back(taken, was_interrupted=False)
        assert pool.get_idle_size() == idle
    await cache.close()


async def test_close_waits_for_what_is_lent(database: PostgresDatabase) -> None:
    """And hangs up; the database can be used again."""
    async with database.connected() as connection:
        closing = asyncio.create_task(database.disconnect())
        await asyncio.sleep(0)
        assert await connection.fetchval("SELECT 1") == 1
        assert not closing.done()
    await closing
    assert await pid_of(database)
    await database.disconnect()


async def test_a_refused_one_frees_its_place(postgresql: Server, clock: Clock) -> None:
    """A server that cannot be reached is asked again by each who comes, for as long as it takes."""
    database = PostgresDatabase(Terms(url=postgresql.url("none"), connections=1), clock=clock)
    for _ in range(3):
        with pytest.raises(Unavailable, match="does not exist"):
            await database.find(PID)
    await database.disconnect()


SETTINGS = """
    SELECT name, setting FROM pg_settings
    WHERE name IN ('application_name', 'jit', 'synchronous_commit')
"""


@pytest.mark.parametrize(("commit", "expected"), [("off", "on"), ("local", "local")])
async def test_settings_of_a_session(
    postgresql: Server, clock: Clock, commit: str, expected: str
) -> None:
    """A commit is on the disk whatever the database says; what is stricter than that stays."""
    url = postgresql.make_database()
    name = urlsplit(url).path.removeprefix("/")
    for setting in (f"synchronous_commit = {commit}", "jit = on"):
        postgresql.ask(postgresql.url(), f"ALTER DATABASE {name} SET {setting}")
    database = PostgresDatabase(Terms(url=url, connections=1), clock=clock)
    found = {row[0]: row[1] for row in await database.find_all(SETTINGS)}
    assert found == {
        "application_name": f"portside {__version__}",
        "jit": "off",
        "synchronous_commit": expected,
    }
    await database.disconnect()
