"""Programs that `make go-clients` builds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def built(name: str) -> str:
    """Return the path of a program; skips the test if it was not built."""
    found = Path(sys.executable).with_name(name)
    if not found.exists():
        pytest.skip(f"{name} is not built; `make go-clients` builds it")
    return str(found)
