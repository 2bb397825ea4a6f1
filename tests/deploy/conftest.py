"""Running what `deploy/` describes, with the fixtures of the pages."""

from __future__ import annotations

from clients.conftest import run
from docs.conftest import environment, home, run_script

__all__ = ["environment", "home", "run", "run_script"]
