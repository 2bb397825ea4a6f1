"""The stores that a registry is served from, over any database."""

from __future__ import annotations

from portside.stores.metadata.blobs import BlobLinks
from portside.stores.metadata.copies import Copies
from portside.stores.metadata.descriptions import Descriptions
from portside.stores.metadata.discovery import Discovery
from portside.stores.metadata.events import Events
from portside.stores.metadata.identities import Identities
from portside.stores.metadata.inspection import Inspection
from portside.stores.metadata.leases import Leases
from portside.stores.metadata.login_failures import LoginFailures
from portside.stores.metadata.manifests import Manifests
from portside.stores.metadata.periods import NotedPeriods
from portside.stores.metadata.properties import Properties
from portside.stores.metadata.pulls import Pulls
from portside.stores.metadata.quotas import Quotas
from portside.stores.metadata.read_only import ReadOnlyMode
from portside.stores.metadata.repairs import Repairs
from portside.stores.metadata.retention import Retention
from portside.stores.metadata.scope_maps import ScopeMaps
from portside.stores.metadata.signing_keys import SigningKeys
from portside.stores.metadata.tag_history import TagHistory
from portside.stores.metadata.trash import Trash
from portside.stores.metadata.uploads import Uploads
from portside.stores.metadata.usage import Measurements
from portside.stores.metadata.webhooks import Webhooks


class Metadata(
    Manifests,
    Discovery,
    Properties,
    Descriptions,
    BlobLinks,
    Trash,
    TagHistory,
    Retention,
    Pulls,
    Leases,
    NotedPeriods,
    Uploads,
    Measurements,
    Events,
    Webhooks,
    Quotas,
    Inspection,
    Repairs,
    ReadOnlyMode,
    Copies,
):
    """Everything about the content, with all abilities of a MetadataStore."""

    async def probe_reads(self) -> None:
        """Read something."""
        await self._database.probe_reads()

    async def probe(self) -> None:
        """Read, and go through the motions of a write."""
        await self._database.probe()


class Access(Identities, ScopeMaps, SigningKeys, LoginFailures):
    """The AccessStore."""
