"""The metadata store on PostgreSQL: for more nodes than one."""

from __future__ import annotations

from portside.stores.metadata.postgres.blobs import PostgresBlobs
from portside.stores.metadata.postgres.copies import PostgresCopies
from portside.stores.metadata.postgres.discovery import PostgresDiscovery
from portside.stores.metadata.postgres.facts import PostgresFacts
from portside.stores.metadata.postgres.identities import PostgresIdentities
from portside.stores.metadata.postgres.login_failures import PostgresLoginFailures
from portside.stores.metadata.postgres.manifests import PostgresManifests
from portside.stores.metadata.postgres.scope_maps import PostgresScopeMaps
from portside.stores.metadata.postgres.signing_keys import PostgresSigningKeys
from portside.stores.metadata.postgres.standing import PostgresSwitch
from portside.stores.metadata.postgres.uploads import PostgresUploads

# A statement that writes, where writing is allowed, and changes nothing.
_TRY = "DELETE FROM uploads WHERE id IS NULL"


class PostgresAccess(
    PostgresIdentities, PostgresScopeMaps, PostgresSigningKeys, PostgresLoginFailures
):
    """The AccessStore over the same database."""


class PostgresMetadata(
    PostgresFacts,
    PostgresManifests,
    PostgresDiscovery,
    PostgresBlobs,
    PostgresUploads,
    PostgresSwitch,
    PostgresCopies,
):
    """All nouns over one database; each of the classes above holds the SQL of one of them."""

    async def probe(self) -> None:
        """Go through the motions of a write; what only reads refuses that."""
        await self._database.execute(_TRY)
