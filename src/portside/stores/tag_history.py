"""The history of tags: what each pointed to, from when on, and who changed it.

Times are microseconds since 1970. Changes of one tag have different times, in their order, even if
the clocks of nodes differ.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import Page
from portside.stores.actors import NOBODY, Actor


class TagAction(enum.StrEnum):
    """What was done to a tag. The store keeps the words."""

    SET = "set"
    DELETED = "deleted"
    RESTORED = "restored"


class TagChange(NamedTuple):
    """A change of a tag, and what has become of the manifest since.

    `digest` is what the tag pointed to from then on, or until then if it was deleted. `identity` is
    empty for anonymous clients, and where it is not known. `deleted` is when the manifest was
    deleted, if it `is_stored` and in the trash.
    """

    time: int
    action: TagAction
    digest: Digest
    identity: str
    is_stored: bool
    deleted: int | None


class RestoredTag(NamedTuple):
    """What restoring a tag did.

    `before` is what the tag pointed to, None if it did not exist; `manifests` are the digests of
    what was restored from the trash.
    """

    before: str | None
    manifests: list[str]


class TrimPosition(NamedTuple):
    """A position among the changes of all tags, in the order of their times.

    `key` tells the repository from others in this database.
    """

    time: int
    key: int
    name: str


class TagHistoryStore(Protocol):
    """The changes of tags, and the way back."""

    async def list_tag_changes(
        self, repository: RepositoryName, tag: Tag, *, before: int | None = None, limit: int
    ) -> Page[TagChange]:
        """List the changes of a tag `before` a time, newest first; empty if there are none."""
        ...

    async def restore_tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        digest: Digest,
        condition: TagCondition | None = None,
        *,
        since: int = 0,
        by: Actor = NOBODY,
    ) -> RestoredTag:
        """Point a tag to a manifest of its repository, which is restored if it is in the trash.

        Nothing that was deleted at the time `since` or before it is restored. `by` is the name of
        the identity.

        Raises ManifestUnknown, OperationDisallowed and, if `condition` does not hold for the tag,
        PreconditionFailed.
        """
        ...

    async def trim_tag_history(
        self, until: int, after: TrimPosition | None = None, *, limit: int
    ) -> TrimPosition | None:
        """Forget what is not needed to say where a tag pointed at any time later than `until`.

        At most `limit` changes are looked at: the oldest ones, or those `after` a position up to
        which nothing is left to forget. Return the position of the last one, or None if there are
        no more.
        """
        ...
