"""Tag history: what a tag pointed to, and how to point it back."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from portside.spec.conditions import TagCondition, keeping
from portside.spec.digests import Digest
from portside.spec.errors import ManifestUnknown, ParameterInvalid, TagUnknown
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import Page
from portside.spec.rules import NO_RULES, Rules
from portside.stores.actors import NOBODY, Actor
from portside.stores.tag_history import TagAction, TagChange, TagHistoryStore

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TIME_FORM = "a time with its zone, such as 2027-01-31T12:00:00Z"


class ManifestState(enum.StrEnum):
    """What has become of a manifest that a tag pointed to; a deleted one can be restored."""

    PRESENT = "present"
    DELETED = "deleted"
    PURGED = "purged"


class TagRecord(NamedTuple):
    """A change of a tag, and the state of its manifest now."""

    change: TagChange
    manifest: ManifestState


class PointedBack(NamedTuple):
    """What a tag points to now, and what it took.

    `before` is what it pointed to, None if it did not exist; `manifests` are the digests of what
    was restored from the trash.
    """

    digest: Digest
    before: str | None
    manifests: list[str]

    @property
    def is_change(self) -> bool:
        """Whether the tag pointed elsewhere before."""
        return self.before != self.digest


class TagHistory:
    """Lists the changes of tags and points tags back.

    Manifests that were deleted can be restored for `keep_deleted` microseconds; `clock` returns
    those since 1970, as are all times here. `rules` returns the rules of all repositories as they
    are now.
    """

    def __init__(
        self,
        metadata: TagHistoryStore,
        *,
        keep_deleted: int,
        clock: Callable[[], int],
        rules: Callable[[], Rules] = lambda: NO_RULES,
    ) -> None:
        self._metadata = metadata
        self._keep_deleted = keep_deleted
        self._clock = clock
        self._rules = rules

    async def list(
        self, repository: RepositoryName, tag: Tag, *, before: int | None = None, limit: int
    ) -> Page[TagRecord]:
        """List the changes of a tag `before` a time, newest first.

        Raises TagUnknown if none is known at all.
        """
        page = await self._metadata.list_tag_changes(repository, tag, before=before, limit=limit)
        if limit and before is None and not page.items:
            raise TagUnknown(f"repository {repository} has no tag {tag}, and no history of it")
        since = self._since
        return Page([TagRecord(change, _state(change, since)) for change in page.items], page.more)

    async def restore(
        self,
        repository: RepositoryName,
        tag: Tag,
        to: Digest | int,
        condition: TagCondition | None = None,
        *,
        by: Actor = NOBODY,
        shows_identities: bool = True,
    ) -> PointedBack:
        """Point a tag to a manifest of its repository, or to what it pointed to at a time.

        The manifest is restored if it is in the trash. With `shows_identities`, errors name who
        changed the tag.

        Raises ManifestUnknown, OperationDisallowed, TagImmutable and, if `condition` does not hold
        for the tag, PreconditionFailed; for a time, TagUnknown if the tag did not exist then, or if
        that is not known any more.
        """
        digest = (
            await self._find(repository, tag, to, shows_identities=shows_identities)
            if isinstance(to, int)
            else to
        )
        condition = keeping(condition, self._rules().of(repository).immutable_tags)
        try:
            done = await self._metadata.restore_tag(
                repository, tag, digest, condition, since=self._since, by=by
            )
        except ManifestUnknown as error:
            raise ManifestUnknown(
                f"manifest {digest} is neither in repository {repository} nor in its trash, so tag"
                f" {tag} cannot point to it; if it was purged, push it again"
            ) from error
        return PointedBack(digest, *done)

    async def _find(
        self, repository: RepositoryName, tag: Tag, time: int, *, shows_identities: bool
    ) -> Digest:
        """Return what a tag pointed to at a time."""
        page = await self._metadata.list_tag_changes(repository, tag, before=time + 1, limit=1)
        what = f"tag {tag} of repository {repository}"
        if not page.items:
            raise TagUnknown(
                f"{what} did not exist at {format_time(time)}, or its history does not reach back"
                " so far"
            )
        change = page.items[0]
        if change.action is TagAction.DELETED:
            deleted = f"it was deleted at {format_time(change.time)}"
            by = f" by {change.identity}" if change.identity and shows_identities else ""
            raise TagUnknown(f"{what} did not exist at {format_time(time)}: {deleted}{by}")
        return change.digest

    @property
    def _since(self) -> int:
        """The time up to which deleted content cannot be restored any more."""
        return self._clock() - self._keep_deleted


def _state(change: TagChange, since: int) -> ManifestState:
    if not change.is_stored:
        return ManifestState.PURGED
    if change.deleted is None:
        return ManifestState.PRESENT
    return ManifestState.DELETED if change.deleted > since else ManifestState.PURGED


def parse_time(text: str) -> int:
    """Read a time in ISO 8601; raises ParameterInvalid.

    It needs a zone, as neither that of the server nor that of the client is a safe guess.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        pass
    raise ParameterInvalid(f"invalid time {text[:80]!r}: expected {TIME_FORM}")


def format_time(microseconds: int) -> str:
    """Write a time exactly, in UTC, so that it names one change."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
