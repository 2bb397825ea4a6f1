"""Observers of the calls of a store: metrics, traces, or both."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

from portside.spec.errors import Unavailable

Find = Callable[..., Coroutine[Any, Any, Any | None]]
"""Finds a row, as `Database.find` does."""


class CallObserver(Protocol):
    """Observes the calls of one store, from any thread.

    What the store refuses, such as content that it does not have, is not a failure.
    """

    def finding(self, find: Find) -> Find:
        """Return a function that finds a row and is observed.

        It is apart from `during` because it is what most requests wait for.
        """
        ...

    def during(self, call: str, about: object = None) -> AbstractContextManager[None]:
        """Observe the call that is made in a block; Unavailable is its failure.

        `about` is the statement, the job, the digest or the upload that the call is about.
        """
        ...

    def failed(self, call: str, error: Unavailable) -> None:
        """Observe the failure of a call whose block has ended."""
        ...


class _Observers:
    """Several observers of the same calls."""

    def __init__(self, observers: Sequence[CallObserver]) -> None:
        self._observers = observers

    def finding(self, find: Find) -> Find:
        """Return a function that finds a row and is observed by all."""
        for observer in self._observers:
            find = observer.finding(find)
        return find

    @contextmanager
    def during(self, call: str, about: object = None) -> Iterator[None]:
        """Observe the call that is made in a block."""
        with ExitStack() as blocks:
            for observer in self._observers:
                blocks.enter_context(observer.during(call, about))
            yield

    def failed(self, call: str, error: Unavailable) -> None:
        """Observe the failure of a call whose block has ended."""
        for observer in self._observers:
            observer.failed(call, error)


def join_observers(observers: Sequence[CallObserver]) -> CallObserver:
    """Return one observer for all of these."""
    return observers[0] if len(observers) == 1 else _Observers(observers)
