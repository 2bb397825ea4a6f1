"""The command line."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from portside.cli.signals import exit_on_signal

UMASK = 0o027
"""Permissions that no file or directory of a registry has, whatever the umask says."""


def main() -> NoReturn:
    """Run the command line."""
    # Some containers start with a umask of 0: everybody could then write to what is created.
    os.umask(os.umask(UMASK) | UMASK)
    if sys.argv[1:2] == ["serve"]:
        # Importing the rest takes half a second, during which the command may be interrupted.
        exit_on_signal()
    from portside.cli.commands import main as run  # noqa: PLC0415

    try:
        run()
    except SystemExit as end:
        if "obstore" in sys.modules:
            _exit_at_once(end)
        raise


def _exit_at_once(end: SystemExit) -> NoReturn:
    """End the process without finalizing Python.

    The threads of obstore may be dropping a Python object at that moment, and one that Python stops
    there aborts the process, whatever its exit code was to be.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
