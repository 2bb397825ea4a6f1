"""The command line."""

from __future__ import annotations

import sys
from typing import NoReturn

from portside.cli.signals import exit_on_signal


def main() -> NoReturn:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        # Importing the rest takes half a second, during which the command may be interrupted.
        exit_on_signal()
    from portside.cli.commands import main as run  # noqa: PLC0415

    run()
