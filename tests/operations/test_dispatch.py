"""Webhooks are sent what happened, in order for each repository, as their receivers can take it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from portside.operations.webhooks import dispatch
from portside.operations.webhooks.dispatch import HOUR, SECOND, Terms, pause_after
from portside.operations.webhooks.sending import Answer
from portside.spec.errors import Unavailable
from portside.spec.patterns import RepositoryPattern, TagPattern
from portside.spec.webhooks import Webhook
from portside.stores.events import Event, EventAction
from portside.stores.metadata.store import Metadata
from portside.stores.webhooks import Delivery, DeliveryState
from stores.conftest import Clock
from support.receivers import Scene
from support.sqlite import open_database

WAITING, DEAD = DeliveryState
HOOK = Webhook("hook", "https://a.example/")
OTHER = Webhook("other", "https://b.example/", repositories=(RepositoryPattern("b"),))
BROKEN = Answer(500, "answered 500")
DAY = 24 * HOUR
TERMS = Terms(connections=2, expiry=3 * DAY, keep=90 * DAY)


@pytest.fixture
async def scene(tmp_path: Path, clock: Clock) -> AsyncIterator[Scene]:
    """Begin with two webhooks that know all events."""
    with closing(await open_database(tmp_path, clock=clock)) as database:
        scene = Scene(Metadata(database), clock, TERMS, HOOK, OTHER)
        await scene.turn()
        yield scene
        await scene.dispatcher.end(0)


def repositories(events: list[Event]) -> list[str]:
    """Return where events were, in order."""
    return [event.repository for event in events]


class TestSending:
    """What is sent when."""

    async def test_in_order(self, scene: Scene, clock: Clock) -> None:
        """One at a time of a repository, others beside it, each webhook what it wants."""
        await scene.record("a", "a", "b", "c")
        await scene.record("", action=EventAction.USER_ADDED)
        sent = await scene.turn()
        assert [it.webhook.name for it in scene.sending] == ["hook", "hook", "other"]
        assert repositories(sent) == ["a", "b", "b"]
        clock.now += 1
        first = await scene.answer()
        assert repositories(await scene.turn())[2:] == ["c"]
        await scene.answer(1)
        await scene.answer()
        sent = await scene.turn()
        assert repositories(sent) == ["c", "a"]
        assert sent[1].id == first.event.id + 1
        while scene.sending:
            await scene.answer()
            await scene.turn()
        assert await scene.stored(WAITING) == await scene.stored(WAITING, "other") == []
        assert scene.counts == {("hook", "delivered"): 4, ("other", "delivered"): 1}

    async def test_tags(self, scene: Scene) -> None:
        """Of tags that it does not name, a webhook is not told; these are of v1."""
        scene.webhooks = tuple(
            hook._replace(tags=(TagPattern(tag),))
            for hook, tag in ((HOOK, "v*"), (OTHER._replace(repositories=()), "w*"))
        )
        await scene.record("a")
        await scene.turn()
        assert [it.webhook.name for it in scene.sending] == ["hook"]

    async def test_a_crash(self, scene: Scene) -> None:
        """What was being sent is sent again, under the same id, and before what is behind it."""
        await scene.record("a", "a")
        await scene.turn()
        before = scene.sending[0].delivery
        await scene.crash()
        await scene.turn()
        assert [it.delivery for it in scene.sending] == [before]

    async def test_a_failure_before_a_crash(self, scene: Scene) -> None:
        """What failed is tried at once: the receiver may have been what was restarted."""
        await scene.record("a", "c")
        await scene.turn()
        await scene.answer(0, BROKEN)
        await scene.answer(0, BROKEN)
        assert await scene.turn() == []
        await scene.crash()
        assert repositories(await scene.turn()) == ["a", "c"]

    async def test_an_end(self, scene: Scene) -> None:
        """What is being sent may end, and is recorded."""
        await scene.record("a")
        await scene.turn()
        scene.sending[0].answered.set_result(Answer(200))
        await scene.dispatcher.end(60)
        assert await scene.stored(WAITING) == []

    async def test_a_store_that_fails(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was accepted is not sent again while that cannot be recorded."""
        monkeypatch.setattr(dispatch, "RECORD_PAUSE", 0)
        await scene.record("a", "a")
        await scene.turn()
        end, failures = scene.store.end_delivery, [Unavailable("gone"), ZeroDivisionError()]

        async def fail(delivery: Delivery) -> None:
            if failures:
                raise failures.pop()
            await end(delivery)

        monkeypatch.setattr(scene.store, "end_delivery", fail)
        await scene.answer()
        assert failures == []
        assert len(await scene.turn()) == 1
        assert scene.counts == {("hook", "delivered"): 1}

    async def test_a_mistake(self, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
        """An error that nobody expected is a failed attempt, and in the log."""
        await scene.record("a")
        await scene.turn()
        scene.sending[0].answered.set_exception(ZeroDivisionError("secret"))
        await scene.sending.pop().task
        (failed,) = (await scene.store.list_deliveries("hook", WAITING, limit=9)).items
        assert (failed.attempts, "log" in failed.error) == (1, True)
        assert "ZeroDivisionError" in caplog.text

    async def test_rules_that_change(self, scene: Scene, clock: Clock) -> None:
        """What is being sent ends; a changed receiver is tried at once; a removed one keeps all."""
        await scene.record("a", "a", "a")
        await scene.turn()
        await scene.answer(0, BROKEN)
        assert await scene.turn() == []
        changed = HOOK._replace(url="https://c.example/")
        scene.webhooks = (changed,)
        assert repositories(await scene.turn()) == ["a"]
        assert scene.sending[0].webhook is changed
        scene.webhooks = (HOOK,)
        assert len(await scene.turn()) == 1
        scene.webhooks = ()
        await scene.turn()
        await scene.answer()
        assert await scene.turn() == []
        assert ((await scene.state()).left_at, (await scene.state()).waiting) == (clock.now, 2)
        await scene.record("a")
        scene.webhooks = (HOOK, OTHER)
        while await scene.turn():
            await scene.answer()
        assert scene.counts["hook", "delivered"] == 4

    async def test_a_pause(self, scene: Scene, clock: Clock) -> None:
        """A month without a delivery: nothing is given up, and everything is sent afterwards."""
        scene.webhooks = (HOOK,)
        await scene.record("a", "b")
        await scene.turn()
        await scene.answer(1)
        await scene.answer(0, BROKEN)
        await scene.store.pause_webhook("hook", paused=True)
        clock.now += DAY
        await scene.record("c")
        clock.now += 29 * DAY
        assert await scene.turn() == []
        await scene.store.pause_webhook("hook", paused=False)
        clock.now += 60 * SECOND
        assert repositories(await scene.turn()) == ["a"]
        await scene.answer(0, BROKEN)
        clock.now += 2 * SECOND
        while await scene.turn():
            await scene.answer()
        assert scene.counts == {("hook", "delivered"): 3, ("hook", "failed"): 2}


class TestFailures:
    """What a receiver costs that fails."""

    async def test_one_repository(self, scene: Scene, clock: Clock) -> None:
        """It is tried after pauses that double; others go on, after the first success at once."""
        await scene.record("a", "b", "c", "d")
        await scene.turn()
        await scene.answer(0, BROKEN)
        await scene.answer(0)
        await scene.answer(0)
        assert repositories(await scene.turn()) == ["c", "d"]
        await scene.answer(0)
        await scene.answer(0)
        for pause in (1, 2, 4):
            clock.now += pause * SECOND - 1
            assert await scene.turn() == []
            clock.now += 1
            assert repositories(await scene.turn()) == ["a"]
            await scene.answer(0, BROKEN)
        assert scene.counts["hook", "failed"] == 4

    async def test_a_dead_receiver(self, scene: Scene, clock: Clock) -> None:
        """One request after each pause, however many repositories wait; then all is sent."""
        await scene.record(*"abcabcabc")
        scene.webhooks = (HOOK,)
        await scene.turn()
        await scene.answer(0, BROKEN)
        await scene.answer(0, BROKEN)
        began, attempts = clock.now, 0
        while attempts < 9:
            clock.now += SECOND
            if await scene.turn():
                assert len(scene.sending) == 1
                await scene.answer(0, BROKEN)
                attempts += 1
        # Of the two that failed at once, one counts.
        assert clock.now == began + sum(2**number for number in range(attempts)) * SECOND
        clock.now += 2**attempts * SECOND
        delivered = 0
        while await scene.turn():
            await scene.answer()
            delivered += 1
        assert delivered == 9

    async def test_a_receiver_that_stalls(self, scene: Scene) -> None:
        """It keeps its own connections busy, and no other webhook waits."""
        await scene.record("a", "b", "c")
        await scene.turn()
        assert [it.webhook.name for it in scene.sending] == ["hook", "hook", "other"]
        await scene.answer(2)
        await scene.record("b", "b")
        await scene.turn()
        await scene.answer(2)
        await scene.turn()
        await scene.answer(2)
        assert scene.counts == {("other", "delivered"): 3}

    async def test_retry_after(self, scene: Scene, clock: Clock) -> None:
        """A receiver that asks for a pause gets it, but not for longer than an hour."""
        await scene.record("a", "c")
        await scene.turn()
        await scene.answer(0, Answer(429, "answered 429", 100))
        await scene.answer(0)
        await scene.record("c")
        await scene.turn()
        await scene.answer(0, Answer(503, "answered 503", 10**9))
        clock.now += 100 * SECOND
        assert await scene.turn() == []
        clock.now += HOUR
        assert len(await scene.turn()) == 1

    async def test_gone(self, scene: Scene) -> None:
        """A receiver that wants no more of it is not asked again; the next one is sent."""
        await scene.record("a", "a")
        await scene.turn()
        gone = await scene.answer(0, Answer(410, "answered 410"))
        assert len(await scene.turn()) == 1
        assert await scene.stored(DEAD) == [gone.event]
        assert scene.counts == {("hook", "dead"): 1}

    async def test_too_long(self, scene: Scene, clock: Clock) -> None:
        """What has failed for days is dead, and lets the next one go on."""
        await scene.record("a", "a", "c")
        await scene.turn()
        first = await scene.answer(0, BROKEN)
        await scene.answer()
        for wait in (TERMS.expiry - 1, HOUR):
            clock.now += wait
            assert repositories(await scene.turn()) == ["a"]
            await scene.answer(0, BROKEN)
        assert await scene.stored(DEAD) == [first.event]
        clock.now += 2 * SECOND
        (second,) = await scene.turn()
        assert second.id > first.event.id

    async def test_an_outage_of_days(
        self, scene: Scene, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All that waits for so long is dead, also what was never tried; then it is forgotten."""
        monkeypatch.setattr(dispatch, "PAGE", 2)
        await scene.record(*(f"r{number}" for number in range(5)))
        await scene.turn()
        await scene.answer(0, BROKEN)
        await scene.answer(0, BROKEN)
        clock.now += TERMS.expiry - SECOND
        await scene.record("late")
        await scene.turn()
        assert len(await scene.stored(WAITING)) == 6
        await scene.answer(0, BROKEN)
        clock.now += 60 * SECOND
        # A page in each round.
        for _ in range(3):
            await scene.turn()
        assert repositories(await scene.stored(WAITING)) == ["late"]
        assert (await scene.state()).dead == scene.counts["hook", "dead"] == 5
        clock.now += TERMS.keep
        for _ in range(4):
            await scene.turn()
        assert (await scene.state()).dead == 0

    async def test_a_registry_that_did_not_run(self, scene: Scene, clock: Clock) -> None:
        """A receiver that failed days ago, before the registry ended, is tried again first."""
        await scene.record("a", "a")
        await scene.turn()
        await scene.answer(0, BROKEN)
        await scene.crash()
        clock.now += 2 * TERMS.expiry
        while await scene.turn():
            await scene.answer()
        assert (await scene.state()).dead == 0

    async def test_no_room(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Beyond a number of deliveries, events wait where they are, and none is forgotten."""
        monkeypatch.setattr(dispatch, "MOST_WAITING", 3)
        monkeypatch.setattr(dispatch, "PAGE", 2)
        await scene.record(*"aabbcc")
        await scene.turn()
        assert (await scene.state()).waiting == 4
        assert "4 deliveries wait" in caplog.text
        while await scene.turn():
            await scene.answer()
        assert scene.counts["hook", "delivered"] == 6

    async def test_a_clock_that_is_set(self, scene: Scene, clock: Clock) -> None:
        """A clock that was a year ahead for a while delays nothing by more than a minute."""
        clock.now += 365 * DAY
        await scene.record("a")
        await scene.turn()
        await scene.answer(0, BROKEN)
        clock.now -= 365 * DAY
        clock.now += 60 * SECOND
        assert repositories(await scene.turn()) == ["a"]


def test_pauses() -> None:
    """They double up to an hour; half of each is drawn."""
    assert [pause_after(n, 1.0) // SECOND for n in (1, 2, 3, 12, 13, 99)] == [
        *(1, 2, 4, 2048, 3600, 3600)
    ]
    assert pause_after(3, 0.0) == 2 * SECOND
    assert pause_after(1, 0.0, 7) == 7 * SECOND
