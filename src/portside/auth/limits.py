"""Limits on guessing: failed logins are counted in the store, for all processes together."""

from __future__ import annotations

from collections.abc import Callable

from portside.spec.errors import TooManyRequests
from portside.stores.access import AccessStore, FailureLimits
from portside.stores.actors import Actor

ALL_NAMES = 10
"""How many times `failures` one client address may fail for all names together."""

LONGEST_NAME = 64
"""Characters of a name that count; no identity has a longer one."""


class LoginLimits:
    """Allows `failures` failed logins to a name from a client address within `window` seconds.

    `clock` returns microseconds since 1970. With `failures` of 0 there is no limit.
    """

    def __init__(
        self, store: AccessStore, *, failures: int, window: int, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._failures = failures
        self._window = window
        self._clock = clock

    async def check(self, address: str, name: str) -> None:
        """Refuse a login after too many failures; raises TooManyRequests."""
        if not self._failures:
            return
        since = self._clock() - self._window * 1_000_000
        for_name = await self._store.count_failures(address, name[:LONGEST_NAME], since)
        for_all = await self._store.count_failures(address, None, since)
        if for_name >= self._failures or for_all >= self._failures * ALL_NAMES:
            wait = f"too many failed logins; try again in {self._window} seconds"
            raise TooManyRequests(self._window, wait)

    async def note_failure(
        self, address: str, name: str, client: Actor, *, is_known: bool = True
    ) -> None:
        """Count a failed login from a client address.

        Its event says who the `client` was, and the name only if `is_known`.
        """
        if self._failures:
            before = self._clock() - self._window * 1_000_000
            await self._store.add_failure(
                address,
                name[:LONGEST_NAME],
                forget_before=before,
                is_known=is_known,
                limits=FailureLimits(self._failures, self._failures * ALL_NAMES),
                by=client,
            )
