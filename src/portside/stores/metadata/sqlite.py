"""The metadata store on SQLite: the embedded default."""

from __future__ import annotations

from portside.stores.metadata.blobs import SqliteBlobs
from portside.stores.metadata.discovery import SqliteDiscovery
from portside.stores.metadata.facts import SqliteFacts
from portside.stores.metadata.manifests import SqliteManifests
from portside.stores.metadata.uploads import SqliteUploads


class SqliteMetadata(SqliteManifests, SqliteDiscovery, SqliteBlobs, SqliteUploads, SqliteFacts):
    """All nouns over one database; each of the classes above holds the SQL of one of them."""

    async def probe(self) -> None:
        """Read a row, and go through the motions of a write."""
        self._database.find("SELECT 1 FROM repositories LIMIT 1")
        await self._database.write(lambda _: None)
