"""Transactions in PostgreSQL: how they begin and end, and what a job may do within one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.spec.locks import Lock
from portside.spec.uploads import UploadSession
from portside.stores.interfaces import Place, Undo
from portside.stores.metadata.engine import Committed, require_row
from portside.stores.metadata.postgres.faults import FAILURES
from portside.stores.metadata.postgres.statements import insert_many, insert_one
from portside.stores.metadata.repositories import refuse_repository
from portside.stores.metadata.schema.steps import TABLES
from portside.stores.metadata.schema.tables import Table
from portside.stores.metadata.uploads import upload_refusal

if TYPE_CHECKING:
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Connection = Any

QUICK = 8 * 1024 * 1024
"""Bytes that are placed in a moment; for what is larger, the blob store may need minutes."""

EVENTS = TABLES["events"]

_BEGIN = "BEGIN"
_BEGIN_WITH_BLOB = "BEGIN; SELECT pg_advisory_xact_lock({})"
_UNLOCK_ALL = "SELECT pg_advisory_unlock_all()"

# One statement, because each is a round trip to the server. Its parts see the tables as they were
# before it, so the repository is either found or made; one that others make at the same time is
# touched by the update that changes nothing, which returns its id.
_OWNER = """
    found AS (SELECT id, locks FROM repositories WHERE name = $1),
    made AS (
        INSERT INTO repositories (name, created, updated)
        SELECT $1, $3, $3 WHERE NOT EXISTS (SELECT 1 FROM found)
        ON CONFLICT (name) DO UPDATE SET name = excluded.name
        RETURNING id
    ),
    owner AS (SELECT id FROM found UNION ALL SELECT id FROM made)
"""
_ADD_LINK = """
    INSERT INTO repository_blobs (repository, digest, size, linked, unreferenced)
    SELECT id, $2, $4, $3, $3 FROM owner
"""
# A link that exists is not locked: HEAD and pushes of manifests would wait until the bytes are
# placed. It stays, because the transaction has the lock of the blob.
_COMMIT_BLOB = f"""
    WITH ended AS (
        UPDATE uploads SET finished = $2, updated = $3
        WHERE id = $5 AND received = $6 AND finished IS NULL
        RETURNING id
    ),
    known AS (
        INSERT INTO blobs (digest, size, created) VALUES ($2, $4, $3) ON CONFLICT DO NOTHING
    ),
    over AS (DELETE FROM removals WHERE digest = $2 AND until <= clock_timestamp()),
    {_OWNER},
    linked AS ({_ADD_LINK} ON CONFLICT DO NOTHING RETURNING 1)
    SELECT
        EXISTS (SELECT 1 FROM ended),
        EXISTS (SELECT 1 FROM removals WHERE digest = $2 AND until > clock_timestamp()),
        EXISTS (SELECT 1 FROM made),
        EXISTS (SELECT 1 FROM linked),
        COALESCE((SELECT locks FROM found), 0)
"""  # noqa: S608  # put together of constants
_LINK = f"""
    WITH {_OWNER},
    linked AS (
        {_ADD_LINK}
        ON CONFLICT (repository, digest) DO UPDATE
        SET deleted = NULL, unreferenced = CASE
            WHEN repository_blobs.unreferenced IS NULL THEN NULL ELSE excluded.unreferenced
        END
        WHERE repository_blobs.unreferenced IS NOT NULL OR repository_blobs.deleted IS NOT NULL
    )
    SELECT COALESCE((SELECT locks FROM found), 0)
"""  # noqa: S608  # likewise


def _recording(sql: str, first: int) -> str:
    """Return a statement that adds an event as well; its columns begin with the parameter first."""
    columns = [column.name for column in EVENTS.inserted]
    values = ", ".join(f"${number}" for number in range(first, first + len(columns)))
    added = f"noted AS (INSERT INTO events ({', '.join(columns)}) VALUES ({values})),"  # noqa: S608  # likewise
    return sql.replace("WITH ", f"WITH {added} ", 1)


_COMMIT_AND_RECORD = _recording(_COMMIT_BLOB, 7)
_LINK_AND_RECORD = _recording(_LINK, 5)
_ADD_REPOSITORY = """
    INSERT INTO repositories (name, created, updated) VALUES ($1, $2, $2) ON CONFLICT DO NOTHING
"""
_RESUME = (
    "SELECT setval(pg_get_serial_sequence('{0}', '{1}'), MAX({1})) FROM {0} HAVING COUNT(*) > 0"
)
_BEING_REMOVED = """
    WITH over AS (DELETE FROM removals WHERE digest = $1 AND until <= clock_timestamp())
    SELECT 1 FROM removals WHERE digest = $1 AND until > clock_timestamp()
"""


class CommitFirst(Exception):
    """A statement has to be committed before the job is run again.

    The transaction would keep others waiting for as long as it lasts, which is long.
    """

    def __init__(self, sql: str, *parameters: Any) -> None:
        super().__init__(sql)
        self.sql = sql
        self.parameters = parameters


class PostgresTransaction:
    """The Transaction over PostgreSQL.

    `run` runs a blocking function in a thread. `finishing` runs once the transaction is committed;
    `undos` run if the disk is full.
    """

    def __init__(
        self,
        connection: Connection,
        now: int,
        run: Callable[[Place], Awaitable[Undo | None]],
        undos: list[Undo],
    ) -> None:
        self._connection = connection
        self._run = run
        self._undos = undos
        self.now = now
        self.finishing: list[Callable[[], None]] = []

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        """Return the first row, or None."""
        return await self._connection.fetchrow(sql, *parameters)

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        """Return all rows."""
        return await self._connection.fetch(sql, *parameters)

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run a statement; return the number of rows that it changed."""
        return changed_rows(await self._connection.execute(sql, *parameters))

    async def execute_each(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row of parameters, in one round trip."""
        await self._connection.executemany(sql, rows)

    async def insert_many(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Insert all rows with one statement; of several, it takes a list for each column."""
        if len(rows) == 1:
            await self._connection.execute(insert_one(table), *rows[0])
        elif rows:
            await self._connection.execute(insert_many(table), *map(list, zip(*rows, strict=True)))

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run an action in the event loop."""
        self.finishing.append(action)

    async def commit_blob(
        self,
        repository: str,
        digest: Digest,
        size: int,
        session: UploadSession | None,
        event: Sequence[Any],
    ) -> Committed:
        """Write all rows with one statement, but for a link that exists.

        A repository that comes with a large blob is committed first, so that other pushes to it
        need not wait for the bytes; and the event is added after they were placed, so that readers
        of later events need not either.
        """
        upload = (str(session.id), session.offset) if session is not None else (None, None)
        blob = (repository, str(digest), self.now, size, *upload)
        is_quick = size <= QUICK
        if is_quick:
            row = await self.find(_COMMIT_AND_RECORD, *blob, *event)
        else:
            row = await self.find(_COMMIT_BLOB, *blob)
        has_ended, is_being_removed, is_new, is_linked, locks = require_row(row)
        refuse_repository(locks, Lock.WRITE, repository)
        if session is not None and not has_ended:
            raise await upload_refusal(self, session.id)
        if is_being_removed:
            raise _being_removed(digest)
        if is_new and not is_quick:
            raise CommitFirst(_ADD_REPOSITORY, repository, self.now)
        return Committed(may_be_new=True, is_linked=is_linked, is_recorded=is_quick)

    async def link_blob(
        self, repository: str, digest: Digest, size: int, event: Sequence[Any] | None = None
    ) -> None:
        """Write all rows with one statement."""
        link = (repository, str(digest), self.now, size)
        if event is None:
            row = await self.find(_LINK, *link)
        else:
            row = await self.find(_LINK_AND_RECORD, *link, *event)
        refuse_repository(require_row(row)[0], Lock.WRITE, repository)

    async def require_not_being_removed(self, digest: Digest) -> None:
        """Look for the lease of a removal."""
        if await self.find(_BEING_REMOVED, str(digest)) is not None:
            raise _being_removed(digest)

    async def place(self, place: Place, *, is_new: bool) -> None:
        """Place bytes in a thread."""
        undo = await self._run(place)
        if undo is not None and is_new:
            self._undos.append(undo)

    async def resume_numbers(self, table: Table) -> None:
        """Set the sequence of the table."""
        await self.find(_RESUME.format(table.name, table.columns[0].name))

    async def lock_tables(self, tables: Iterable[Table]) -> None:
        """Lock all tables against writers."""
        names = ", ".join(table.name for table in tables)
        await self.execute(f"LOCK TABLE {names} IN SHARE MODE")

    @asynccontextmanager
    async def changing_a_copy(self) -> AsyncIterator[None]:
        """Set what the triggers look for, for the length of the transaction."""
        await self.find("SELECT set_config('portside.copying', 'on', TRUE)")
        yield


def _being_removed(digest: Digest) -> Unavailable:
    return Unavailable(f"{digest} is being removed by a node that was cut off; try again")


def changed_rows(status: str) -> int:
    """Return the number of rows at the end of a command's status."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


@asynccontextmanager
async def begun(connection: Connection, blob: Digest | None) -> AsyncIterator[None]:
    """Run a block as one transaction, with the lock of a blob from its first message on."""
    try:
        # Without parameters, both statements are one round trip.
        await connection.execute(
            _BEGIN if blob is None else _BEGIN_WITH_BLOB.format(lock_key(blob))
        )
        yield
    except BaseException:
        await _roll_back(connection)
        raise
    if await connection.execute("COMMIT") != "COMMIT":
        raise Unavailable("the database undid a transaction in which a statement had failed")


async def _roll_back(connection: Connection) -> None:
    """End a transaction; close a connection that cannot be told so, which ends it too."""
    try:
        await connection.execute("ROLLBACK")
    except FAILURES:
        with suppress(*FAILURES):
            connection.terminate()


async def unlock_all(connection: Connection) -> None:
    """Release session locks; close a connection that cannot be told so, which releases them too."""
    try:
        await connection.execute(_UNLOCK_ALL)
    except FAILURES:
        # A connection that was lost is not there to be closed.
        with suppress(*FAILURES):
            connection.terminate()


def lock_key(digest: Digest) -> int:
    """Return the key of the advisory lock of a blob: 64 bits, with a sign."""
    return int.from_bytes(bytes.fromhex(digest.encoded[:16]), signed=True)
