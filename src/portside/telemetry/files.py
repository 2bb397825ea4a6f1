"""The files in which the workers of a node write their metrics, and the first process reads them.

They are the library's: it writes those of a process into shared memory, and adds up the files of
all processes when it is asked. What a worker had counted stays when it ends (`ended`), so that no
counter goes backwards.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where the library looks for the directory, when it is imported."""

MEMORY = Path("/dev/shm")  # noqa: S108  # a private directory is made in it
"""A file system in memory: a disk that is full would kill a process that writes to a mapped file,
and there is nothing to keep."""

PREFIX = "portside-metrics-"

_LOCK = "lock"


class MetricFiles:
    """A private directory, made anew; its owner and the processes that it forks hold a lock in it.

    What a killed registry has left is removed by the next one of the same user.
    """

    def __init__(self) -> None:
        above = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
        _remove_abandoned(above)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.environ[VARIABLE] = str(self.path)

    def close(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(above: Path) -> None:
    """Remove the directories that no process holds any more; those of other users stay."""
    for path in above.glob(f"{PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(descriptor)
