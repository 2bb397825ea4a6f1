"""Deliver events to webhooks: at least once, and in order for each repository.

A round reads the events that are new, adds a delivery for each webhook that wants one, and starts
to send what is due. One process of the registry does it at a time; what it was sending when it
ended is sent again by the next one, under the same id.

An attempt that fails holds back its repository, and the receiver as a whole: while it fails, one
delivery at a time is tried, after pauses that grow up to an hour, so that a receiver that is dead
costs little, however many repositories wait for it. The first success ends that. A receiver that
fails for one repository only is busy with the others in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import NamedTuple, Protocol

from portside.operations.webhooks.sending import Answer
from portside.spec.errors import RegistryError
from portside.spec.webhooks import Webhook
from portside.stores.events import EventStore
from portside.stores.webhooks import Delivery, Reading, WebhookState, WebhookStore

PAGE = 200
"""Events that are read, and deliveries that are changed, in one transaction: some milliseconds."""

MOST_WAITING = 100_000
"""Deliveries of a webhook that wait at once; events behind them are read when there is room."""

SECOND = 1_000_000
"""Microseconds."""

HOUR = 3600 * SECOND
"""The longest pause between two attempts, also if a receiver asks for a longer one."""

CHORES_INTERVAL = 60 * SECOND
"""How often old deliveries are given up or forgotten."""

RECORD_PAUSE = 1.0
"""Seconds after which an outcome that could not be recorded is recorded again."""

GONE = 410
"""The receiver wants no more of it (RFC 9110, section 15.5.11)."""

log = logging.getLogger(__name__)

Send = Callable[[Webhook, Delivery], Awaitable[Answer]]
"""Makes one attempt; it raises nothing but for a mistake in it."""


class Count(Protocol):
    """Counts deliveries of a webhook by what came of them: `delivered`, `failed` or `dead`."""

    def __call__(self, webhook: str, outcome: str, number: int = 1) -> None:
        """Count so many."""
        ...


class Terms(NamedTuple):
    """How deliveries are made; times are in microseconds.

    Each webhook has so many `connections` at once. What fails for as long as `expiry` is dead, and
    what is dead is kept for as long as `keep`, like a webhook that left the rules file.
    """

    connections: int
    expiry: int
    keep: int


class DeliveryStore(WebhookStore, EventStore, Protocol):
    """The events and the webhooks."""


def pause_after(failures: int, draw: float, asked: int | None = None) -> int:
    """Return how long to wait after so many failures in a row: seconds first, an hour at most.

    `draw`, from 0 to 1, spreads it. A receiver may have `asked` for a longer one, in seconds.
    """
    longest = min(HOUR, SECOND << min(failures - 1, 12))
    pause = int(longest * (0.5 + draw / 2))
    return max(pause, min(HOUR, (asked or 0) * SECOND))


class _Receiver:
    """A receiver, as this process has seen it since it began to send."""

    def __init__(self, webhook: Webhook, busy: set[str] | None = None) -> None:
        self.webhook = webhook
        # The repositories of which something is being sent.
        self.busy = set() if busy is None else busy
        # Whether nothing was tried: what failed before is due now, and not after its pause.
        self.is_new = True
        self.failures = 0
        # Attempts that began before the last change say nothing more about the receiver.
        self.generation = 0
        self._failed = 0
        self._pause = 0

    def room(self, now: int, connections: int) -> int:
        """Return how many attempts may begin."""
        if self.failures:
            # A clock that was set back ends the pause.
            connections = 0 if 0 <= now - self._failed < self._pause else 1
        return max(0, connections - len(self.busy))

    def fail(self, generation: int, now: int, pause: Callable[[int], int]) -> None:
        """Note that an attempt failed that began in a generation."""
        if generation == self.generation:
            self.generation += 1
            self.failures += 1
            self._failed = now
            self._pause = pause(self.failures)

    def succeed(self) -> None:
        """Note that an attempt succeeded."""
        self.generation += self.failures > 0
        self.failures = 0


class Dispatcher:
    """Delivers to the webhooks that the rules name now; `clock` returns microseconds since 1970.

    `draw` returns numbers from 0 to 1, by which pauses differ.
    """

    def __init__(
        self,
        store: DeliveryStore,
        send: Send,
        *,
        terms: Terms,
        clock: Callable[[], int],
        draw: Callable[[], float],
        count: Count,
    ) -> None:
        self._store = store
        self._send = send
        self._terms = terms
        self._clock = clock
        self._draw = draw
        self._count = count
        self._receivers: dict[str, _Receiver] = {}
        self._attempts: set[asyncio.Task[None]] = set()
        self._full: set[str] = set()
        self._given_up = Counter[str]()
        self._resumed: dict[str, int] = {}
        self._chores_done = 0
        self.news = asyncio.Event()
        """Is set when an attempt has ended, so that another round can begin."""

    async def round(self, webhooks: Collection[Webhook]) -> bool:
        """Read events, and start what is due; return whether there may be more to read at once."""
        named = {webhook.name: webhook for webhook in webhooks}
        states = await self._states(named)
        more = await self._read(named, states)
        if not 0 <= self._clock() - self._chores_done < CHORES_INTERVAL and (
            await self._do_chores(states)
        ):
            self._chores_done = self._clock()
        for name, webhook in named.items():
            receiver = self._receiver(webhook)
            state = states.get(name)
            if state is not None and not state.paused:
                await self._start(receiver)
        return more

    async def end(self, patience: float) -> None:
        """Begin nothing more, and wait for what is being sent; after so many seconds, stop it."""
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=patience)
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)

    async def _states(self, named: Mapping[str, Webhook]) -> dict[str, WebhookState]:
        states = await self._store.list_webhooks()
        known = {state.name for state in states if state.left_at is None}
        if known != named.keys():
            for name in sorted(known - named.keys()):
                log.warning("webhook %s: it is not in the rules file; its position is kept", name)
            await self._store.note_webhooks(list(named))
            states = await self._store.list_webhooks()
        self._resumed = {state.name: state.resumed for state in states}
        return {state.name: state for state in states}

    async def _read(self, named: Mapping[str, Webhook], states: Mapping[str, WebhookState]) -> bool:
        """Add deliveries of a page of events; return whether there may be another page."""
        positions = defaultdict[int, list[Webhook]](list)
        for name, webhook in named.items():
            state = states.get(name)
            if state is not None and not state.paused and self._has_room(state):
                positions[state.position].append(webhook)
        more = False
        for position, readers in positions.items():
            events = await self._store.read_events(position, limit=PAGE)
            if events:
                stop = events[-1].id
                await self._store.read_for_webhooks(
                    [
                        Reading(
                            webhook.name,
                            position,
                            stop,
                            [
                                it
                                for it in events
                                if webhook.wants(it.action, it.repository, it.tags)
                            ],
                        )
                        for webhook in readers
                    ]
                )
                more = more or len(events) == PAGE
        return more

    def _has_room(self, state: WebhookState) -> bool:
        """Whether more can wait; the log says once that it cannot."""
        if state.waiting < MOST_WAITING:
            self._full.discard(state.name)
            return True
        if state.name not in self._full:
            self._full.add(state.name)
            log.warning(
                "webhook %s: %d deliveries wait; it reads more events when there are fewer",
                state.name,
                state.waiting,
            )
        return False

    def _receiver(self, webhook: Webhook) -> _Receiver:
        """Return what is known of a receiver; one that was changed is tried anew."""
        known = self._receivers.setdefault(webhook.name, _Receiver(webhook))
        if known.webhook != webhook:
            known = self._receivers[webhook.name] = _Receiver(webhook, known.busy)
        return known

    async def _start(self, receiver: _Receiver) -> None:
        """Start what is due, but nothing in a repository of which something is being sent."""
        name = receiver.webhook.name
        if receiver.is_new:
            await self._store.hasten_deliveries(name, self._clock())
            receiver.is_new = False
        room = receiver.room(self._clock(), self._terms.connections)
        if not room:
            return
        # Those that are being sent are due as well.
        for delivery in await self._store.due_deliveries(name, limit=room + len(receiver.busy)):
            repository = delivery.event.repository
            if room and repository not in receiver.busy:
                room -= 1
                receiver.busy.add(repository)
                attempt = asyncio.ensure_future(self._attempt(receiver, delivery))
                self._attempts.add(attempt)
                attempt.add_done_callback(self._attempts.discard)

    async def _attempt(self, receiver: _Receiver, delivery: Delivery) -> None:
        generation = receiver.generation
        try:
            try:
                answer = await self._send(receiver.webhook, delivery)
            except Exception:
                log.exception("webhook %s: an attempt failed", delivery.webhook)
                answer = Answer(0, "an error of the registry; its log has more")
            while not await self._is_recorded(  # noqa: ASYNC110  # no event tells of a store
                receiver, delivery, answer, generation
            ):
                # If it were due again at once, what was accepted would be sent again and again.
                await asyncio.sleep(RECORD_PAUSE)
        finally:
            receiver.busy.discard(delivery.event.repository)
            self.news.set()

    async def _is_recorded(
        self, receiver: _Receiver, delivery: Delivery, answer: Answer, generation: int
    ) -> bool:
        try:
            if answer.error:
                await self._note_failure(receiver, delivery, answer, generation)
            else:
                await self._store.end_delivery(delivery)
                self._count(delivery.webhook, "delivered")
                receiver.succeed()
        except RegistryError as error:
            log.warning("webhook %s: cannot record an attempt: %s", delivery.webhook, error)
            return False
        except Exception:
            log.exception("webhook %s: recording an attempt failed", delivery.webhook)
            return False
        return True

    async def _note_failure(
        self, receiver: _Receiver, delivery: Delivery, answer: Answer, generation: int
    ) -> None:
        now, name = self._clock(), delivery.webhook
        if answer.status == GONE or self._is_over(delivery, now):
            await self._store.bury_delivery(delivery, answer.error)
            self._count(name, "dead")
            log.warning("webhook %s: event %d is dead: %s", name, delivery.event.id, answer.error)
        else:
            pause = pause_after(delivery.attempts + 1, self._draw(), answer.retry_after)
            await self._store.postpone_delivery(delivery, now + pause, answer.error)
            self._count(name, "failed")
        if answer.status != GONE:
            if not receiver.failures:
                log.warning("webhook %s: %s", name, answer.error)
            receiver.fail(
                generation, now, lambda count: pause_after(count, self._draw(), answer.retry_after)
            )

    def _is_over(self, delivery: Delivery, now: int) -> bool:
        """Whether a delivery has failed for too long; a pause does not count."""
        resumed = self._resumed.get(delivery.webhook, 0)
        return delivery.failing is not None and (
            now - max(delivery.failing, resumed) >= self._terms.expiry
        )

    async def _do_chores(self, states: Mapping[str, WebhookState]) -> bool:
        """Mark as dead what waits for a receiver that fails for too long, and forget what is old.

        Return whether nothing is left to do: a round does a page of each.
        """
        now, terms = self._clock(), self._terms
        is_done = True
        for name, state in states.items():
            # A clock that was set back leaves what is due in a distant future.
            await self._store.hasten_deliveries(name, now + HOUR)
            if self._has_failed_for_long(state, now) and not state.paused:
                is_done &= await self._give_up(name, now - terms.expiry) < PAGE
            if state.dead:
                before = now - terms.keep
                forgotten = await self._store.forget_dead_deliveries(name, before, limit=PAGE)
                is_done &= forgotten < PAGE
            if state.left_at is not None:
                is_done &= await self._store.forget_webhook(name, now - terms.keep, limit=PAGE)
        return is_done

    def _has_failed_for_long(self, state: WebhookState, now: int) -> bool:
        """Whether no attempt has succeeded for too long; a pause does not count.

        It has to fail now as well: a registry that was not running tries it again first.
        """
        receiver = self._receivers.get(state.name)
        return (
            receiver is not None
            and receiver.failures > 0
            and state.failing is not None
            and now - max(state.failing, state.resumed) >= self._terms.expiry
        )

    async def _give_up(self, name: str, before: int) -> int:
        """Mark deliveries as dead that wait since a time or longer; return how many."""
        given_up = await self._store.bury_old_deliveries(name, before, limit=PAGE)
        self._count(name, "dead", given_up)
        self._given_up[name] += given_up
        if given_up < PAGE and (number := self._given_up.pop(name)):
            log.warning(
                "webhook %s: %d deliveries are dead: the receiver has failed for too long",
                name,
                number,
            )
        return given_up
