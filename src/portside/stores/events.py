"""Events: what was changed, when, and by whom, in the order of the changes.

An event is recorded in the transaction of its change, so that there is one for every change that
was committed, and none for any other. Times are microseconds since 1970. Their order is that of the
ids: within a repository, it is the order of the changes, even if the clocks of nodes differ.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from portside.spec.pagination import Page
from portside.spec.patterns import NameRange
from portside.stores.actors import Actor


class EventAction(enum.StrEnum):
    """What was done. The events of access come last; they belong to no repository."""

    REPOSITORY_CREATED = "repository.created"
    REPOSITORY_DELETED = "repository.deleted"
    REPOSITORY_RESTORED = "repository.restored"
    MANIFEST_PUSHED = "manifest.pushed"
    MANIFEST_DELETED = "manifest.deleted"
    MANIFEST_RESTORED = "manifest.restored"
    MANIFEST_PURGED = "manifest.purged"
    TAG_SET = "tag.set"
    TAG_DELETED = "tag.deleted"
    TAG_RESTORED = "tag.restored"
    BLOB_PUSHED = "blob.pushed"
    BLOB_MOUNTED = "blob.mounted"
    BLOB_DELETED = "blob.deleted"
    PROPERTIES_CHANGED = "properties.changed"
    RETENTION_APPLIED = "retention.applied"
    CONTENT_COLLECTED = "content.collected"
    CONTENT_REPAIRED = "content.repaired"
    READ_ONLY_SET = "read-only.set"
    READ_ONLY_LIFTED = "read-only.lifted"
    USER_ADDED = "user.added"
    USER_CHANGED = "user.changed"
    USER_REMOVED = "user.removed"
    TOKEN_ADDED = "token.added"  # noqa: S105  # a word, not a secret
    TOKEN_CHANGED = "token.changed"  # noqa: S105
    TOKEN_REMOVED = "token.removed"  # noqa: S105
    SCOPE_MAP_ADDED = "scope-map.added"
    SCOPE_MAP_CHANGED = "scope-map.changed"
    SCOPE_MAP_REMOVED = "scope-map.removed"
    KEY_ADDED = "key.added"
    KEY_REMOVED = "key.removed"
    LOGIN_FAILED = "login.failed"
    LOGIN_LIMITED = "login.limited"
    RULES_RELOADED = "rules.reloaded"


ACTIONS = frozenset({*EventAction, *(f"{action.partition('.')[0]}.*" for action in EventAction)})
"""What a filter may ask for: an action, or all of a noun."""


SOURCE = "from"
"""The detail of a mount that names the repository from which the blob was mounted."""


class NewEvent(NamedTuple):
    """An event that is about to be recorded.

    `reference` is a tag, or the name of what was changed in access control. `size` is that of the
    manifest or the blob, in bytes. `details` is what only some actions have.
    """

    action: EventAction
    repository: str = ""
    reference: str = ""
    digest: str = ""
    media_type: str = ""
    size: int | None = None
    details: dict[str, Any] | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was recorded; `id` is its position, and greater than that of those before."""

    id: int
    time: int
    action: str
    repository: str
    reference: str
    digest: str
    media_type: str
    size: int | None
    by: Actor
    details: dict[str, Any]

    @property
    def tags(self) -> Sequence[str]:
        """The tags that it is about: a push can have several."""
        if not self.repository:
            return ()
        if self.action == EventAction.MANIFEST_PUSHED and "tags" in self.details:
            found: Sequence[str] = self.details["tags"]
            return found
        return (self.reference,) if self.reference else ()


EVERY_ACTION = NameRange("", "{")


class EventFilter(NamedTuple):
    """Which events are listed: those to which all of it applies.

    `since` is the first time, `until` the first one that is too late. `identity` is the name of who
    made the change. `action` is an action, or a noun with `.*` behind it for all of its actions.
    With `names`, only events of repositories in these ranges are, which are in order and do not
    touch; none of access. `request` is the id of the request that made the change.
    """

    since: int | None = None
    until: int | None = None
    identity: str | None = None
    action: str | None = None
    names: Sequence[NameRange] | None = None
    request: str | None = None

    @property
    def actions(self) -> NameRange:
        """The actions that are wanted, as a range of texts in ASCII order."""
        if self.action is None:
            return EVERY_ACTION
        noun = self.action.removesuffix("*")
        # Behind a noun stands a dot, and behind an action nothing.
        return NameRange(noun, noun[:-1] + "/" if noun != self.action else noun + "!")

    def matches(self, event: Event) -> bool:
        """Whether an event is listed."""
        names, actions = self.names, self.actions
        return (
            (self.since is None or event.time >= self.since)
            and (self.until is None or event.time < self.until)
            and (self.identity is None or event.by.name == self.identity)
            and (self.request is None or event.by.request == self.request)
            and actions.start <= event.action < actions.stop
            and (names is None or any(n.start <= event.repository < n.stop for n in names))
        )


EVERYTHING = EventFilter()


class EventStore(Protocol):
    """The events."""

    async def record_event(self, event: NewEvent, by: Actor, *, once: bool = False) -> None:
        """Record what happened without a change in the store.

        With `once`, an event of access is not recorded if the last one of its action and reference
        had the same digest.
        """
        ...

    async def list_events(
        self, wanted: EventFilter = EVERYTHING, *, before: int | None = None, limit: int
    ) -> Page[Event]:
        """List events with an id less than `before`, newest first."""
        ...

    async def read_events(self, after: int, *, limit: int) -> list[Event]:
        """Read the next events after a position, in their order.

        A reader that goes on after the last one that it got misses none: an event is not returned
        as long as one with a lower id may still be committed.
        """
        ...

    async def last_event(self) -> int:
        """Return the greatest id that is known now; 0 if there are no events."""
        ...

    async def trim_events(self, until: int, *, limit: int) -> int:
        """Forget the oldest events if they are from a time or before it; return how many.

        At most `limit` are, and the newest of all is not, so that ids never start again; nor are
        those that a webhook of the rules file has not read, unless it is paused.
        """
        ...
