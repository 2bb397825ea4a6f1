"""Where tests and their servers keep what a run throws away: in memory, which nobody waits for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108
"""Where Linux keeps files in memory."""

ENOUGH = 4 << 30
"""Bytes that have to be free there; machines and containers can have far less."""


def scratch() -> Path:
    """Return a directory in memory if there is enough of it, else that of temporary files.

    Tests run programs from there as well.
    """
    if MEMORY.is_dir():
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize >= ENOUGH and not found.f_flag & os.ST_NOEXEC:
            return MEMORY
    return Path(tempfile.gettempdir())
