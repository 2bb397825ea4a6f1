"""ACR's own API, under `/acr/v1`: properties, locks, and lists by name and by time.

Where Microsoft's documents are silent, `docs/reference/acr.md` says what was decided.
"""

from __future__ import annotations

from types import ModuleType

from portside.acr import deleted, manifests, repositories, tags

NOUNS: tuple[ModuleType, ...] = (deleted, manifests, repositories, tags)
"""The modules with the handlers of `/acr/v1`."""
