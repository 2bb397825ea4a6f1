"""The databases that a registry can be kept in: one file on this machine, or PostgreSQL."""

from __future__ import annotations

from typing import Protocol

from portside.bootstrap.clock import now
from portside.config import Settings
from portside.stores.access import AccessStore
from portside.stores.copying import CopyableMetadata
from portside.stores.inspection import InspectableMetadata
from portside.stores.interfaces import MetadataStore
from portside.stores.metadata import database as sqlite
from portside.stores.metadata.sqlite import SqliteAccess, SqliteMetadata


class Metadata(MetadataStore, InspectableMetadata, CopyableMetadata, Protocol):
    """A metadata store with all its abilities."""


class Engine(Protocol):
    """A database, as one process uses it; nothing is opened before it is needed.

    Connections belong to the event loop in which they are first needed: whoever leaves the loop
    disconnects before, and may connect again in another one. Every method but `close` raises
    Unavailable and StorageFull.
    """

    @property
    def name(self) -> str:
        """What people call it; without secrets."""
        ...

    @property
    def place(self) -> str:
        """Where the registry is that it holds, as people call that."""
        ...

    @property
    def remedy(self) -> str:
        """What to do when it is lost and its blobs are not."""
        ...

    @property
    def metadata(self) -> Metadata:
        """All that is known of the content."""
        ...

    @property
    def access(self) -> AccessStore:
        """All that is known of identities."""
        ...

    async def is_made(self) -> bool:
        """Tell whether it has ever been a registry's."""
        ...

    async def migrate(self) -> int:
        """Make it, or bring its schema to the newest version; gives the number of steps taken.

        Raises SchemaTooNew.
        """
        ...

    async def prepare(self) -> None:
        """Make it ready to be served from, as far as a server may.

        Raises SchemaTooNew and SchemaTooOld.
        """
        ...

    async def require_newest(self) -> None:
        """Refuse another schema; raises SchemaTooNew and SchemaTooOld."""
        ...

    async def disconnect(self) -> None:
        """Finish what was begun in this event loop, and let go of what belongs to it."""
        ...

    def close(self) -> None:
        """Let go of everything else."""
        ...


class SqliteEngine:
    """One file on this machine; raises SettingsInvalid if the settings name no directory."""

    def __init__(self, settings: Settings, *, read_only: bool) -> None:
        self._database = sqlite.Database(settings.root, clock=now, read_only=read_only)
        self.metadata = SqliteMetadata(self._database)
        self.access = SqliteAccess(self._database)

    @property
    def name(self) -> str:
        """The file."""
        return str(self._database.file)

    @property
    def place(self) -> str:
        """The data directory."""
        return str(self._database.file.parent)

    @property
    def remedy(self) -> str:
        """Where the file may come from."""
        return f"restore {self._database.file.name} from a backup"

    async def is_made(self) -> bool:
        """Look for a file in which a step of the schema was taken."""
        return self._database.is_made()

    async def migrate(self) -> int:
        """Make the file, or take the steps that it lacks."""
        return self._database.create()

    async def prepare(self) -> None:
        """Migrate: nobody else serves from the file."""
        await self.migrate()

    async def require_newest(self) -> None:
        """Read the version from the file."""
        self._database.require_newest()

    async def disconnect(self) -> None:
        """Do nothing: no connection belongs to a loop."""

    def close(self) -> None:
        """Finish the writes that were asked for, and close the file."""
        self._database.close()


def open_engine(settings: Settings, *, read_only: bool = False) -> Engine:
    """Make the engine that the settings name; raises SettingsInvalid.

    With `read_only`, whoever opens it will not write.
    """
    if settings.database:
        # Most registries are kept in a file, and their commands need not wait for asyncpg.
        from portside.bootstrap.postgres import PostgresEngine  # noqa: PLC0415

        return PostgresEngine(settings)
    return SqliteEngine(settings, read_only=read_only)
