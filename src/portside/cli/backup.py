"""`portside backup` and `portside restore`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import click

from portside.bootstrap import Stores, connected_stores, now
from portside.bootstrap.backups import (
    backup_directory,
    opened_backup,
    opened_snapshot,
    prepare_restore,
    refuse_same_storage,
    require_saveable,
    saved_metadata,
)
from portside.cli.copying import Reporter, count
from portside.cli.options import Command
from portside.cli.output import counted, iso_time, json_option, show_json, show_table, shown_size
from portside.cli.registry import BLOBS, read_settings, registry_command, require_registry
from portside.config import Settings
from portside.operations.backup.hold import holding
from portside.operations.backup.making import Backup, Made, Source, require_backup
from portside.operations.backup.reading import Pruned, find_snapshot, prune, verify
from portside.operations.check import Tally as CheckTally
from portside.operations.copy.moving import Move
from portside.operations.copy.plan import RegistryStores, Tally
from portside.stores.backups import BackupBlobs, Snapshot
from portside.stores.read_only import Successor

PRIVATE = 0o077
"""Permissions that nothing in a backup has: signing keys and hashes of passwords are in it."""


@click.command("backup", cls=Command)
@click.argument("place")
@click.option(
    "--keep", type=click.IntRange(min=1), metavar="N", help="Keep the N newest snapshots."
)
@click.option("--repair", is_flag=True, help="Read the backup too, and copy damaged blobs again.")
@click.option(
    "--verify", "is_verify", is_flag=True, help="Read and verify the backup; make no snapshot."
)
@click.option("--list", "is_list", is_flag=True, help="List the snapshots; make none.")
@json_option
@registry_command(*BLOBS)
async def backup(
    *,
    place: str,
    keep: int | None,
    repair: bool,
    is_verify: bool,
    is_list: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Back up the registry to PLACE: a directory, or the URL of a storage such as s3://BUCKET/PATH.

    The registry can be running. Each run makes a snapshot, and copies only the blobs that PLACE
    lacks. Run an interrupted backup again to continue it. The exit code is 1 if the registry has
    lost blobs; the snapshot has everything else.

    With --keep, older snapshots are removed, with the blobs that only they need.
    """
    if is_verify + is_list > 1 or ((is_verify or is_list) and (repair or keep)):
        raise click.UsageError("--list, --verify, and making a snapshot exclude each other")
    if as_json and not is_list:
        raise click.UsageError("--json needs --list")
    settings = read_settings(given)
    with _private(), opened_backup(place, settings) as target:
        if is_list:
            await _list(target, as_json=as_json)
        elif is_verify:
            await _verify(target)
        else:
            tally = Tally()
            async with _opened_source(settings) as stores:
                refuse_same_storage(stores.blobs.location, target.location)
                made = await _make(stores, target, tally, repair=repair)
                _say_made(made, tally)
                if keep:
                    _say_pruned(await prune(target, keep, partial(opened_snapshot, target)))
            if tally.problems:
                sys.exit(1)


@contextmanager
def _private() -> Iterator[None]:
    """Create private files and directories only, for the length of a block."""
    before = os.umask(PRIVATE)
    try:
        yield
    finally:
        os.umask(before)


@asynccontextmanager
async def _opened_source(settings: Settings) -> AsyncIterator[Stores]:
    """Open a registry, whatever its version, and keep copies and the collector away from it."""
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(connected_stores(settings))
        await stores.require_database()
        await require_registry(stores)
        is_newest = await require_saveable(stores.engine)
        await stack.enter_async_context(stores.metadata.claim())
        if is_newest:
            await stores.require_storage()
            await stack.enter_async_context(holding(stores.metadata))
        yield stores


async def _make(stores: Stores, target: BackupBlobs, tally: Tally, *, repair: bool) -> Made:
    identity = await stores.metadata.registry_identity()
    save = partial(saved_metadata, stores.engine, backup_directory(target))
    source = Source(identity, stores.metadata, stores.blobs, save)
    progress = Reporter(tally, lambda tally: f"{_copied(tally)}.")
    return await Backup(
        source, target, tally=tally, clock=now, repair=repair, progress=progress
    ).make()


def _say_made(made: Made, tally: Tally) -> None:
    for problem in tally.problems:
        click.echo(problem)
    snapshot = made.snapshot
    click.echo(
        f"Snapshot {made.name}: {counted(snapshot.blobs, 'blob')}"
        f" ({counted(snapshot.bytes, 'byte')}); {_copied(tally)}."
    )


def _copied(tally: Tally) -> str:
    return f"{counted(tally.blobs, 'blob')} ({counted(tally.bytes, 'byte')}) copied"


def _say_pruned(pruned: Pruned) -> None:
    if pruned.snapshots:
        click.echo(
            f"{counted(pruned.snapshots, 'snapshot')} and {counted(pruned.blobs, 'blob')}"
            f" ({counted(pruned.bytes, 'byte')}) removed."
        )


async def _list(target: BackupBlobs, *, as_json: bool) -> None:
    await require_backup(target)
    names = await target.list_snapshots()
    found = [await find_snapshot(target, name) for name in names]
    if as_json:
        show_json([_document(*item) for item in found])
        return
    show_table(
        ("SNAPSHOT", "BLOBS", "SIZE", "MISSING", "METADATA"),
        [
            (
                name,
                str(snapshot.blobs),
                shown_size(snapshot.bytes),
                str(snapshot.missing),
                snapshot.database,
            )
            for name, snapshot in found
        ],
        empty="No snapshots.",
    )


def _document(name: str, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "name": name,
        "created": iso_time(snapshot.created),
        "blobs": snapshot.blobs,
        "bytes": snapshot.bytes,
        "missing": snapshot.missing,
        "metadata": snapshot.database,
        "schema": snapshot.schema,
        "registry": snapshot.registry,
    }


async def _verify(target: BackupBlobs) -> None:
    """Print what is damaged; exit with 1 if anything is, or if there is no snapshot."""
    await find_snapshot(target, None)
    tally, problems = CheckTally(), 0
    async for problem in verify(target, partial(opened_snapshot, target), tally):
        problems += 1
        click.echo(problem)
    found = counted(problems, "problem") if problems else "No problem"
    click.echo(f"{found} in {counted(len(await target.list_snapshots()), 'snapshot')}.")
    if problems:
        sys.exit(1)


@click.command("restore", cls=Command)
@click.argument("place")
@click.option("--snapshot", metavar="NAME", help="Restore this snapshot instead of the newest one.")
@click.option(
    "--keep-blobs",
    is_flag=True,
    help="Restore the database beside the blobs that are there; only missing blobs are copied.",
)
@registry_command(*BLOBS)
async def restore(*, place: str, snapshot: str | None, keep_blobs: bool, **given: Any) -> None:
    """Restore a registry from the backup in PLACE: a directory, or the URL of a storage.

    The registry to restore into must be empty; it need not have the same database and storage as
    the former one. Everything is verified. The registry is read-only until that is done. Run an
    interrupted restore again to continue it.
    """
    settings = read_settings(given)
    tally = Tally()
    with opened_backup(place, settings) as source:
        name, found = await find_snapshot(source, snapshot)
        async with (
            opened_snapshot(source, name, found) as metadata,
            connected_stores(settings) as target,
        ):
            refuse_same_storage(source.location, target.blobs.location)
            await prepare_restore(target, found.registry, keep_blobs=keep_blobs)
            # What is restored is a registry of its own, whatever the former one was when it ended.
            await metadata.set_read_only(read_only=False)
            ending = await Move(
                RegistryStores(metadata, source),
                RegistryStores(target.metadata, target.blobs),
                tally=tally,
                clock=now,
                successor=Successor(target.engine.place),
                progress=Reporter(tally, count),
            ).finish()
            where = target.engine.place
    for problem in tally.problems:
        click.echo(problem)
    click.echo(count(tally))
    if ending.is_moved:
        click.echo(f"Everything was verified. {where} is now the registry as it was at {name}.")
        return
    click.echo(
        f"The snapshot {name} could not be restored as a whole, and {where} is read-only. Restore"
        " another snapshot into it, or run `portside read-only off` to use it as it is, and then"
        " `portside check --repair`."
    )
    sys.exit(1)
