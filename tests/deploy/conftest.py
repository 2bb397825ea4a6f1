"""Running what `deploy/` describes, with the fixtures of the pages."""

from __future__ import annotations

from docs.conftest import environment, home, run_script

__all__ = ["environment", "home", "run_script"]
