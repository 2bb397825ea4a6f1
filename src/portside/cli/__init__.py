"""The command line."""

from __future__ import annotations

import sys
from typing import NoReturn

from portside.cli.stopping import quit_when_told


def main() -> NoReturn:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        # It takes half a second to import the rest, in which somebody may change their mind.
        quit_when_told()
    from portside.cli.commands import main as run  # noqa: PLC0415

    run()
