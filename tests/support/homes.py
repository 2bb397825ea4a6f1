"""Where a registry is stored: its database, its blob store, and the options that name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.commands import run_inside
from support.server import run_portside

DISK = "sqlite+disk"
ON_S3 = "postgresql+s3"
ON_AZURE = "postgresql+azure"
KINDS = {"every_home": (DISK, ON_S3, ON_AZURE), "every_database": (DISK, ON_S3)}
"""Kinds of homes, in which a registry behaves the same, by the marker of tests that show it."""


@dataclass(frozen=True)
class Home:
    """A place that a registry, or all nodes of one, is served from.

    `database` and `storage` are the addresses of both where they are not the directory; `env` is
    the environment variables.
    """

    data: Path
    database: str = ""
    storage: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """The options, besides `--data`, of commands that need the blobs."""
        storage = ("--storage", self.storage) if self.storage else ()
        return (*self._database, *storage)

    @property
    def place(self) -> tuple[str, ...]:
        """The options of commands that need the blobs."""
        return ("--data", str(self.data), *self.options)

    @property
    def _database(self) -> tuple[str, ...]:
        return ("--database", self.database) if self.database else ()

    def run(self, *command: str) -> tuple[int, str, str]:
        """Run a command here; returns its exit code, standard output and standard error."""
        # What serves has processes of its own; the rest is quicker in this one.
        run = run_portside if command[0] == "serve" else run_inside
        return run(*command, *self.place, env=self.env)

    def manage(self, *command: str) -> str:
        """Run a command about identities, which succeeds, and return what it prints."""
        options = ("--data", str(self.data), *self._database)
        code, printed, errors = run_inside(*command, *options, env=self.env)
        assert code == 0, errors
        return printed
