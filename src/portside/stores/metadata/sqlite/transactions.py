"""What a job may do within a transaction of SQLite; none of it ever suspends."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from portside.spec.digests import Digest
from portside.spec.locks import Lock
from portside.spec.uploads import UploadSession
from portside.stores.interfaces import Place, Undo
from portside.stores.metadata.engine import Committed
from portside.stores.metadata.repositories import lock_or_add_repository, refuse_repository
from portside.stores.metadata.schema.steps import TABLES
from portside.stores.metadata.schema.tables import Table
from portside.stores.metadata.sqlite.statements import bound, insert, rewritten
from portside.stores.metadata.uploads import finish_upload

_ADD_BLOB = "INSERT INTO blobs (digest, size, created) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_LINK = """
    INSERT INTO repository_blobs (repository, digest, size, linked, unreferenced)
    VALUES ($1, $2, $3, $4, $4)
    ON CONFLICT (repository, digest) DO UPDATE
    SET deleted = NULL, unreferenced = CASE
        WHEN repository_blobs.unreferenced IS NULL THEN NULL ELSE excluded.unreferenced
    END
    WHERE repository_blobs.unreferenced IS NOT NULL OR repository_blobs.deleted IS NOT NULL
"""


class SqliteTransaction:
    """The Transaction over SQLite.

    `finishing` runs once the transaction is committed; `undos` run if the disk is full.
    """

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self.now = now
        self.finishing: list[Callable[[], None]] = []
        self.undos: list[Undo] = []

    def _run(self, sql: str, parameters: Iterable[Any]) -> sqlite3.Cursor:
        return self._connection.execute(rewritten(sql), bound(parameters))

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        """Return the first row, or None."""
        return self._run(sql, parameters).fetchone()

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        """Return all rows."""
        return self._run(sql, parameters).fetchall()

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run a statement; return the number of rows that it changed."""
        return self._run(sql, parameters).rowcount

    async def execute_each(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row of parameters."""
        self._connection.executemany(rewritten(sql), rows)

    async def insert_many(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Insert row by row."""
        self._connection.executemany(insert(table), rows)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run an action in the writer's thread, before the next transaction begins."""
        self.finishing.append(action)

    async def commit_blob(
        self,
        repository: str,
        digest: Digest,
        size: int,
        session: UploadSession | None,
        event: Sequence[Any],
    ) -> Committed:
        """Add the blob, its link and its repository, and finish its session, one by one."""
        if session is not None:
            await finish_upload(self, session, digest)
        is_new = await self.execute(_ADD_BLOB, str(digest), size, self.now) > 0
        await self.link_blob(repository, digest, size, event)
        return Committed(may_be_new=is_new, is_linked=True, is_recorded=True)

    async def link_blob(
        self, repository: str, digest: Digest, size: int, event: Sequence[Any] | None = None
    ) -> None:
        """Add the link, the repository before it, and the event behind it."""
        owner = await lock_or_add_repository(self, repository)
        refuse_repository(owner.locks, Lock.WRITE, repository)
        await self.execute(_LINK, owner.id, str(digest), size, self.now)
        if event is not None:
            await self.insert_many(TABLES["events"], [event])

    async def require_not_being_removed(self, _: Digest) -> None:
        """Return: bytes are removed before the next transaction begins."""

    async def place(self, place: Place, *, is_new: bool) -> None:
        """Place bytes in the writer's thread."""
        undo = place()
        if undo is not None and is_new:
            self.undos.append(undo)

    async def resume_numbers(self, _: Table) -> None:
        """Return: a number is one more than the greatest one."""

    async def lock_tables(self, _: Iterable[Table]) -> None:
        """Return: there is one transaction at a time."""

    @asynccontextmanager
    async def changing_a_copy(self) -> AsyncIterator[None]:
        """Lift the read-only mode and set it again, which nobody else sees."""
        await self.execute("UPDATE registry SET read_only = FALSE")
        yield
        await self.execute("UPDATE registry SET read_only = TRUE")
