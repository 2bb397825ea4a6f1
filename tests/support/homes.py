"""Where a registry is kept: which database, which store of blobs, and how commands are told so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.server import run_portside

DISK = "sqlite+disk"
SHARED_DISK = "postgresql+disk"
EVERY_KIND = (DISK, SHARED_DISK)
"""Kinds of homes that a registry behaves the same in."""


@dataclass(frozen=True)
class Home:
    """A place that a registry, or all nodes of one, is served from.

    `options` are those of every command besides `--data`, `env` is what stands in its environment.
    """

    data: Path
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str) -> tuple[int, str, str]:
        """Run a command here; gives its exit code, standard output and standard error."""
        return run_portside(*command, "--data", str(self.data), *self.options, env=self.env)

    def do(self, *command: str) -> str:
        """Run a command that succeeds, and give what it prints."""
        code, printed, errors = self.run(*command)
        assert code == 0, errors
        return printed
