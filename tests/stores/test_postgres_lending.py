"""Connections to PostgreSQL come back whole, whatever became of those who had them."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from portside.spec.errors import Unavailable
from portside.stores.metadata.postgres.lending import AT_HAND, Lender
from portside.stores.metadata.postgres.pool import Database, Terms
from stores.conftest import Clock
from support.postgres import Server

MANY = 40
PID = "SELECT pg_backend_pid()"
SLEEPING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%' AND state = 'active'
"""


@pytest.fixture
def database(postgresql: Server, clock: Clock) -> Database:
    """Use no more than two connections."""
    return Database(Terms(url=postgresql.make_database(), connections=2), clock=clock)


async def pid_of(database: Database) -> int:
    """Tell which connection is used."""
    row = await database.find(PID)
    assert row is not None
    pid: int = row[0]
    return pid


async def test_the_same_is_used_again(database: Database) -> None:
    """One who asks alone needs one connection."""
    assert len({await pid_of(database) for _ in range(5)}) == 1
    await database.close()


async def test_many_share_few(database: Database) -> None:
    """Everybody is served, in turn."""
    found = await asyncio.gather(*(pid_of(database) for _ in range(MANY)))
    assert len(found) == MANY
    assert len(set(found)) <= 2
    await database.close()


async def test_an_interrupted_one_is_cleared(database: Database, clock: Clock) -> None:
    """Requests that are cancelled within a statement, or while they wait, keep nothing."""
    watcher = Database(database.terms, clock=clock)
    for _ in range(3):
        asked = [asyncio.create_task(database.find("SELECT pg_sleep(60)")) for _ in range(4)]
        while await watcher.find(SLEEPING) != (2,):
            assert not any(task.done() for task in asked)
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        assert len(await asyncio.gather(*(pid_of(database) for _ in range(MANY)))) == MANY
    await database.close()
    await watcher.close()


async def test_a_transaction_is_not_handed_on(database: Database) -> None:
    """Whoever forgets one does harm to nobody else."""
    async with database.connected() as connection:
        await connection.execute("BEGIN")
    async with database.connected() as connection:
        assert not connection.is_in_transaction()
    await database.close()


async def test_one_that_was_cut_off_is_replaced(database: Database) -> None:
    """A connection that ends while it is at hand is noticed."""
    first = await pid_of(database)
    async with database.connected(), database.connected() as other:
        await other.execute("SELECT 1")
    await database.list(f"SELECT pg_terminate_backend({first})")
    assert first not in {await pid_of(database) for _ in range(3)}
    assert len(await asyncio.gather(*(pid_of(database) for _ in range(MANY)))) == MANY
    await database.close()


async def test_the_pool_sees_each_in_time(postgresql: Server) -> None:
    """It replaces those that have served for long, and only those that it gets back."""
    elapsed = [0.0]
    pool = asyncpg.create_pool(postgresql.make_database(), min_size=0, max_size=1)
    await pool
    lender = Lender(pool, connections=1, patience=5, elapsed=lambda: elapsed[0])
    for now, idle in ((0.0, 0), (AT_HAND, 0), (AT_HAND + 1, 1), (AT_HAND + 2, 0)):
        loan = await lender.lend()
        elapsed[0] = now
        await lender.take_back(loan, was_interrupted=False)
        assert pool.get_idle_size() == idle
    await lender.close()


async def test_close_waits_for_what_is_lent(database: Database) -> None:
    """And hangs up; the database can be used again."""
    async with database.connected() as connection:
        closing = asyncio.create_task(database.close())
        await asyncio.sleep(0)
        assert await connection.fetchval("SELECT 1") == 1
        assert not closing.done()
    await closing
    assert await pid_of(database)
    await database.close()


async def test_a_refused_one_frees_its_place(postgresql: Server, clock: Clock) -> None:
    """A server that cannot be reached is asked again by each who comes, for as long as it takes."""
    database = Database(Terms(url=postgresql.url("none"), connections=1), clock=clock)
    for _ in range(3):
        with pytest.raises(Unavailable, match="does not exist"):
            await database.find(PID)
    await database.close()
