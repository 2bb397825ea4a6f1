"""File descriptors: how many this process may open, and how many of them connections may take."""

from __future__ import annotations

import logging
import os
import resource

from portside.cli.errors import ServerError

log = logging.getLogger(__name__)

HERE = "/proc/self/fd"
"""The descriptors of this process."""

MOST = 1 << 20
"""Descriptors that a process can have on any Linux (fs.nr_open), however high the limit is."""

FILES = 64
"""Descriptors for the database, the logs and the like."""

LEAST_BACKLOG = 128
"""Connections that Granian lets wait at least."""

MARGIN = 32
"""Descriptors of the reserve beside those of the connections that wait."""


class CannotWatch(Exception):
    """The system does not say what is needed to watch connections."""


class Descriptors:
    """The limit of descriptors, and a reserve for connections that arrive all at once.

    Granian cannot let a TLS handshake end while it has connections to accept and no descriptor for
    them. So the limit is below what the system allows by the number of connections that can wait,
    and is raised for as long as they are being accepted.
    """

    def __init__(self, backlog: int) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._hard = hard
        self.most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
        self.wanted_backlog = max(LEAST_BACKLOG, backlog)
        self.backlog = max(LEAST_BACKLOG, min(backlog, self.most // 4))
        self._reserve = self.backlog + MARGIN
        self._limit = 0

    @property
    def usual(self) -> int:
        """The limit while there is no rush."""
        return self.most - self._reserve

    def connections(self, wanted: int) -> int:
        """Return how many connections fit; each may need a file as well."""
        return max(1, min(wanted, (self.usual - FILES) // 2))

    def report(self, wanted: int) -> None:
        """Log the limit once it is raised, and how many connections fit; warn if too few do."""
        fitting = self.connections(wanted)
        hard = "unlimited" if self._hard == resource.RLIM_INFINITY else str(self._hard)
        limit = f"RLIMIT_NOFILE: soft {self._limit}, hard {hard}"
        if fitting < wanted:
            # As `usual` and `connections` count, with the backlog that was asked for.
            needed = 2 * wanted + FILES + self.wanted_backlog + MARGIN
            log.warning(
                "%s: too low for %d connections per worker (max-connections); %d are accepted;"
                " raise the hard limit to %d or more (LimitNOFILE= of systemd, --ulimit nofile= of"
                " containers)",
                limit,
                wanted,
                fitting,
                needed,
            )
        else:
            log.info("%s; up to %d connections per worker", limit, fitting)

    def raise_limit(self) -> None:
        """Raise the limit of this process and of those that it starts.

        Raises ServerError if the system does not allow enough.
        """
        least = LEAST_BACKLOG + MARGIN + 2 * FILES
        if self.usual < FILES:
            low = f"this process may open only {self.most} files, and {least} are the least"
            raise ServerError(f"{low}; raise the limit (LimitNOFILE= of systemd, ulimit -n)")
        self._set(self.usual)

    def is_rush(self, opened: int) -> bool:
        """Whether descriptors run out, or did a moment ago."""
        return opened >= self.usual - (2 if self._limit == self.most else 1) * FILES

    def release_reserve(self) -> None:
        """Make the reserve usable."""
        self._set(self.most)

    def count(self) -> int:
        """Return how many descriptors are open; raises CannotWatch where unknown."""
        # Linux 6.2 and later have the number there; before it was 0.
        try:
            return os.stat(HERE).st_size or len(os.listdir(HERE))
        except FileNotFoundError as error:
            raise CannotWatch(f"there is no {HERE}") from error

    def list(self) -> list[int]:
        """Return the open descriptors."""
        return [int(name) for name in os.listdir(HERE)]

    def _set(self, limit: int) -> None:
        if limit != self._limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, self._hard))
            self._limit = limit
