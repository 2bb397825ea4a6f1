"""Admission: what the registry requires of a push beside its own limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from portside.spec.names import RepositoryName
from portside.spec.rules import NO_RULES, RepositoryRules, Rules


class Admission(NamedTuple):
    """What the registry requires of pushes and mounts.

    `require_space` raises StorageFull where a row more would touch the reserve. `rules` returns the
    rules of all repositories as they are now.
    """

    require_space: Callable[[], None] | None = None
    rules: Callable[[], Rules] = lambda: NO_RULES

    def check_space(self) -> None:
        """Raise StorageFull if nothing may be added."""
        if self.require_space is not None:
            self.require_space()

    def rules_of(self, repository: RepositoryName) -> RepositoryRules:
        """Return the rules of one repository as they are now."""
        return self.rules().of(repository)
