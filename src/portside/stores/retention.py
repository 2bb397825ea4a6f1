"""What retention asks of a store."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from portside.spec.names import RepositoryName
from portside.spec.retention import Removal, RetainedContent
from portside.stores.actors import Actor
from portside.stores.properties import Deleted


class RetentionStore(Protocol):
    """Reads what retention decides about, and deletes what it has decided."""

    async def read_retained(self, repository: RepositoryName) -> RetainedContent:
        """Read the tags and manifests of a repository as they were at one moment.

        Nothing is there if the repository is unknown. Other reads are not held up.
        """
        ...

    async def unshared_size(self, repository: RepositoryName, manifests: Collection[str]) -> int:
        """Return the bytes that nothing would need any more if those manifests were gone.

        The manifests themselves count, and the blobs to which no other manifest of the repository
        refers, and which no other repository links.
        """
        ...

    async def remove_retained(
        self, repository: RepositoryName, removal: Removal, *, by: Actor
    ) -> Deleted:
        """Delete what still is as it was when it was read; what it needs to be gone is checked.

        A tag that was pushed, moved or locked since then stays, or whose manifest was pulled if
        that may keep the tag, as does a manifest that was pushed,
        tagged or locked, or that a manifest refers to which stays. Deleted manifests can be
        restored. `by` is the name of the identity. Return what was deleted.
        """
        ...
