"""Quotas: the most that one repository may take.

A repository takes the size of every blob that it links, whatever refers to it, and the payload of
every manifest, in the trash or not. What it has already costs nothing to push again. Apart from
that, its open upload sessions may together have received as much as the quota.
"""

from __future__ import annotations

from typing import Protocol

from portside.spec.digests import Digest
from portside.spec.errors import QuotaExceeded
from portside.spec.names import RepositoryName
from portside.spec.uploads import UploadId


class QuotaStore(Protocol):
    """What is left of a quota, for those who ask before they push.

    The quota is passed with what is added as well, and checked again in that transaction.
    """

    async def measure_room(
        self,
        repository: RepositoryName,
        quota: int,
        digest: Digest | None = None,
        *,
        upload: UploadId | None = None,
    ) -> int | None:
        """Return how many bytes may be added to a repository, negative if it takes too much.

        None if `digest` names a blob that the repository has. For an `upload` it is no more than
        what the repository's other open sessions leave of the quota.
        """
        ...

    async def explain_quota(
        self, repository: RepositoryName, quota: int, size: int
    ) -> QuotaExceeded:
        """Return the error for `size` bytes that do not fit; 0 if it is not known how many."""
        ...
