"""PostgreSQL that is away, comes back, is full, or is newer: errors in the registry's words."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import asyncpg
import pytest

from portside.spec.digests import Digest
from portside.spec.errors import StorageFull, Unavailable
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import Order, PageRequest
from portside.stores.access import IdentityKind, StoredIdentity
from portside.stores.metadata.discovery import NAMED, REFERRERS, REPOSITORIES, TAGS
from portside.stores.metadata.engine import PROBE, Transaction
from portside.stores.metadata.identities import SLOWEST
from portside.stores.metadata.postgres.database import LEASE, PostgresDatabase, Terms
from portside.stores.metadata.postgres.faults import translate
from portside.stores.metadata.postgres.statements import DIALECT
from portside.stores.metadata.properties import (
    MANIFEST_PAGES,
    TAG_PAGES,
    TAG_PAGES_OF_MANIFEST,
)
from portside.stores.metadata.properties import REPOSITORIES as PROPERTIES_OF_REPOSITORIES
from portside.stores.metadata.schema.steps import STEPS
from portside.stores.metadata.schema.tables import statements
from portside.stores.metadata.schema.versions import NEWEST, SchemaTooNew, SchemaTooOld
from portside.stores.metadata.store import Access, Metadata
from portside.stores.metadata.trash import (
    DELETED_REPOSITORIES,
    TRASHED_MANIFESTS,
    TRASHED_REPOSITORIES,
    TRASHED_TAGS,
)
from stores.conftest import Clock, PostgresShelf
from stores.test_metadata_contract import add
from support.content import image
from support.postgres import Server, running_server
from support.waiting import PATIENCE

A, B = RepositoryName("a"), RepositoryName("b")
BLOB = Digest.of(b"blob")

BRIEF = 1.0
"""Seconds of a time limit that one call exceeds, and that all others keep on a slow machine."""


@pytest.fixture
async def shelf(postgresql: Server, clock: Clock) -> AsyncIterator[PostgresShelf]:
    """Make an empty database."""
    shelf = await PostgresShelf.create(postgresql, clock)
    yield shelf
    await shelf.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a server that no other test needs."""
    with running_server() as server:
        yield server


class TestAway:
    """A server that cannot be reached."""

    async def test_restart(self, server: Server, clock: Clock) -> None:
        """All that was acknowledged is there when the server is back, and nobody starts again."""
        shelf = await PostgresShelf.create(server, clock)
        metadata = shelf.metadata()
        manifest = await add(metadata, A, image(1))
        # More connections than one are open when the server goes.
        await asyncio.gather(*(metadata.get_manifest(A, Tag("v1")) for _ in range(5)))
        server.stop()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await metadata.get_manifest(A, Tag("v1"))
            with pytest.raises(Unavailable):
                await metadata.commit_blob(A, BLOB, 4, session=None, place=pytest.fail)
            with pytest.raises(Unavailable):
                await metadata.unlink_blob(A, BLOB, remove=pytest.fail)
            with pytest.raises(Unavailable):
                await metadata.probe()
        server.start()
        await metadata.probe()
        found = await metadata.get_manifest(A, Tag("v1"))
        assert found.digest == str(manifest.digest)
        await add(metadata, A, image(2))
        await shelf.close()

    async def test_in_the_middle(self, server: Server, clock: Clock) -> None:
        """A commit whose server goes while the bytes are placed is not acknowledged, nor there."""
        shelf = await PostgresShelf.create(server, clock)
        metadata = shelf.metadata()
        with pytest.raises(Unavailable):
            await metadata.commit_blob(A, BLOB, 4, session=None, place=server.stop)
        server.start()
        with pytest.raises(Unavailable):
            await metadata.commit_blob(A, BLOB, 4, session=None, place=server.stop)
        server.start()
        assert await metadata.list_linking(BLOB, 9) == []
        await metadata.commit_blob(A, BLOB, 4, session=None, place=lambda: None)
        assert (await metadata.get_blob(A, BLOB)).size == 4
        await shelf.close()

    async def test_while_bytes_are_removed(self, server: Server, clock: Clock) -> None:
        """Nobody commits a blob while a node that lost its locks removes the bytes."""
        shelf = await PostgresShelf.create(server, clock)
        metadata, other = shelf.metadata(), shelf.metadata()
        lost, go_on = threading.Event(), threading.Event()

        def remove() -> None:
            server.stop()
            server.start()
            lost.set()
            go_on.wait(2 * PATIENCE)

        async def commit() -> None:
            await other.commit_blob(A, BLOB, 4, session=None, place=lambda: None)

        await commit()
        removing = asyncio.create_task(metadata.unlink_blob(A, BLOB, remove=remove))
        await asyncio.to_thread(lost.wait, PATIENCE)
        with pytest.raises(Unavailable, match="being removed"):
            await commit()
        assert await other.blob_record(str(BLOB)) is None
        go_on.set()
        await removing
        await commit()
        # One whose node ended in the middle is over after a time.
        database = shelf.open()
        await other.unlink_blob(A, BLOB, remove=lambda: None)
        await database.execute("INSERT INTO removals VALUES ($1, now())", str(BLOB))
        await commit()
        assert await database.find("SELECT 1 FROM removals") is None
        await shelf.close()

    async def test_a_removal_that_failed(self, shelf: PostgresShelf) -> None:
        """Bytes whose removal failed may go later: nobody commits the blob until that is over."""
        metadata = shelf.metadata()

        def remove() -> None:
            raise Unavailable("the object store does not answer")

        await metadata.commit_blob(A, BLOB, 4, session=None, place=lambda: None)
        await metadata.unlink_blob(A, BLOB, remove=remove)
        with pytest.raises(Unavailable, match="being removed"):
            await metadata.commit_blob(A, BLOB, 4, session=None, place=pytest.fail)
        assert await metadata.blob_record(str(BLOB)) is None

    async def test_a_removal_that_begins_late(self, shelf: PostgresShelf, clock: Clock) -> None:
        """Bytes are left where a removal could end when somebody may have pushed them again."""
        terms = Terms(url=shelf.terms.url, removal_timeout=LEASE + 1)
        database = PostgresDatabase(terms, clock=clock)
        metadata = Metadata(database)
        await metadata.commit_blob(A, BLOB, 4, session=None, place=lambda: None)
        await metadata.unlink_blob(A, BLOB, remove=pytest.fail)
        assert await metadata.blob_record(str(BLOB)) is None
        await database.disconnect()

    @pytest.mark.parametrize(
        ("url", "place"),
        [
            ("postgresql://portside:secret@127.0.0.1:1/none", "127.0.0.1:1"),
            ("postgresql://portside@/none?host=/nowhere", "/nowhere"),
            ("postgresql://portside@127.0.0.1:port/none", None),
            ("mysql://portside@127.0.0.1/none", None),
        ],
    )
    async def test_never_there(self, clock: Clock, url: str, place: str | None) -> None:
        """Of a server that is not there one line says where it was looked for, and soon."""
        began = time.monotonic()
        metadata = Metadata(PostgresDatabase(Terms(url=url), clock=clock))
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                await metadata.probe()
            detail = str(caught.value.details[0])
            assert "\n" not in detail
            if place is not None:
                assert detail.startswith(f"the database at {place}: ")
        assert time.monotonic() - began < Terms(url=url).connect_timeout

    async def test_silent(self, clock: Clock) -> None:
        """A server that accepts and says nothing is given up after the time for connecting."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            url = f"postgresql://portside@127.0.0.1:{port}/none?sslmode=disable"
            terms = Terms(url=url, connect_timeout=0.2)
            metadata = Metadata(PostgresDatabase(terms, clock=clock))
            with pytest.raises(Unavailable, match="in time"):
                await metadata.probe()

    async def test_all_connections_taken(self, shelf: PostgresShelf, clock: Clock) -> None:
        """A request that gets no connection in time is refused, and the next one served."""
        terms = Terms(url=shelf.terms.url, connections=1, connect_timeout=BRIEF)
        database = PostgresDatabase(terms, clock=clock)
        async with database.connected():
            with pytest.raises(Unavailable):
                await database.find("SELECT 1")
        assert await database.find("SELECT 1") is not None
        await database.disconnect()

    @pytest.mark.parametrize("connections", [2, 10])
    async def test_slow_places(self, shelf: PostgresShelf, clock: Clock, connections: int) -> None:
        """While more bytes are placed than there are connections, others read and write."""
        terms = Terms(url=shelf.terms.url, connections=connections, connect_timeout=PATIENCE)
        database = PostgresDatabase(terms, clock=clock)
        metadata = Metadata(database)
        go_on = threading.Event()

        async def push(number: int) -> None:
            def place() -> None:
                go_on.wait(2 * PATIENCE)

            digest = Digest.of(str(number).encode())
            await metadata.commit_blob(A, digest, 1, session=None, place=place)

        await metadata.commit_blob(A, BLOB, 4, session=None, place=lambda: None)
        pushes = [asyncio.create_task(push(number)) for number in range(2 * connections)]
        for _ in range(10):
            assert (await metadata.get_blob(A, BLOB)).size == 4
            await metadata.probe()
        assert not any(task.done() for task in pushes)
        pushes.pop().cancel()
        go_on.set()
        await asyncio.gather(*pushes)
        await database.disconnect()

    async def test_no_turn(self, shelf: PostgresShelf, clock: Clock) -> None:
        """A push that gets no turn in time is refused, and the next one goes on."""
        terms = Terms(url=shelf.terms.url, connections=2, statement_timeout=BRIEF)
        database = PostgresDatabase(terms, clock=clock)
        metadata = Metadata(database)
        placing, go_on = threading.Event(), threading.Event()

        def place() -> None:
            placing.set()
            go_on.wait(2 * PATIENCE)

        slow = asyncio.create_task(metadata.commit_blob(A, BLOB, 4, session=None, place=place))
        await asyncio.to_thread(placing.wait, PATIENCE)
        other = Digest.of(b"other")
        with pytest.raises(Unavailable, match="slow"):
            await metadata.commit_blob(A, other, 5, session=None, place=pytest.fail)
        go_on.set()
        await slow
        await metadata.commit_blob(A, other, 5, session=None, place=lambda: None)
        await database.disconnect()

    async def test_slow_statement(self, shelf: PostgresShelf, clock: Clock) -> None:
        """A statement that takes too long is given up, and its locks with it."""
        terms = Terms(url=shelf.terms.url, connections=1, statement_timeout=BRIEF)
        database = PostgresDatabase(terms, clock=clock)
        with pytest.raises(Unavailable, match="in time"):
            await database.find("SELECT pg_sleep(60)")
        assert await database.find("SELECT 1") is not None
        await database.disconnect()

    async def test_a_failure_that_nobody_sees(self, shelf: PostgresShelf, clock: Clock) -> None:
        """A transaction that the server undid was not committed, whatever the job made of it."""

        async def forgive(transaction: Transaction) -> None:
            with suppress(asyncpg.PostgresError):
                await transaction.execute("SELECT 1 / 0")

        database = PostgresDatabase(shelf.terms, clock=clock)
        with pytest.raises(Unavailable, match="undid a transaction"):
            await database.write(forgive)
        await database.disconnect()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.DiskFullError("could not extend file: No space left on device"), StorageFull),
        (asyncpg.TooManyConnectionsError("sorry, too many clients already"), Unavailable),
        (asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT"), Unavailable),
        (ConnectionRefusedError(111, "refused"), Unavailable),
        (OSError(), Unavailable),
        (TimeoutError(), Unavailable),
    ],
)
def test_translation(error: Exception, kind: type[Unavailable]) -> None:
    """Each failure has the class that clients can act on, and says something."""
    translated = translate(error)
    assert type(translated) is kind
    assert str(translated.details[0]).strip()


FULL_AT_COMMIT = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END;
    $$;
    CREATE CONSTRAINT TRIGGER full_disk AFTER INSERT ON repository_blobs
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
"""
"""Makes the commit of a push fail as it does on a full disk, after the bytes were placed."""


class TestFull:
    """No room."""

    async def test_placed_bytes_are_taken_back(self, shelf: PostgresShelf) -> None:
        """Bytes whose row found no room go, unless the blob is known by another push."""
        metadata, database = shelf.metadata(), shelf.open()
        undone: list[Digest] = []

        def place() -> Callable[[], None]:
            return lambda: undone.append(BLOB)

        async with database.connected() as connection:
            await connection.execute(FULL_AT_COMMIT)
        with pytest.raises(StorageFull):
            await metadata.commit_blob(A, BLOB, 4, session=None, place=place)
        assert undone == [BLOB]
        await database.execute("ALTER TABLE repository_blobs DISABLE TRIGGER full_disk")
        await metadata.commit_blob(A, BLOB, 4, session=None, place=lambda: None)
        await database.execute("ALTER TABLE repository_blobs ENABLE TRIGGER full_disk")
        with pytest.raises(StorageFull):
            await metadata.commit_blob(B, BLOB, 4, session=None, place=place)
        assert undone == [BLOB]


IN_THE_WAY = "CREATE TABLE access_state (id INT)"
"""Makes a table that the second step of the schema makes."""


class TestSchema:
    """Numbered steps."""

    async def test_all_nodes_at_once(self, postgresql: Server, clock: Clock) -> None:
        """Of nodes that start together one takes each step, and all find it taken."""
        terms = Terms(url=postgresql.make_database())
        databases = [PostgresDatabase(terms, clock=clock) for _ in range(6)]
        with pytest.raises(SchemaTooOld, match="portside migrate"):
            await databases[0].require_newest()
        taken = await asyncio.gather(*(database.migrate() for database in databases))
        assert sum(taken) == NEWEST
        assert await databases[0].migrate() == 0
        await databases[0].require_newest()
        for database in databases:
            await database.disconnect()

    async def test_half_way(
        self, postgresql: Server, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A node that starts while another has taken some of the steps waits for the rest.

        Neither step nor node cares how long a statement may take otherwise.
        """
        terms = Terms(url=postgresql.make_database(), connections=1, statement_timeout=1.0)
        one, other, third = (PostgresDatabase(terms, clock=clock) for _ in range(3))
        async with third.connected() as connection:
            # The second step waits for this transaction.
            await connection.execute(f"BEGIN; {IN_THE_WAY}")
            migrating = asyncio.create_task(one.migrate())
            while not await other.is_made():
                assert not migrating.done()
            looking = asyncio.create_task(other.require_newest())
            done, _ = await asyncio.wait({looking, migrating}, timeout=1.3)
            assert not done
            assert "another node upgrades the schema" in caplog.text
            await connection.execute("ROLLBACK")
        assert await migrating == NEWEST
        await looking
        for database in (one, other, third):
            await database.disconnect()

    async def test_beside_a_node_that_serves(
        self, postgresql: Server, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A transaction that a step waits for, and that waits for the step, is let through.

        Until the step is taken, nothing can be read: the node is not ready.
        """
        caplog.set_level("INFO")
        url = postgresql.make_database()
        database = PostgresDatabase(Terms(url=url), clock=clock)
        served, before, seen = [await asyncpg.connect(url) for _ in range(3)]
        for sql in (*statements(STEPS, 1, DIALECT), "CREATE TABLE schema_version (version BIGINT)"):
            await served.execute(sql)
        await served.execute("INSERT INTO schema_version VALUES (1)")
        # The step locks tables in the order in which the first step makes them.
        await before.execute("BEGIN; LOCK TABLE tags IN ROW EXCLUSIVE MODE")
        await served.execute("BEGIN; LOCK TABLE uploads IN ROW EXCLUSIVE MODE")
        migrating = asyncio.create_task(database.migrate())
        while not await seen.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            assert not migrating.done()
        reading = asyncio.create_task(served.execute(PROBE))
        # PostgreSQL looks for the cause of a wait only once, after 0.2 seconds.
        done, _ = await asyncio.wait({reading, migrating}, timeout=0.5)
        assert not done
        await before.execute("ROLLBACK")
        await reading
        await served.execute("ROLLBACK")
        assert await migrating == NEWEST - 1
        assert "a step of the schema is taken again" in caplog.text
        assert f"upgrading the schema of the database from version 1 to {NEWEST}" in caplog.text
        for connection in (served, before, seen):
            await connection.close()
        await database.disconnect()

    async def test_a_step_that_fails(self, postgresql: Server, clock: Clock) -> None:
        """A step is taken as a whole or not at all, and can be taken again."""
        database = PostgresDatabase(Terms(url=postgresql.make_database()), clock=clock)
        await database.execute(IN_THE_WAY)
        with pytest.raises(Unavailable, match="already exists"):
            await database.migrate()
        with pytest.raises(SchemaTooOld, match="has version 1 "):
            await database.require_newest()
        await database.execute("DROP TABLE access_state")
        assert await database.migrate() == NEWEST - 1
        await database.disconnect()

    async def test_newer(self, shelf: PostgresShelf) -> None:
        """A database of a newer version is refused in one line."""
        database = shelf.open()
        await database.execute("INSERT INTO schema_version (version) VALUES (99)")
        for refuse in (database.migrate, database.require_newest):
            with pytest.raises(SchemaTooNew) as caught:
                await refuse()
            assert "\n" not in str(caught.value.details[0])


class TestAccessState:
    """How soon a change of access is seen."""

    async def test_freshness(self, shelf: PostgresShelf) -> None:
        """The process that makes a change sees it at once, and others when the time is over."""
        time_now = [0.0]
        here, there = (
            Access(shelf.open(), freshness=0.2, elapsed=lambda: time_now[0]) for _ in range(2)
        )
        before = await here.access_state()
        assert await there.access_state() == before
        assert await here.access_state() is before
        await here.add_identity(StoredIdentity("alice", IdentityKind.USER, 1))
        assert (await here.access_state()).closed
        assert await there.access_state() == before
        time_now[0] += 0.2
        after = await there.access_state()
        assert after == await here.access_state()
        assert after.closed
        time_now[0] += 1
        assert await there.access_state() is after


class TestPrice:
    """How many statements an operation takes."""

    async def test_queries(self, shelf: PostgresShelf) -> None:
        """A pull takes one, and a blob that is pushed in one request four, two of them its own."""
        database = shelf.open()
        metadata = Metadata(database)
        seen: list[str] = []

        async def count(connection: object) -> None:
            connection.add_query_logger(lambda record: seen.append(record.query))  # type: ignore[attr-defined]

        await add(metadata, A, image(1))
        cache = database._cache  # noqa: SLF001  # to look at what it sends
        assert cache is not None
        for holder in cache.pool._holders:  # type: ignore[attr-defined]  # noqa: SLF001
            if holder._con is not None:  # noqa: SLF001
                await count(holder._con)  # noqa: SLF001
        await asyncio.sleep(0)
        seen.clear()
        for expected, asked in (
            (1, metadata.get_manifest(A, Tag("v1"))),
            (1, metadata.get_blob(A, Digest.of(image(1).blobs[0]))),
            (4, metadata.commit_blob(A, BLOB, 4, session=None, place=lambda: None)),
            (1, metadata.list_tags(A, PageRequest(10))),
        ):
            await asked
            # The loggers are called after the answer is there.
            await asyncio.sleep(0)
            assert 1 <= len(seen) <= expected, seen
            seen.clear()

    async def test_lists_use_indexes(self, shelf: PostgresShelf) -> None:
        """Each list can be read from an index in its order: no whole table, and nothing sorted."""
        database = shelf.open()
        lists = [
            (TAGS, ("a", "", 9)),
            (REPOSITORIES, ("", "{", 9)),
            (NAMED, (["a", "b"], 9)),
            (REFERRERS, ("a", "", None, "", 9)),
            (SLOWEST, ()),
            (PROPERTIES_OF_REPOSITORIES, ("", 4, 9)),
            (TRASHED_REPOSITORIES, ("", "{", 5, 9)),
            (DELETED_REPOSITORIES, ("", "{", 5, 9)),
            (TRASHED_MANIFESTS, (1, 5, "a", 9)),
            (TRASHED_TAGS, (1, 5, "a", 9)),
            *(
                (sql, (1, 4, 9, "a") if order is Order.NAME else (1, 4, 9, "a", 5))
                for pages in (TAG_PAGES, TAG_PAGES_OF_MANIFEST, MANIFEST_PAGES)
                for order, sql in pages.items()
            ),
        ]
        for sql, parameters in lists:
            async with database.connected() as connection, connection.transaction():
                # Tables of a few rows are read as a whole otherwise.
                for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
                    await connection.execute(f"SET LOCAL enable_{way} = off")
                rows = await connection.fetch(f"EXPLAIN {sql}", *parameters)
            plan = " ".join(row[0] for row in rows)
            assert "Seq Scan" not in plan, plan
            assert "Sort" not in plan, plan


class TestTexts:
    """What PostgreSQL cannot hold."""

    async def test_nul(self, shelf: PostgresShelf) -> None:
        """A NUL in what somebody asks for is no failure of the database."""
        metadata, access = shelf.metadata(), shelf.access()
        await add(metadata, A, image(1))
        after = PageRequest(10, "v1\0")
        assert (await metadata.list_tags(A, after)).items == []
        before = PageRequest(10, "v\0zzz")
        assert (await metadata.list_tags(A, before)).items == ["v1"]
        assert (await metadata.list_repositories(PageRequest(10, "\0"))).items == ["a"]
        page = await metadata.list_referrers(A, BLOB, "a/\0", PageRequest(10), 1000)
        assert page.items == []
        for name in ("nul\0", "\ud800"):
            assert await access.get_identity(name) is None
        for name in ("nul\0", "long" * 1000, "\ud800"):
            await access.add_failure("here", name, forget_before=0)
            assert await access.count_failures("here", name, 0) == 1

    async def test_order(self, shelf: PostgresShelf) -> None:
        """Lists are in ASCII order, whatever the locale of the database is."""
        metadata = shelf.metadata()
        names = ["_b", "a", "A", "B", "b", "a-b", "a.b", "ab", "10", "9"]
        manifest = await add(metadata, A, image(1))
        tags = [Tag(name) for name in names]
        await metadata.put_manifest(A, manifest, tags=tags, condition=None, check_children=True)
        page = await metadata.list_tags(A, PageRequest(100))
        assert page.items == sorted([*names, "v1"])
        page = await metadata.list_tags(A, PageRequest(3, "a"))
        assert page.items == ["a-b", "a.b", "ab"]
