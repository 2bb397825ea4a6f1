"""Diagnosis: what an experienced operator would look at, and what to do about it.

Here are the parts that look at stores and at what is measured elsewhere; `bootstrap` and `cli` add
those that need settings and the server.
"""

from __future__ import annotations

import enum
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import NamedTuple

from portside.spec.errors import RegistryError
from portside.stores.events import EventStore
from portside.stores.interfaces import MetadataStore, ServerClock
from portside.stores.read_only import RegistryState
from portside.stores.webhooks import WebhookState

CLOCK_LIMIT = 30
"""Seconds by which clocks may differ: half of the default of --clock-skew. Object stores refuse
signatures that are 15 minutes off."""

DAY = 24 * 3600

RENEWAL = 14 * DAY
"""Seconds before its end in which a certificate has to be renewed; less for one of a short life."""

LOW = 0.05
"""The part of a disk that should be free."""


class Level(enum.StrEnum):
    """What a finding asks for."""

    OK = "ok"
    ADVICE = "advice"
    """It works, and could be better or be wanted."""
    PROBLEM = "problem"
    """Something must be done."""


class Diagnosis(NamedTuple):
    """What was found of a subject, and what to do about it."""

    subject: str
    level: Level
    text: str
    remedy: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether nothing has to be done."""
        return self.level is Level.OK


def ok(subject: str, text: str) -> Diagnosis:
    """Return what needs nothing."""
    return Diagnosis(subject, Level.OK, text)


def problem(subject: str, text: str, remedy: str = "") -> Diagnosis:
    """Return what must be repaired."""
    return Diagnosis(subject, Level.PROBLEM, text, remedy)


def advice(subject: str, text: str, remedy: str) -> Diagnosis:
    """Return what may be wanted, and what to do otherwise."""
    return Diagnosis(subject, Level.ADVICE, text, remedy)


async def try_store(
    subject: str, place: str, probe: Callable[[], Awaitable[None]], remedy: str = ""
) -> Diagnosis:
    """Return whether a store can be read and written to; `remedy` is for one that cannot."""
    try:
        await probe()
    except RegistryError as error:
        return problem(subject, "; ".join(error.details), remedy)
    return ok(subject, f"{place} can be written to")


async def look_at_clocks(
    stores: Mapping[str, ServerClock], clock: Callable[[], int]
) -> AsyncIterator[Diagnosis]:
    """Compare the clock of this machine with those of the stores, by their names."""
    for name, store in stores.items():
        before = clock()
        try:
            found = await store.server_time()
        except RegistryError:
            # That it does not work is found elsewhere.
            continue
        if found is not None:
            yield compare_clocks(name, before, found, clock())


def compare_clocks(name: str, before: int, found: int, after: int) -> Diagnosis:
    """Return what a time means that a store told between two moments (all in microseconds)."""
    ahead = max(before - found, found - after, 0) // 1_000_000
    if ahead <= CLOCK_LIMIT:
        return ok("clock", f"agrees with that of {name}")
    direction = "behind" if found > after else "ahead of"
    return problem(
        "clock",
        f"this machine is {ahead} seconds {direction} {name}",
        "synchronize both, such as with chrony or systemd-timesyncd",
    )


async def look_at_events(events: EventStore, now: int) -> AsyncIterator[Diagnosis]:
    """Yield that the newest event is of the future (in microseconds); raises Unavailable."""
    page = await events.list_events(limit=1)
    ahead = max((event.time - now for event in page.items), default=0) // 1_000_000
    if ahead > CLOCK_LIMIT:
        yield problem(
            "clock",
            f"the newest event was recorded {ahead} seconds after the present time of this machine",
            "set the clock, such as with chrony or systemd-timesyncd, and compare it with those of"
            " other nodes",
        )


def look_at_deliveries(webhooks: Sequence[WebhookState]) -> Iterator[Diagnosis]:
    """Yield which webhooks are paused, and which have events that are not sent any more."""
    for name in (webhook.name for webhook in webhooks if webhook.paused):
        yield advice("webhooks", f"{name} is paused", f"run `portside webhooks resume {name}`")
    for webhook in (it for it in webhooks if it.dead):
        yield advice(
            "webhooks",
            f"{webhook.dead} events of {webhook.name} are dead",
            f"see `portside webhooks deliveries {webhook.name}`, and retry them",
        )


def compare_versions(own: str, found: Iterable[str]) -> Diagnosis | None:
    """Return what to do if another version of Portside uses the registry; None if none does."""
    others = sorted({*found} - {own, ""})
    if not others:
        return None
    return problem(
        "version",
        f"this is Portside {own}, and the registry is served by {', '.join(others)}",
        "restart what runs an older version, or use the commands of the version that serves",
    )


def look_at_space(place: str, free: int, total: int, reserve: int) -> Diagnosis:
    """Return whether a disk has room; sizes are in bytes."""
    text = f"{free >> 20} MiB of {total >> 20} MiB are free in {place}"
    more = "delete images, run `portside collect`, or enlarge the disk"
    if free <= reserve:
        return problem("space", f"{text}: pushes are refused", more)
    if free < total * LOW:
        return problem("space", text, more)
    return ok("space", text)


def look_at_life(path: str, begin: float, end: float, now: float) -> Diagnosis:
    """Return whether a certificate is valid, and for how long (seconds since 1970)."""
    days = int((end - now) // DAY)
    if now < begin:
        return problem("certificate", f"{path} is not valid yet", "check the clock")
    if now >= end:
        return problem("certificate", f"{path} has expired", "renew it")
    if end - now < min(RENEWAL, (end - begin) / 4):
        return problem("certificate", f"{path} expires in {days} days", "renew it")
    return ok("certificate", f"{path} is valid for {days} days")


async def look_at_state(metadata: MetadataStore, state: RegistryState) -> AsyncIterator[Diagnosis]:
    """Yield what is unusual about a registry; raises Unavailable."""
    off = "`portside read-only off` allows changes"
    if state.successor is not None:
        yield problem("state", f"was moved to {state.successor.place}", f"serve that one; {off}")
    elif state.read_only:
        yield advice("state", "is read-only", off)
    if await metadata.list_undescribed(1):
        yield problem(
            "state",
            "lists lack properties of content of an older version",
            "run `portside migrate`",
        )
