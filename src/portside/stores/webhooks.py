"""Webhooks: how far each has read the events, and what has not been delivered yet.

A webhook has a position, behind which it reads events. What it wants of them becomes deliveries, in
the transaction that moves the position: each event is delivered, or known to be dead, whatever
crashes. Of the deliveries of one repository that are waiting, the first one alone is due; what
waits behind it becomes due when it is gone. Times are microseconds since 1970.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from portside.spec.pagination import Page
from portside.stores.events import Event


class DeliveryState(enum.StrEnum):
    """Whether a delivery is still tried; one that was accepted is not stored any more."""

    WAITING = "waiting"
    DEAD = "dead"


class WebhookState(NamedTuple):
    """What is known of a webhook.

    `position` is the id of the last event that it has read. While it is `paused`, it neither reads
    nor delivers; `resumed` is since when it is not. `left_at` is when it was no longer in the rules
    file; None while it is. `waiting` and `dead` are how many deliveries it has. `delivered` is when
    one was last accepted, None before the first; `failing` is since when none is, None if the last
    attempt was accepted.
    """

    name: str
    position: int
    paused: bool
    resumed: int
    left_at: int | None
    waiting: int
    dead: int
    delivered: int | None
    failing: int | None


class Delivery(NamedTuple):
    """An event that is to be delivered to one webhook.

    `id` is random, and the same in each attempt. `since` is the time of the event, or when it was
    retried by hand. `due` is None unless it is the first one of its repository that is waiting.
    `failing` is when the first of its `attempts` failed; the last of them did so with `error`.
    """

    webhook: str
    id: str
    event: Event
    state: DeliveryState
    since: int
    due: int | None
    attempts: int
    failing: int | None
    error: str


class Reading(NamedTuple):
    """What a webhook has read: from a position up to another, and the events that it wants."""

    webhook: str
    start: int
    stop: int
    wanted: Sequence[Event]


class WebhookStore(Protocol):
    """The webhooks and their deliveries. They change also while the registry is read-only."""

    async def add_webhooks(self, names: Sequence[str]) -> None:
        """Add webhooks that are not known; they begin behind the last event that there is."""
        ...

    async def note_webhooks(self, names: Sequence[str]) -> None:
        """Record that these are the webhooks of the rules file now; unknown ones are added."""
        ...

    async def list_webhooks(self) -> list[WebhookState]:
        """List all webhooks by name, those that left the rules file too."""
        ...

    async def pause_webhook(self, name: str, *, paused: bool) -> bool:
        """Pause or resume a webhook; return whether it is known."""
        ...

    async def forget_webhook(self, name: str, before: int, *, limit: int) -> bool:
        """Forget a webhook that left the rules file at a time or before it.

        At most `limit` deliveries are forgotten at once; return whether nothing is left to forget.
        """
        ...

    async def read_for_webhooks(self, readings: Sequence[Reading]) -> None:
        """Move positions, and add deliveries in the order of the events.

        What a webhook has read is left out if its position is another one by now, or if it is
        paused.
        """
        ...

    async def due_deliveries(self, webhook: str, *, limit: int) -> list[Delivery]:
        """List deliveries that are due, those first that are so for the longest time."""
        ...

    async def oldest_delivery(self, webhook: str) -> int | None:
        """Return since when the first delivery is waiting; None if none is."""
        ...

    async def end_delivery(self, delivery: Delivery) -> None:
        """Record that a delivery was accepted: it is not stored any more."""
        ...

    async def postpone_delivery(self, delivery: Delivery, due: int, error: str) -> None:
        """Record an attempt that failed, and when the next one is due."""
        ...

    async def bury_delivery(self, delivery: Delivery, error: str) -> None:
        """Record a failed attempt that was the last one; the next of the repository is due."""
        ...

    async def bury_old_deliveries(self, webhook: str, before: int, *, limit: int) -> int:
        """Mark the first deliveries as dead that are from a time or before it; return how many.

        At most `limit` are.
        """
        ...

    async def hasten_deliveries(self, webhook: str, after: int) -> None:
        """Make the deliveries due now that would be so later than a time."""
        ...

    async def list_deliveries(
        self, webhook: str, state: DeliveryState, *, after: int = 0, limit: int
    ) -> Page[Delivery]:
        """List deliveries of events with an id greater than `after`, in the order of these."""
        ...

    async def retry_deliveries(self, webhook: str, events: Sequence[int]) -> int:
        """Put the dead deliveries of these events back to waiting; return how many there were."""
        ...

    async def forget_dead_deliveries(self, webhook: str, before: int, *, limit: int) -> int:
        """Forget the first dead deliveries that are from a time or before it; return how many.

        At most `limit` are.
        """
        ...
