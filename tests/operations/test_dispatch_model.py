"""Random sequences of events, answers, crashes, pauses and retries.

Nothing is lost, and nothing is out of order in a repository: the model knows what was recorded, and
what the receiver accepted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from portside.operations.webhooks import dispatch
from portside.operations.webhooks.dispatch import HOUR, SECOND, Terms
from portside.operations.webhooks.sending import Answer
from portside.spec.webhooks import Webhook
from portside.stores.metadata.store import Metadata
from portside.stores.webhooks import DeliveryState
from stores.conftest import Clock
from support.receivers import ACCEPTED, Scene
from support.sqlite import open_database

Result = TypeVar("Result")

WAITING, DEAD = DeliveryState
HOOK = Webhook("hook", "https://a.example/")
DAY = 24 * HOUR
TERMS = Terms(connections=2, expiry=DAY, keep=999 * DAY)
ANSWERS = [
    *(ACCEPTED, ACCEPTED, ACCEPTED),
    *(Answer(500, "500"), Answer(0, "died"), Answer(503, "503", 60), Answer(410, "410")),
]


class Machine(RuleBasedStateMachine):
    """A webhook of all events, whose receiver answers as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        self.clock = Clock()
        self.database = self.run(open_database(Path(self.folder.name), clock=self.clock))
        # Two processes deliver at once, as if their clocks differed.
        metadata = Metadata(self.database)
        self.scenes = [Scene(metadata, self.clock, TERMS, HOOK) for _ in range(2)]
        self.scene = self.scenes[0]
        self.run(self.scene.turn())
        self.recorded = 0
        # By repository, the events that were accepted, without those that were sent again.
        self.accepted = defaultdict[str, list[int]](list)
        self.ids = dict[int, str]()
        # Those that were dead once come when somebody retries them.
        self.died = set[int]()

    def teardown(self) -> None:
        """Forget all of it."""
        for scene in self.scenes:
            self.run(scene.crash())
        self.database.close()
        self.loop.close()
        self.folder.cleanup()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something to its end."""
        return self.loop.run_until_complete(work)

    @rule(repositories=st.lists(st.sampled_from("aaabc"), min_size=1, max_size=5))
    def record(self, repositories: list[str]) -> None:
        """Change something."""
        self.run(self.scene.record(*repositories))
        self.recorded += len(repositories)

    @rule(seconds=st.sampled_from([1, 4, 60, 3600, 25 * 3600, -5000]))
    def wait(self, seconds: int) -> None:
        """Let time pass, or set the clock back."""
        self.clock.now = max(SECOND, self.clock.now + seconds * SECOND)

    @rule(number=st.sampled_from([0, 0, 1]))
    def change_process(self, number: int) -> None:
        """Let one of the processes act next."""
        self.scene = self.scenes[number]

    @rule()
    def turn(self) -> None:
        """Send what is due: at most so much at once, and one of each repository."""
        self.run(self.scene.turn())
        sending = [it.delivery.event for it in self.scene.sending]
        assert len(sending) <= TERMS.connections
        assert len({event.repository for event in sending}) == len(sending)

    @precondition(lambda self: self.scene.sending)
    @rule(number=st.integers(0, 1), answer=st.sampled_from(ANSWERS))
    def answer(self, number: int, answer: Answer) -> None:
        """End an attempt."""
        delivery = self.run(self.scene.answer(number % len(self.scene.sending), answer))
        event = delivery.event
        assert self.ids.setdefault(event.id, delivery.id) == delivery.id
        if not answer.error:
            self.accept(event.repository, event.id)

    def accept(self, repository: str, number: int) -> None:
        """Note what a receiver took; what it takes for the first time is behind all others."""
        if number not in self.accepted[repository]:
            if number not in self.died:
                later = [it for it in self.accepted[repository] if it > number]
                assert set(later) <= self.died
            self.accepted[repository].append(number)

    @precondition(lambda self: self.scene.sending)
    @rule(number=st.integers(0, 1))
    def crash(self, number: int) -> None:
        """End the process after a receiver took something, and before that is recorded."""
        event = self.scene.sending[number % len(self.scene.sending)].delivery.event
        self.accept(event.repository, event.id)
        self.run(self.scene.crash())

    @rule(paused=st.booleans())
    def pause(self, *, paused: bool) -> None:
        """Stop for a while."""
        assert self.run(self.scene.store.pause_webhook("hook", paused=paused))

    @rule(named=st.booleans())
    def change_rules(self, *, named: bool) -> None:
        """Take the webhook out of the rules file, or put it there again."""
        for scene in self.scenes:
            scene.webhooks = (HOOK,) if named else ()

    @precondition(lambda self: self.died)
    @rule()
    def retry(self) -> None:
        """Send again what is dead."""
        dead = self.run(self.scene.stored(DEAD))
        self.run(self.scene.store.retry_deliveries("hook", [event.id for event in dead]))

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each event was accepted, waits, is dead, or was not read yet."""
        waiting = [event.id for event in self.run(self.scene.stored(WAITING))]
        dead = [event.id for event in self.run(self.scene.stored(DEAD))]
        self.died.update(dead)
        state = self.run(self.scene.state())
        assert (state.waiting, state.dead) == (len(waiting), len(dead))
        taken = {number for accepted in self.accepted.values() for number in accepted}
        assert {*range(1, state.position + 1)} == taken | {*waiting, *dead}
        assert state.position <= self.recorded

    def finish(self) -> None:
        """Everything comes in the end, if the receiver takes it."""
        self.change_rules(named=True)
        self.run(self.scene.store.pause_webhook("hook", paused=False))
        self.retry()
        for _ in range(3 * self.recorded + 9):
            self.turn()
            while self.scene.sending:
                self.answer(0, ACCEPTED)
            self.wait(3600)
        taken = {number for accepted in self.accepted.values() for number in accepted}
        assert taken == {*range(1, self.recorded + 1)}


def test_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are small, so that there are several."""
    monkeypatch.setattr(dispatch, "PAGE", 2)
    monkeypatch.setattr(dispatch, "MOST_WAITING", 6)

    class Finished(Machine):
        def teardown(self) -> None:
            try:
                self.finish()
            finally:
                super().teardown()

    run_state_machine_as_test(
        Finished,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
