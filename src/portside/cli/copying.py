"""`portside copy-store` and `portside read-only`: move a registry to other stores."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from portside.bootstrap import connected_stores, now
from portside.bootstrap.backups import refuse_same_storage
from portside.cli.identity import command_actor
from portside.cli.options import Command, read_file
from portside.cli.output import counted
from portside.cli.registry import BLOBS, opened_registry, read_settings, registry_command
from portside.config import make_settings
from portside.operations.copy.moving import Ending, Move
from portside.operations.copy.plan import RegistryStores, Tally
from portside.stores.read_only import Successor

EVERY = 10.0
"""Seconds between two lines that say how far the copy is."""


@click.command("copy-store", cls=Command)
@click.option(
    "--to",
    "target_file",
    required=True,
    type=click.Path(path_type=Path),
    help="TOML file with the settings of the registry to copy into.",
)
@click.option("--verify", is_flag=True, help="Read what was copied before, and repair it.")
@click.option(
    "--finish",
    is_flag=True,
    help="Make the registry read-only at the end, verify everything, and move it.",
)
@registry_command(*BLOBS)
async def copy_store(*, target_file: Path, verify: bool, finish: bool, **given: Any) -> None:
    """Copy the registry to other stores while it runs.

    What was copied before is not copied again: run an interrupted copy again to continue it. The
    option --finish lets the copy take the place of the registry; if anything is wrong, the registry
    continues as before, and the exit code is 1.
    """
    settings, target_settings = read_settings(given), make_settings(read_file(target_file))
    tally, ending = Tally(), None
    async with (
        connected_stores(target_settings) as target,
        opened_registry(settings) as source,
    ):
        refuse_same_storage(source.blobs.location, target.blobs.location)
        await source.require_storage()
        await target.create()
        move = Move(
            RegistryStores(source.metadata, source.blobs),
            RegistryStores(target.metadata, target.blobs),
            tally=tally,
            clock=now,
            successor=Successor(target.engine.place, target_settings.public_url),
            by=command_actor(),
            progress=Reporter(tally, count),
        )
        if finish:
            ending = await move.finish()
        else:
            await move.copy(verify=verify)
        places = source.engine.place, target.engine.place
    for problem in tally.problems:
        click.echo(problem)
    click.echo(count(tally))
    if ending is not None:
        click.echo(_say_end(ending, *places, target_file))
    if tally.problems:
        sys.exit(1)


@click.command("read-only", cls=Command)
@click.argument("state", type=click.Choice(["on", "off"]), required=False)
@registry_command()
async def read_only(*, state: str | None, **given: Any) -> None:
    """Show the read-only mode, or turn it on or off.

    While it is on, pulls work, and pushes are told to try again later.
    """
    async with opened_registry(read_settings(given)) as stores:
        if state is not None:
            await stores.metadata.set_read_only(read_only=state == "on", by=command_actor())
        found = await stores.metadata.registry_state()
        place = stores.engine.place
    if not found.read_only:
        click.echo(f"{place} is not read-only.")
    elif found.successor is not None:
        click.echo(
            f"{place} is read-only because it was moved to {found.successor.place};"
            " `portside read-only off` makes it independent of that registry."
        )
    elif found.copy_of is None:
        click.echo(f"{place} is read-only; run `portside read-only off` to allow changes.")
    else:
        click.echo(
            f"{place} is read-only because it is a copy of another registry;"
            " `portside read-only off` makes it independent of that registry."
        )


class Reporter:
    """Reports on standard error from time to time what has been copied."""

    def __init__(self, tally: Tally, count: Callable[[Tally], str]) -> None:
        self._tally = tally
        self._count = count
        self._last = time.monotonic()

    def __call__(self) -> None:
        """Report, unless the last report was a moment ago."""
        if time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            click.echo(self._count(self._tally), err=True)


def count(tally: Tally) -> str:
    """Return what was copied, as a sentence."""
    if not tally.moved:
        return "Nothing to copy."
    return (
        f"{counted(tally.blobs, 'blob')} ({counted(tally.bytes, 'byte')})"
        f" and {counted(tally.rows, 'row')} copied, {tally.dropped} dropped."
    )


def _say_end(ending: Ending, source: str, target: str, file: Path) -> str:
    if ending.is_moved:
        return (
            f"Everything was verified. The registry is now {target}: serve it with"
            f" `portside serve --config {file}`. {source} stays read-only."
        )
    state = "is still read-only" if ending.is_source_read_only else "continues as before"
    return f"The registry was not moved: {source} {state}."
