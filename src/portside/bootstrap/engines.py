"""The databases that a registry can be kept in: one file on this machine, or PostgreSQL."""

from __future__ import annotations

from typing import Protocol

from portside.bootstrap.clock import now
from portside.config import Settings
from portside.stores.interfaces import ClientVersions, ServerClock
from portside.stores.metadata.engine import Database
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Access, Metadata


class MigratedDatabase(Database, ServerClock, ClientVersions, Protocol):
    """A database together with its schema, its connections and its end.

    Connections belong to the event loop in which they are first needed: a program that leaves the
    loop disconnects before, and may connect again in another one. Every method but `close` raises
    Unavailable and StorageFull.
    """

    async def is_made(self) -> bool:
        """Whether it was ever a registry's."""
        ...

    async def migrate(self) -> int:
        """Create the schema or bring it to the newest version; return the number of steps taken.

        Raises SchemaTooNew.
        """
        ...

    async def require_newest(self) -> None:
        """Refuse another schema; raises SchemaTooNew and SchemaTooOld."""
        ...

    async def shrink(self) -> int:
        """Return space that was freed to the disk; return how many bytes.

        Does nothing where that would take longer than it is worth.
        """
        ...

    async def disconnect(self) -> None:
        """Finish what was begun in this event loop, and release what belongs to it."""
        ...

    def close(self) -> None:
        """Release everything else."""
        ...


class Engine:
    """A database as one process uses it, and what is stored in it; nothing is opened before use.

    `name` and `place` are what people call the database and where the registry is; they have no
    secrets. `remedy` says what to do when it is lost and its blobs are not. Other nodes may use a
    `shared` one, perhaps with another version of Portside.
    """

    def __init__(
        self, database: MigratedDatabase, *, name: str, place: str, remedy: str, shared: bool
    ) -> None:
        self.database = database
        self.name = name
        self.place = place
        self.remedy = remedy
        self.metadata = Metadata(database)
        self.access = Access(database)
        self._shared = shared

    def use_through(self, database: Database) -> None:
        """Use what is stored through a Database that is around this one."""
        self.metadata = Metadata(database)
        self.access = Access(database)

    async def prepare(self) -> None:
        """Make the database ready to be served from.

        A schema that other nodes may be using is not changed: that is for `portside migrate`.
        Raises SchemaTooNew and SchemaTooOld.
        """
        if not self._shared or not await self.database.is_made():
            await self.database.migrate()
        await self.database.require_newest()


def open_engine(settings: Settings, *, read_only: bool = False) -> Engine:
    """Open the database that the settings name; raises SettingsInvalid.

    With `read_only`, the caller will not write.
    """
    return _postgres(settings) if settings.database else _sqlite(settings, read_only=read_only)


def _sqlite(settings: Settings, *, read_only: bool) -> Engine:
    database = SqliteDatabase(settings.root, clock=now, read_only=read_only)
    return Engine(
        database,
        name=str(database.file),
        place=str(database.file.parent),
        remedy=f"restore {database.file.name} from a backup",
        shared=False,
    )


def _postgres(settings: Settings) -> Engine:
    # Most registries are kept in a file, and their commands need not wait for asyncpg.
    from portside.stores.metadata.postgres.database import PostgresDatabase, Terms  # noqa: PLC0415

    terms = Terms(
        url=settings.database,
        connections=settings.database_connections,
        connect_timeout=settings.database_connect_timeout,
        statement_timeout=settings.database_statement_timeout,
    )
    return Engine(
        PostgresDatabase(terms, clock=now),
        name=settings.shown_database,
        place=settings.shown_database,
        remedy="restore the database from a backup",
        shared=True,
    )
