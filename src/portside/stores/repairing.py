"""How stores are repaired: what is damaged is dropped or restored, and what is sound stays.

Abilities beside those of `interfaces` and `inspection`, with the same rules for Unavailable,
StorageFull and durability. Every change looks once more, where no push can come between, at what
was found, and changes nothing if it is no longer so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from portside.spec.digests import Digest
from portside.stores.actors import NOBODY, Actor
from portside.stores.inspection import InspectableMetadata
from portside.stores.interfaces import InspectableBlobs, MetadataStore, Place, Remove


class BytesReplaced(Exception):
    """The bytes of a blob were written or removed since they were looked at."""


class RepairableBlobs(InspectableBlobs, Protocol):
    """A blob store that tells whether bytes are still those that were looked at."""

    async def version(self, digest: Digest) -> str | None:
        """Return a text that is another one after each write of the bytes; None if missing."""
        ...

    def require_version(self, digest: Digest, version: str | None) -> Place:
        """Return a function that raises BytesReplaced if the bytes have another version."""
        ...


class RepairableMetadata(InspectableMetadata, MetadataStore, Protocol):
    """A metadata store whose records can be brought in line with what is there.

    Every change is recorded as an event; `by` is who repairs.
    """

    async def drop_damaged_blob(
        self,
        digest: Digest,
        *,
        confirm: Place,
        remove: Remove,
        has_bytes: bool = True,
        by: Actor = NOBODY,
    ) -> None:
        """Remove the bytes of a blob, if it has any, and its links that no manifest needs.

        The blob goes with its last link. A link that a manifest needs stays, so that one push makes
        the blob whole in every repository. `confirm` is called before anything changes, and raises
        BytesReplaced if the damaged bytes are no longer there.
        """
        ...

    async def restore_blob(
        self,
        digest: Digest,
        size: int,
        *,
        repository: str | None,
        place: Place,
        by: Actor = NOBODY,
    ) -> bool:
        """Record a blob of `size` bytes and place them.

        A `repository` links it again, if a manifest there refers to it. Return False, and place
        nothing, if neither a link nor a manifest needs the blob any more.
        """
        ...

    async def drop_unlinked_blob(self, digest: str, *, by: Actor = NOBODY) -> None:
        """Delete a blob that no repository links; its bytes are orphaned from then on."""
        ...

    async def replace_payload(
        self, repository: str, digest: Digest, payload: bytes, *, by: Actor = NOBODY
    ) -> None:
        """Store the bytes of a manifest anew, if the repository has it."""
        ...

    async def begin_grace(self, repository: str, digest: str, *, by: Actor = NOBODY) -> None:
        """Begin the grace period of a link, if no manifest refers to its blob."""
        ...

    async def recount(self, repository: str, *, by: Actor = NOBODY) -> None:
        """Record how many manifests and tags a repository has."""
        ...


class ContentSource(Protocol):
    """Another place from which content can be read by its digest; what it has may be damaged.

    Every method raises Unavailable if the place cannot be read now.
    """

    @property
    def name(self) -> str:
        """Return what people call it; it holds no secret."""
        ...

    async def require(self) -> None:
        """Return if the place is one that content can be read from."""
        ...

    def read_blob(self, digest: Digest, repositories: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Read a blob in pieces; one of the repositories has it, where the place has any.

        A caller that stops early closes the generator. Raises BlobUnknown before the first piece.
        """
        ...

    async def read_manifest(self, digest: Digest, repositories: Sequence[str]) -> bytes:
        """Read a manifest; raises ManifestUnknown."""
        ...
