"""The command line in the process of the test, which is quicker than to start one for each call.

`support.server.run_portside` starts a process, for tests of what only a process has: its standard
input, its signals, its umask, and the end of `portside serve`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from portside.auth.registrar import Registrar
from portside.bootstrap import Stores, now, opened_stores
from portside.cli.commands import main
from portside.config import make_settings
from portside.stores.access import StoredIdentity

FAST = {"PORTSIDE_PASSWORD_COST": "4", "PORTSIDE_MIN_PASSWORD_LENGTH": "1"}


def run_inside(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command; returns its exit code, standard output and standard error."""
    with (
        patch.object(sys, "argv", ["portside", *arguments]),
        patch.dict(os.environ, env or {}),
        # As in a process of its own, the command sets up the log, which goes to standard error.
        patch.object(logging.root, "handlers", []),
        redirect_stdout(StringIO()) as printed,
        redirect_stderr(StringIO()) as errors,
        pytest.raises(SystemExit) as ended,
    ):
        main()
    code = ended.value.code or 0
    assert isinstance(code, int)
    return code, printed.getvalue(), errors.getvalue()


class Commands:
    """Runs commands on a directory, with passwords that are quick to hash."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; returns its exit code, standard output and standard error."""
        return run_inside(*arguments, *self.place, env=FAST)

    @property
    def place(self) -> tuple[str, ...]:
        """The options that name the registry."""
        return ("--data", str(self.data))

    def do(self, *arguments: str) -> str:
        """Run a command that succeeds, and gives what it prints."""
        code, printed, errors = self.run(*arguments)
        assert code == 0, errors
        return printed

    def json(self, *arguments: str) -> Any:
        """Run a command that prints JSON, in the order that it always has."""
        printed = self.do(*arguments, "--json")
        document = json.loads(printed)
        assert printed == json.dumps(document, indent=2, sort_keys=True) + "\n"
        return document

    def refused(self, *arguments: str) -> str:
        """Run a command that fails with one line, and gives it.

        Mistakes on the command line end with the help to see, and with another code.
        """
        code, printed, errors = self.run(*arguments)
        assert (code, printed) == (2 if errors.endswith("--help`.\n") else 1, ""), errors
        assert "Traceback" not in errors
        assert errors.startswith("portside: ")
        assert len(errors.splitlines()) == 1, errors
        return errors

    def add_user(self, name: str, password: str) -> str:
        """Add a user, to a new registry if there is none; returns what is printed."""
        path = str(self.write(password))
        return self.do("user", "add", name, "--password-file", path, "--create")

    def write(self, password: str) -> Path:
        """Write a password to a file."""
        path = self.data.with_name("password")
        path.write_text(f"{password}\n")
        return path

    @contextmanager
    def _stores(self) -> Iterator[Stores]:
        with opened_stores(make_settings({"data": str(self.data)})) as stores:
            asyncio.run(stores.create())
            yield stores

    @contextmanager
    def registrar(self) -> Iterator[Registrar]:
        """Do what commands do, without their output."""
        with self._stores() as stores:
            yield Registrar(stores.access, clock=now)

    def stored(self, name: str) -> StoredIdentity:
        """Read an identity from the store, with the hashes of its passwords."""
        with self._stores() as stores:
            found = asyncio.run(stores.access.get_identity(name))
        assert found is not None
        return found

    def change(self, name: str, change: Callable[[StoredIdentity], StoredIdentity]) -> None:
        """Change an identity in the store, in ways that no command offers."""
        kind = self.stored(name).kind
        with self._stores() as stores:
            asyncio.run(stores.access.change_identity(name, kind, change))
