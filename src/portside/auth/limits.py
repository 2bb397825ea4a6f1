"""Limits on guessing: failed attempts are counted where every process sees them."""

from __future__ import annotations

from collections.abc import Callable

from portside.spec.errors import TooManyRequests
from portside.stores.access import AccessStore

ALL_NAMES = 10
"""From one source, as many times the failures are accepted for all names together."""

LONGEST_NAME = 64
"""Characters of a name that are kept; no identity has a longer one."""


class LoginLimits:
    """At most `failures` failed attempts for a name from a source within `window` seconds.

    `clock` gives microseconds since 1970. No failures at all are counted if `failures` is 0.
    """

    def __init__(
        self, store: AccessStore, *, failures: int, window: int, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._failures = failures
        self._window = window
        self._clock = clock

    async def check(self, source: str, name: str) -> None:
        """Refuse an attempt where there were too many; raises TooManyRequests."""
        if not self._failures:
            return
        since = self._clock() - self._window * 1_000_000
        for_name = await self._store.count_failures(source, name[:LONGEST_NAME], since)
        for_all = await self._store.count_failures(source, None, since)
        if for_name >= self._failures or for_all >= self._failures * ALL_NAMES:
            wait = f"too many failed attempts to log in; wait {self._window} seconds"
            raise TooManyRequests(self._window, wait)

    async def note_failure(self, source: str, name: str) -> None:
        """Count a failed attempt."""
        if self._failures:
            before = self._clock() - self._window * 1_000_000
            await self._store.add_failure(source, name[:LONGEST_NAME], forget_before=before)
