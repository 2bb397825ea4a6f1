"""Every store keeps what webhooks have read, and their deliveries in order of each repository."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from portside.stores.actors import NOBODY
from portside.stores.events import Event, EventAction, NewEvent
from portside.stores.interfaces import MetadataStore
from portside.stores.webhooks import Delivery, DeliveryState, Reading, WebhookState
from stores.conftest import CheckableStore, Clock, Shelf

HOOK, OTHER = "hook", "other"
WAITING, DEAD = DeliveryState
HOUR = 3_600_000_000


async def record(metadata: MetadataStore, *repositories: str) -> list[Event]:
    """Record an event in each of the repositories; return them."""
    last = await metadata.last_event()
    for repository in repositories:
        await metadata.record_event(NewEvent(EventAction.TAG_SET, repository, "v1"), NOBODY)
    return await metadata.read_events(last, limit=99)


async def deliver(metadata: MetadataStore, *repositories: str) -> list[Event]:
    """Record events that the webhook wants, and let it read them."""
    await metadata.add_webhooks([HOOK])
    start = (await state(metadata)).position
    events = await record(metadata, *repositories)
    await metadata.read_for_webhooks([Reading(HOOK, start, events[-1].id, events)])
    return events


async def state(metadata: MetadataStore, name: str = HOOK) -> WebhookState:
    """Return what is known of a webhook."""
    return next(it for it in await metadata.list_webhooks() if it.name == name)


async def due(metadata: MetadataStore, limit: int = 99) -> list[Delivery]:
    """List what is due now, in order of the events."""
    found = await metadata.due_deliveries(HOOK, limit=limit)
    return sorted(found, key=lambda delivery: delivery.event.id)


def events_of(deliveries: Sequence[Delivery]) -> list[Event]:
    """Return what is delivered."""
    return [delivery.event for delivery in deliveries]


async def waiting(metadata: MetadataStore, which: DeliveryState = WAITING) -> list[Event]:
    """List what is in a state; its count is right."""
    page = await metadata.list_deliveries(HOOK, which, limit=99)
    known = await state(metadata)
    assert len(page.items) == (known.waiting if which is WAITING else known.dead)
    return events_of(page.items)


class TestReading:
    """What becomes deliveries."""

    async def test_a_new_webhook_begins_at_the_end(self, metadata: MetadataStore) -> None:
        """Behind the last event; a second look changes nothing."""
        await metadata.add_webhooks([HOOK])
        assert (await state(metadata)).position == 0
        last = (await record(metadata, "a", "b"))[-1]
        await metadata.add_webhooks([HOOK, OTHER])
        assert [it.position for it in await metadata.list_webhooks()] == [0, last.id]

    async def test_content(self, metadata: MetadataStore, clock: Clock) -> None:
        """A delivery has the event as it was, and an id of its own."""
        first, second = await deliver(metadata, "a", "b")
        clock.now += 5
        found = await due(metadata)
        assert events_of(found) == [first, second]
        assert found[0] == Delivery(
            HOOK, found[0].id, first, WAITING, first.time, first.time, 0, None, ""
        )
        assert len({delivery.id for delivery in found}) == 2

    async def test_a_position_is_left_once(self, shelf: Shelf) -> None:
        """Of two nodes that read the same events, one adds deliveries."""
        one, two = shelf.metadata(), shelf.metadata()
        await one.add_webhooks([HOOK])
        events = await record(one, "a", "a")
        reading = Reading(HOOK, 0, events[-1].id, events)
        await asyncio.gather(*(node.read_for_webhooks([reading]) for node in (one, two)))
        assert await waiting(one) == events
        assert (await state(one)).position == events[-1].id

    async def test_pausing(self, metadata: MetadataStore, clock: Clock) -> None:
        """A webhook that is paused reads nothing, and goes on from there."""
        await metadata.add_webhooks([HOOK])
        clock.now += 1
        assert await metadata.pause_webhook(HOOK, paused=True)
        assert not await metadata.pause_webhook("unknown", paused=True)
        events = await record(metadata, "a")
        reading = Reading(HOOK, 0, events[-1].id, events)
        await metadata.read_for_webhooks([reading])
        assert await waiting(metadata) == []
        clock.now += 1
        resumed = clock.now
        for _ in range(2):
            assert await metadata.pause_webhook(HOOK, paused=False)
            assert (await state(metadata)).resumed == resumed
            clock.now += 1
        await metadata.read_for_webhooks([reading])
        assert await waiting(metadata) == events

    async def test_trimming_waits(self, metadata: MetadataStore, clock: Clock) -> None:
        """Events that a webhook has not read stay, unless it is paused or left the rules file."""
        await metadata.note_webhooks([HOOK, OTHER])
        events = await record(metadata, "a", "a", "a", "a")
        first, last = events[0], events[-1]
        await metadata.read_for_webhooks([Reading(HOOK, 0, last.id, events)])
        assert await metadata.trim_events(clock.now, limit=9) == 0
        await metadata.read_for_webhooks([Reading(OTHER, 0, first.id, [])])
        assert await metadata.trim_events(clock.now, limit=9) == 1
        await metadata.pause_webhook(OTHER, paused=True)
        assert await metadata.trim_events(clock.now, limit=1) == 1
        await metadata.pause_webhook(OTHER, paused=False)
        assert await metadata.trim_events(clock.now, limit=1) == 0
        await metadata.note_webhooks([HOOK])
        assert await metadata.trim_events(clock.now, limit=9) == 1
        assert await waiting(metadata) == events

    async def test_leaving_the_rules_file(self, metadata: MetadataStore, clock: Clock) -> None:
        """A webhook keeps its place for a while, and is forgotten with its deliveries."""
        events = await deliver(metadata, "a", "a", "b")
        await metadata.bury_delivery((await due(metadata))[0], "no")
        clock.now += 1
        await metadata.note_webhooks([OTHER])
        left = clock.now
        assert (await state(metadata)).left_at == left
        assert await metadata.forget_webhook(HOOK, left - 1, limit=1)
        clock.now += 1
        await metadata.note_webhooks([HOOK])
        known = {it.name: (it.position, it.left_at) for it in await metadata.list_webhooks()}
        assert known == {HOOK: (events[-1].id, None), OTHER: (events[-1].id, clock.now)}
        await metadata.note_webhooks([])
        steps = 1
        while not await metadata.forget_webhook(HOOK, clock.now, limit=1):
            steps += 1
        assert steps == 4
        assert [it.name for it in await metadata.list_webhooks()] == [OTHER]
        assert (await metadata.list_deliveries(HOOK, DEAD, limit=9)).items == []

    async def test_read_only(self, metadata: CheckableStore) -> None:
        """A registry that is read-only delivers what it has recorded."""
        await metadata.add_webhooks([HOOK])
        events = await record(metadata, "a")
        await metadata.set_read_only(read_only=True)
        await metadata.read_for_webhooks([Reading(HOOK, 0, events[-1].id, events)])
        await metadata.end_delivery((await due(metadata))[0])
        assert await waiting(metadata) == []


class TestOrder:
    """The first one of each repository is due."""

    async def test_one_after_the_other(self, metadata: MetadataStore, clock: Clock) -> None:
        """What is accepted lets the next one of the repository be due."""
        a1, b1, a2, b2, none = await deliver(metadata, "a", "b", "a", "b", "")
        found = await due(metadata)
        assert events_of(found) == [a1, b1, none]
        clock.now += 1
        await metadata.end_delivery(found[0])
        assert events_of(await due(metadata)) == [b1, a2, none]
        assert (await state(metadata)).delivered == clock.now
        assert (await metadata.oldest_delivery(HOOK)) == b1.time
        # Those that are due for the longest time are first.
        assert {it.event.id for it in await due(metadata, limit=2)} == {b1.id, none.id}
        for delivery in (*found[1:], *await due(metadata)):
            await metadata.end_delivery(delivery)
        (last,) = await due(metadata)
        assert last.event == b2
        await metadata.end_delivery(last)
        assert await waiting(metadata) == []
        assert await metadata.oldest_delivery(HOOK) is None

    async def test_a_failure(self, metadata: MetadataStore, clock: Clock) -> None:
        """What is postponed holds its repository back, also what comes later."""
        a1, _, b1 = await deliver(metadata, "a", "a", "b")
        clock.now += 1
        await metadata.postpone_delivery((await due(metadata))[0], clock.now + 5, "failed")
        assert (await state(metadata)).failing == clock.now
        assert events_of(await due(metadata)) == [b1]
        await deliver(metadata, "a")
        assert events_of(await due(metadata)) == [b1]
        clock.now += 5
        again = (await due(metadata))[0]
        assert (again.event, again.attempts, again.error) == (a1, 1, "failed")
        await metadata.postpone_delivery(again, clock.now, "again")
        again = (await due(metadata))[0]
        assert (again.attempts, again.error) == (2, "again")
        assert again.failing == (await state(metadata)).failing == clock.now - 5
        await metadata.end_delivery(again)
        assert (await state(metadata)).failing is None

    async def test_a_dead_one(self, metadata: MetadataStore) -> None:
        """It is kept, and lets those behind it go on."""
        a1, a2 = await deliver(metadata, "a", "a")
        await metadata.bury_delivery((await due(metadata))[0], "refused")
        assert events_of(await due(metadata)) == [a2]
        assert (await waiting(metadata), await waiting(metadata, DEAD)) == ([a2], [a1])
        (dead,) = (await metadata.list_deliveries(HOOK, DEAD, limit=9)).items
        assert (dead.attempts, dead.error, dead.due) == (1, "refused", None)
        assert dead.failing == (await state(metadata)).failing == a1.time
        assert (await metadata.list_deliveries(HOOK, DEAD, after=a1.id, limit=9)).items == []

    async def test_a_retry_by_hand(self, metadata: MetadataStore, clock: Clock) -> None:
        """Dead ones wait again, before those that came later, under the same ids."""
        a1, a2, a3, b1 = await deliver(metadata, "a", "a", "a", "b")
        ids = {it.event.id: it.id for it in await due(metadata)}
        for _ in range(2):
            await metadata.bury_delivery((await due(metadata))[0], "refused")
        assert events_of(await due(metadata)) == [a3, b1]
        clock.now += 5
        assert await metadata.retry_deliveries(HOOK, [a1.id, a2.id, b1.id, 999]) == 2
        found = await due(metadata)
        assert events_of(found) == [a1, b1]
        assert (found[0].id, found[0].attempts, found[0].since) == (ids[a1.id], 0, clock.now)
        assert found[0].failing is None
        assert await waiting(metadata) == [a1, a2, a3, b1]

    async def test_a_retry_while_another_is_sent(self, metadata: MetadataStore) -> None:
        """Whatever becomes of the one that was sent, the repository has one that is due."""
        a1, a2, a3 = await deliver(metadata, "a", "a", "a")
        await metadata.bury_delivery((await due(metadata))[0], "refused")
        (sent,) = await due(metadata)
        await metadata.retry_deliveries(HOOK, [a1.id])
        await metadata.postpone_delivery(sent, 0, "failed")
        assert events_of(await due(metadata)) == [a1]
        await metadata.end_delivery(sent)
        assert events_of(await due(metadata)) == [a1]
        assert await waiting(metadata) == [a1, a3]
        assert sent.event == a2

    async def test_what_was_given_up_arrives(self, metadata: MetadataStore, clock: Clock) -> None:
        """A delivery that was accepted is gone, also if it was given up while it was sent."""
        await deliver(metadata, "a")
        (sent,) = await due(metadata)
        assert await metadata.bury_old_deliveries(HOOK, clock.now, limit=9) == 1
        await metadata.end_delivery(sent)
        assert await waiting(metadata) == await waiting(metadata, DEAD) == []

    async def test_too_old(self, metadata: MetadataStore, clock: Clock) -> None:
        """The first ones are given up a few at a time; what is younger is due."""
        a1, a2, b1 = await deliver(metadata, "a", "a", "b")
        await metadata.postpone_delivery((await due(metadata))[0], HOUR, "failed")
        clock.now += 9
        a3, *_ = await deliver(metadata, "a")
        before = a1.time
        assert await metadata.bury_old_deliveries(HOOK, before - 1, limit=9) == 0
        assert await metadata.bury_old_deliveries(HOOK, before, limit=2) == 2
        assert events_of(await due(metadata)) == [b1, a3]
        assert await metadata.bury_old_deliveries(HOOK, before, limit=2) == 1
        dead = (await metadata.list_deliveries(HOOK, DEAD, limit=9)).items
        assert events_of(dead) == [a1, a2, b1]
        assert [bool(it.error) for it in dead] == [True, True, True]
        assert dead[0].error == "failed"
        assert await metadata.forget_dead_deliveries(HOOK, before - 1, limit=9) == 0
        assert await metadata.forget_dead_deliveries(HOOK, before, limit=2) == 2
        assert await waiting(metadata, DEAD) == [b1]

    async def test_a_clock_that_was_set_back(self, metadata: MetadataStore, clock: Clock) -> None:
        """What would be due far in the future is due now, if it is told so."""
        a1, b1 = await deliver(metadata, "a", "b")
        found = await due(metadata)
        await metadata.postpone_delivery(found[0], clock.now + HOUR, "failed")
        await metadata.postpone_delivery(found[1], clock.now + 5, "failed")
        await metadata.hasten_deliveries(HOOK, clock.now + HOUR - 1)
        assert events_of(await due(metadata)) == [a1]
        await metadata.hasten_deliveries(HOOK, clock.now)
        assert events_of(await due(metadata)) == [a1, b1]

    async def test_nodes_that_cross(self, shelf: Shelf) -> None:
        """Reading, sending and giving up at once leave each repository one that is due."""
        nodes = [shelf.metadata() for _ in range(3)]
        await nodes[0].add_webhooks([HOOK])
        for _ in range(5):
            start = (await state(nodes[0])).position
            events = await record(nodes[0], *"aabb")
            sent = await nodes[0].due_deliveries(HOOK, limit=9)
            await asyncio.gather(
                nodes[0].read_for_webhooks([Reading(HOOK, start, events[-1].id, events)]),
                *(nodes[1].end_delivery(it) for it in sent[::2]),
                *(nodes[2].bury_delivery(it, "no") for it in sent[1::2]),
            )
        for left in range((await state(nodes[0])).waiting, 0, -1):
            found = await nodes[0].due_deliveries(HOOK, limit=9)
            firsts = {it.repository: it.id for it in reversed(await waiting(nodes[0]))}
            assert {it.event.repository: it.event.id for it in found} == firsts
            assert len(found) == len(firsts)
            await nodes[left % 3].end_delivery(found[0])
        assert await waiting(nodes[0]) == []
