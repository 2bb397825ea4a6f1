"""A dispatcher of webhooks whose receivers are the test itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from portside.operations.webhooks.dispatch import DeliveryStore, Dispatcher, Terms
from portside.operations.webhooks.sending import Answer
from portside.spec.webhooks import Webhook
from portside.stores.actors import NOBODY
from portside.stores.events import Event, EventAction, NewEvent
from portside.stores.webhooks import Delivery, DeliveryState, WebhookState

ACCEPTED = Answer(204)


class Attempt(NamedTuple):
    """What is being sent; the test answers it."""

    webhook: Webhook
    delivery: Delivery
    answered: asyncio.Future[Answer]
    task: asyncio.Task[None]


class Scene:
    """A store with a dispatcher, which the test turns and whose requests it answers."""

    def __init__(
        self, store: DeliveryStore, clock: Callable[[], int], terms: Terms, *webhooks: Webhook
    ) -> None:
        self.store = store
        self.webhooks = webhooks
        self.sending: list[Attempt] = []
        self.counts = Counter[tuple[str, str]]()
        self._clock = clock
        self._terms = terms
        self.dispatcher = self._make()

    def _make(self) -> Dispatcher:
        return Dispatcher(
            self.store,
            self._send,
            terms=self._terms,
            clock=self._clock,
            draw=lambda: 1.0,
            count=self._count,
        )

    def _count(self, webhook: str, outcome: str, number: int = 1) -> None:
        self.counts[webhook, outcome] += number

    async def _send(self, webhook: Webhook, delivery: Delivery) -> Answer:
        task = asyncio.current_task()
        assert task is not None
        attempt = Attempt(webhook, delivery, asyncio.get_running_loop().create_future(), task)
        self.sending.append(attempt)
        return await attempt.answered

    async def crash(self) -> None:
        """Lose everything that is not stored, and begin with another process."""
        self.sending.clear()
        await self.dispatcher.end(0)
        self.dispatcher = self._make()

    async def record(self, *repositories: str, action: EventAction = EventAction.TAG_SET) -> None:
        """Record an event in each of the repositories."""
        for repository in repositories:
            await self.store.record_event(NewEvent(action, repository, "v1"), NOBODY)

    async def turn(self) -> list[Event]:
        """Do a round, and return what is being sent then."""
        while await self.dispatcher.round(self.webhooks):
            pass
        await asyncio.sleep(0)
        return [attempt.delivery.event for attempt in self.sending]

    async def answer(self, number: int = 0, answer: Answer = ACCEPTED) -> Delivery:
        """Answer what is being sent, and wait until that is recorded; return what it was."""
        attempt = self.sending.pop(number)
        attempt.answered.set_result(answer)
        await attempt.task
        return attempt.delivery

    async def state(self, name: str = "hook") -> WebhookState:
        """Return what is known of a webhook."""
        return next(it for it in await self.store.list_webhooks() if it.name == name)

    async def stored(self, which: DeliveryState, name: str = "hook") -> list[Event]:
        """List what is waiting, or dead."""
        page = await self.store.list_deliveries(name, which, limit=9999)
        return [delivery.event for delivery in page.items]
