"""The metadata store on SQLite: the embedded default."""

from __future__ import annotations

from portside.stores.metadata.blobs import SqliteBlobs
from portside.stores.metadata.copies import SqliteCopies
from portside.stores.metadata.discovery import SqliteDiscovery
from portside.stores.metadata.facts import SqliteFacts
from portside.stores.metadata.identities import SqliteIdentities
from portside.stores.metadata.login_failures import SqliteLoginFailures
from portside.stores.metadata.manifests import SqliteManifests
from portside.stores.metadata.scope_maps import SqliteScopeMaps
from portside.stores.metadata.signing_keys import SqliteSigningKeys
from portside.stores.metadata.standing import SqliteSwitch
from portside.stores.metadata.uploads import SqliteUploads


class SqliteAccess(SqliteIdentities, SqliteScopeMaps, SqliteSigningKeys, SqliteLoginFailures):
    """The AccessStore over the same database."""


class SqliteMetadata(
    SqliteManifests,
    SqliteDiscovery,
    SqliteBlobs,
    SqliteUploads,
    SqliteFacts,
    SqliteSwitch,
    SqliteCopies,
):
    """All nouns over one database; each of the classes above holds the SQL of one of them."""

    async def probe(self) -> None:
        """Look at the file, read a row, and go through the motions of a write."""
        await self._database.probe()
