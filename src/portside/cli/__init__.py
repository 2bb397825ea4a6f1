"""The command line."""

from portside.cli.commands import main

__all__ = ["main"]
