"""The seam between the nouns of the store and the engine below them.

A noun (manifests, blobs, uploads, …) is written once, over a `Database` and its `Transaction`. Its
SQL is written once, in PostgreSQL's notation: parameters are `$1`, `$2`, …; `= ANY ($1)` takes a
list; `FOR NO KEY UPDATE`, `FOR SHARE` and `SKIP LOCKED` lock rows. `sqlite.statements` rewrites
these for SQLite, which has one writer and needs no row locks.

Every method may raise Unavailable and StorageFull. A write that returned is durable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.spec.uploads import UploadSession
from portside.stores.interfaces import Place, Remove
from portside.stores.metadata.schema.tables import Table

Result = TypeVar("Result")

PROBE = "SELECT 1 FROM repositories LIMIT 1"
"""Reads what every database has, and little of it."""


class Committed(NamedTuple):
    """What became of the rows of a blob, before its bytes are placed.

    Unless it `is_linked`, its link exists and has to be renewed once the bytes are there. Unless it
    `is_recorded`, its event is missing.
    """

    may_be_new: bool
    is_linked: bool
    is_recorded: bool


class Load(NamedTuple):
    """What an engine is doing: of `connections`, so many are `in_use`, and requests are `waiting`.

    Writes are `queued` where one thread makes them. `retries` counts what was run again.
    """

    retries: int = 0
    in_use: int = 0
    connections: int = 0
    waiting: int = 0
    queued: int = 0


class Queries(Protocol):
    """Reads."""

    async def find(self, sql: str, *parameters: Any) -> Any | None:
        """Return the first row, or None."""
        ...

    async def find_all(self, sql: str, *parameters: Any) -> list[Any]:
        """Return all rows."""
        ...


class Transaction(Queries, Protocol):
    """What a job may do within a transaction; `now` is its time, in microseconds since 1970.

    On SQLite nothing here ever suspends, and a job must not wait for anything else: the writer's
    thread runs it to its end.
    """

    now: int

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run a statement; return the number of rows that it changed."""
        ...

    async def execute_each(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row of parameters, in one round trip."""
        ...

    async def insert_many(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows that have all columns of a table, with one statement where possible.

        A number that the database assigns is not among them; such numbers are in order of the rows.
        """
        ...

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run a quick action once the transaction is committed, before anybody is told."""
        ...

    # The few statements that each engine has in its own way.

    async def commit_blob(
        self,
        repository: str,
        digest: Digest,
        size: int,
        session: UploadSession | None,
        event: Sequence[Any],
    ) -> Committed:
        """Add a blob, its link and its repository, and finish its upload session.

        `event` has the columns of the event of the push. Raises BlobUploadUnknown and UploadBusy.
        """
        ...

    async def link_blob(
        self, repository: str, digest: Digest, size: int, event: Sequence[Any] | None = None
    ) -> None:
        """Link a known blob to a repository, which is added if need be, or renew its link.

        `event` has the columns of the event of a mount.
        """
        ...

    async def require_not_being_removed(self, digest: Digest) -> None:
        """Raise Unavailable while another node may still be removing the bytes of a blob."""
        ...

    async def place(self, place: Place, *, is_new: bool) -> None:
        """Place bytes; those of a new blob are removed again if the disk is full."""
        ...

    async def resume_numbers(self, table: Table) -> None:
        """Make the next assigned number of a table greater than all that were copied into it."""
        ...

    async def lock_tables(self, tables: Iterable[Table]) -> None:
        """Wait until every transaction that changed the tables has ended, and keep others out."""
        ...

    def changing_a_copy(self) -> AbstractAsyncContextManager[None]:
        """Allow changes to a registry that is read-only because it is a copy, within a block."""
        ...


Job = Callable[[Transaction], Coroutine[Any, Any, Result]]
"""What is done within a transaction. It may run twice: the first attempt is rolled back."""


class ChangeCounter(Protocol):
    """A number that all processes on a machine share, so that they see at once what one changed."""

    @property
    def value(self) -> bytes:
        """The number; only whether it has changed means anything."""
        ...

    def advance(self) -> None:
        """Change the number."""
        ...


class Database(Queries, Protocol):
    """One process's access to a database; nothing is opened before it is needed."""

    clock: Callable[[], int]

    @property
    def change_counter(self) -> ChangeCounter:
        """What tells this process that access control was changed by another one."""
        ...

    @property
    def freshness(self) -> float:
        """Seconds for which access control is believed while the change counter stays the same."""
        ...

    def load(self) -> Load:
        """Return what the engine is doing now."""
        ...

    def can_store(self, text: str) -> bool:
        """Whether a text can be stored, and so be equal to a stored one."""
        ...

    async def execute(self, sql: str, *parameters: Any) -> int:
        """Run one statement as a transaction of its own; return the number of changed rows."""
        ...

    async def write(self, job: Job[Result], *, blob: Digest | None = None) -> Result:
        """Run a job in a transaction; return when it is committed, and raise what it raises.

        Nobody else changes the row, the links or the bytes of `blob` until then.
        """
        ...

    async def write_placing(self, job: Job[Result], *, blob: Digest) -> Result:
        """Run a job as `write` does; it places the bytes of a blob."""
        ...

    async def write_removing(self, job: Job[bool], *, blob: Digest, remove: Remove) -> bool:
        """Run a job as `write` does, and if it returns True, remove the bytes of a blob.

        Nobody else commits the blob until its bytes are gone. Bytes that cannot be removed are
        left to `portside collect`.
        """
        ...

    async def writers_of(self, table: Table) -> frozenset[str]:
        """Return which transactions write to a table now, and may yet commit.

        Rows of all others that were assigned a number before can be seen from now on.
        """
        ...

    def stream(self, sql: str, *parameters: Any) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Read rows a few at a time, for the length of a block, which is short."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Queries]:
        """Read several rows as they were at one moment, for the length of a block."""
        ...

    def snapshot_apart(self) -> AbstractAsyncContextManager[Queries]:
        """Read as in `snapshot` for as long as it takes; other reads still see the present."""
        ...

    def hold_blob(self, digest: Digest) -> AbstractAsyncContextManager[None]:
        """Keep everybody from changing a blob for the length of a block, which is short."""
        ...

    def claim(self) -> AbstractAsyncContextManager[bool]:
        """Claim the registry for a copy, for the length of a block; yields whether it was free."""
        ...

    def damage(self) -> AsyncIterator[str]:
        """Report what the engine finds wrong with its own files and keys."""
        ...

    async def probe_reads(self) -> None:
        """Return if the database can be read."""
        ...

    async def probe(self) -> None:
        """Return if the database can be read and written."""
        ...


class Noun:
    """One kind of thing that the store holds, over any database."""

    def __init__(self, database: Database) -> None:
        self._database = database


def require_row(row: Any | None) -> Any:
    """Return a row that was made with its table and is never deleted; raises Unavailable."""
    if row is None:
        raise Unavailable("the database lacks a row that was created with it")
    return row
