"""PostgreSQL as the database of a registry."""

from __future__ import annotations

from portside.bootstrap.clock import now
from portside.config import Settings
from portside.stores.metadata.postgres import migrations
from portside.stores.metadata.postgres import pool as postgres
from portside.stores.metadata.postgres.store import PostgresAccess, PostgresMetadata


class PostgresEngine:
    """A database of a PostgreSQL server, which other nodes use too."""

    remedy = "restore the database from a backup"

    def __init__(self, settings: Settings) -> None:
        self.name = self.place = settings.shown_database
        terms = postgres.Terms(
            url=settings.database,
            connections=settings.database_connections,
            connect_timeout=settings.database_connect_timeout,
            statement_timeout=settings.database_statement_timeout,
        )
        self._database = postgres.Database(terms, clock=now)
        self.metadata = PostgresMetadata(self._database)
        self.access = PostgresAccess(self._database)

    async def is_made(self) -> bool:
        """Look for a step of the schema that was taken."""
        return await migrations.read_version(self._database) > 0

    async def migrate(self) -> int:
        """Take the steps that the database lacks, one node at a time."""
        return await migrations.migrate(self._database)

    async def prepare(self) -> None:
        """Make the schema where there is none yet; to change one is for `portside migrate`.

        Other nodes may serve from it, and they may be of another version.
        """
        if not await self.is_made():
            await self.migrate()
        await self.require_newest()

    async def require_newest(self) -> None:
        """Read the version from the database."""
        await migrations.require_newest(self._database)

    async def disconnect(self) -> None:
        """Finish the writes that were asked for, and hang up."""
        await self._database.close()

    def close(self) -> None:
        """Do nothing: all connections belong to a loop."""
