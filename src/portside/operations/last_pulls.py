"""When manifests were last pulled: noted in memory, and stored together now and then."""

from __future__ import annotations

from collections.abc import Callable

from portside.spec.digests import Digest
from portside.spec.names import RepositoryName
from portside.stores.interfaces import LastPull, PullStore

COARSENESS = 3600 * 1_000_000
"""Microseconds for which a manifest that is pulled again is not noted again."""

STORE_INTERVAL = 10
"""Seconds within which a process stores the pulls that it has noted; a crash loses those."""

WRITE_TIME = 2
"""Seconds that storing them may take."""

STORED_WITHIN = STORE_INTERVAL + WRITE_TIME
"""Seconds after which all processes have stored the pulls that they had noted."""

LATENESS = COARSENESS + STORED_WITHIN * 1_000_000
"""Microseconds by which the last pull may be later than the stored one."""

MOST = 50_000
"""Manifests that are remembered, with about 400 bytes each; when there are more, all are forgotten
but those that have to be stored. They are noted again then."""


class LastPulls:
    """The pulls that a process has seen. A pull costs no write; a crash loses a few of them."""

    def __init__(self, store: PullStore, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._noted: dict[tuple[str, str], int] = {}
        self._unstored: dict[tuple[str, str], int] = {}

    def note(self, repository: RepositoryName, digest: str) -> None:
        """Note that a manifest is being pulled."""
        time = self._clock()
        key = (repository, digest)
        if time - self._noted.get(key, -COARSENESS) < COARSENESS:
            return
        if len(self._noted) >= MOST:
            self._noted.clear()
        self._noted[key] = time
        if len(self._unstored) < MOST or key in self._unstored:
            self._unstored[key] = time

    async def store(self) -> None:
        """Store what was noted since the last time; what cannot be stored is kept for the next."""
        unstored, self._unstored = self._unstored, {}
        if not unstored:
            return
        # In one order, so that processes that store the same pulls do not wait for each other.
        pulls = [
            LastPull(RepositoryName(repository), Digest(digest), time)
            for (repository, digest), time in sorted(unstored.items())
        ]
        try:
            await self._store.note_pulls(pulls)
        except BaseException:
            self._unstored = {**unstored, **self._unstored}
            raise
