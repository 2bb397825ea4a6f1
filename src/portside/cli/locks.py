"""Locks that one registry at a time holds, on a file or a directory."""

from __future__ import annotations

import fcntl
import time

from portside.cli.errors import ServerError

LOCK_TIMEOUT = 1.0
"""Seconds to wait: the workers of a registry that was killed may still hold what it held."""

PAUSE = 0.05
"""Seconds between two attempts."""


def lock(descriptor: int, used: str) -> None:
    """Lock an open file within LOCK_TIMEOUT; raises ServerError with the message `used`."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise ServerError(used) from error
            time.sleep(PAUSE)
        else:
            return
