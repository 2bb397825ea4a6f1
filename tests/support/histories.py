"""Histories of calls by many clients at once, and the search for an order that explains them.

A history is *linearizable* if each call can be thought to have happened at one moment between its
start and its end, so that the answers are those of a registry that does one thing at a time
(Herlihy and Wing, 1990). The search is Wing and Gong's, with Lowe's memory of what was tried.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)


class Call(NamedTuple):
    """A call, its answer, and when; an `answer` of None means that the outcome is unknown."""

    started: float
    ended: float
    request: tuple[str, ...]
    answer: Hashable


class History:
    """The calls of all clients."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._lock = threading.Lock()

    def note(self, request: tuple[str, ...], ask: Callable[[], Hashable]) -> Hashable:
        """Make a call, keep it, and return its answer."""
        started = time.monotonic()
        answer = ask()
        # A call of unknown outcome may still happen at any later moment.
        ended = time.monotonic() if answer is not None else float("inf")
        with self._lock:
            self.calls.append(Call(started, ended, request, answer))
        return answer


class Sequential(Generic[State]):
    """What a registry that does one thing at a time would do.

    `step` gives the state after a request, and the answer to it.
    """

    def __init__(
        self, initial: State, step: Callable[[State, tuple[str, ...]], tuple[State, Hashable]]
    ) -> None:
        self._initial = initial
        self._step = step

    def explains(self, calls: list[Call]) -> bool:
        """Look for an order of the calls in which every answer is right."""
        ordered = sorted(calls, key=lambda call: call.started)
        tried: set[tuple[int, State]] = set()
        known = [number for number, call in enumerate(ordered) if call.answer is not None]
        everything = sum(1 << number for number in known)
        waiting = [(0, self._initial)]
        while waiting:
            done, state = waiting.pop()
            if done & everything == everything:
                return True
            if (done, state) in tried:
                continue
            tried.add((done, state))
            waiting += self._next(ordered, done, state)
        return False

    def _next(self, ordered: list[Call], done: int, state: State) -> list[tuple[int, State]]:
        """List where one more call leads, of those before which no other call has ended."""
        left = [number for number in range(len(ordered)) if not done >> number & 1]
        first_end = min(ordered[number].ended for number in left)
        found = []
        for number in left:
            call = ordered[number]
            if call.started > first_end:
                break
            after, answer = self._step(state, call.request)
            if call.answer in {None, answer}:
                found.append((done | 1 << number, after))
        return found
