"""Mount: make a blob of one repository readable in another, without sending it again."""

from __future__ import annotations

from collections.abc import Callable

from portside.operations.admission import Admission
from portside.spec.digests import Digest
from portside.spec.errors import BlobUnknown
from portside.spec.names import RepositoryName
from portside.stores.actors import NOBODY, Actor
from portside.stores.interfaces import BlobStore, MetadataStore

MAX_SOURCES = 1000
"""Repositories among which one is looked for that the caller may pull from."""


class Mount:
    """Links blobs that the registry holds already."""

    def __init__(
        self,
        metadata: MetadataStore,
        blobs: BlobStore,
        *,
        admission: Admission | None = None,
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._admission = admission or Admission()

    async def blob(
        self,
        repository: RepositoryName,
        digest: Digest,
        source: RepositoryName | None,
        *,
        may_pull: Callable[[str], bool] | None = None,
        by: Actor = NOBODY,
    ) -> bool:
        """Link a blob that `source` (or any repository, if that is None) links (end-11).

        Without a source, `may_pull` says which repositories may be one (None: all of them). Return
        False if there is nothing to mount, or its bytes were lost: the client pushes the blob then.

        Raises OperationDisallowed if nothing may be written to the repository, StorageFull and
        QuotaExceeded.
        """
        if source is None and may_pull is not None:
            linking = await self._metadata.list_linking(digest, MAX_SOURCES)
            source = next((name for name in linking if may_pull(name)), None)
            if source is None:
                return False
        self._admission.check_space()
        held = await self._blobs.stat(digest)
        if held is None:
            return False
        quota = self._admission.rules_of(repository).quota
        try:
            await self._metadata.mount_blob(
                repository, digest, source, size=held, by=by, quota=quota
            )
        except BlobUnknown:
            return False
        return True
