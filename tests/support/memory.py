"""Where tests and their servers keep what a run throws away: in memory, which nobody waits for."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108
"""Where Linux keeps files in memory."""

ENOUGH = 4 << 30
"""Bytes that have to be free there; machines and containers can have far less."""


def scratch() -> Path:
    """Return a directory in memory if there is enough of it, else that of temporary files."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ENOUGH
    return MEMORY if is_roomy else Path(tempfile.gettempdir())
