"""The command that collects garbage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from portside.bootstrap import Stores, connected_stores, now
from portside.bootstrap.collecting import grace_period, make_collector
from portside.bootstrap.periods import as_served
from portside.cli.identity import command_actor
from portside.cli.options import Command
from portside.cli.output import counted
from portside.cli.registry import BLOBS, read_settings, registry_command, require_this_version
from portside.config import Settings
from portside.operations.collect import (
    ORPHANED_AGE,
    Collected,
    CollectedOrphans,
    collect_orphaned,
    expire_uploads,
    plan_orphaned,
)
from portside.spec.errors import Unavailable


@click.command("collect", cls=Command)
@click.option(
    "--grace",
    type=click.IntRange(min=0),
    metavar="SECONDS",
    help="Keep unreferenced blobs for this time (and a minute) instead of --gc-grace.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed; change nothing.")
@registry_command(*BLOBS, "gc_grace", "keep_deleted", "tag_history", "upload_expiry")
async def collect(*, grace: int | None, dry_run: bool, **given: Any) -> None:
    """Remove blobs that nothing refers to, and free their space.

    A running registry does so by itself. This command does all at once: it purges deleted content
    that can no longer be restored, removes unreferenced blobs and expired upload sessions, and
    looks for orphaned bytes, which a crash can leave behind. It shrinks SQLite's file if half of it
    is free.

    With --grace 0, clients that are pushing an image now can find that blobs they have pushed are
    missing again: their push fails and has to be repeated. Nothing else is lost.

    The command keeps content for as long as the server that was started last, unless it is given
    another --keep-deleted, --gc-grace, --tag-history or --upload-expiry.

    The bytes that it prints are those of blobs. The space of manifests is in the database.

    With --dry-run, print what would be removed, except for expired upload sessions.
    """
    settings = read_settings(given)
    if dry_run:
        await _plan(settings, grace, given)
        return
    async with connected_stores(settings) as stores:
        await require_this_version(stores)
        settings = await as_served(settings, stores.metadata, given)
        collected, orphaned = await _collect(settings, stores, grace)
        shrunk = await stores.engine.database.shrink()
    click.echo(
        f"{counted(collected.manifests, 'deleted manifest')} purged,"
        f" {counted(collected.links, 'unreferenced blob')} unlinked,"
        f" {counted(collected.blobs, 'blob')} removed."
    )
    click.echo(f"{counted(collected.bytes + orphaned.bytes, 'byte')} freed.")
    if collected.is_held:
        click.echo("A backup is running: unreferenced blobs stay until it is done.")
    if shrunk:
        click.echo(f"{counted(shrunk, 'byte')} of {stores.engine.name} freed.")
    if orphaned.kept:
        kept = f"{counted(orphaned.kept, 'orphaned blob')} not removed; see `portside check`"
        raise Unavailable(kept)


async def _plan(settings: Settings, grace: int | None, given: Mapping[str, Any]) -> None:
    """Print what would be collected; nothing in the stores can change."""
    async with connected_stores(settings, read_only=True) as stores:
        await require_this_version(stores)
        settings = await as_served(settings, stores.metadata, given)
        collector = make_collector(settings, stores, grace_period(settings, grace))
        planned = await collector.plan()
        orphaned = await plan_orphaned(
            stores.metadata, stores.blobs, now() - ORPHANED_AGE * 1_000_000
        )
    click.echo(
        f"Would purge {counted(planned.manifests, 'deleted manifest')},"
        f" unlink {counted(planned.links, 'unreferenced blob')},"
        f" and remove {counted(planned.blobs, 'blob')}."
    )
    click.echo(f"Would free {counted(planned.bytes + orphaned.bytes, 'byte')}.")


async def _collect(
    settings: Settings, stores: Stores, grace: int | None
) -> tuple[Collected, CollectedOrphans]:
    await stores.metadata.probe()
    grace_left = grace_period(settings, grace)
    collector = make_collector(settings, stores, grace_left, by=command_actor())
    collected = await collector.collect()
    # First, so that the files which expire with upload sessions are counted.
    orphaned = await collect_orphaned(
        stores.metadata, stores.blobs, now() - ORPHANED_AGE * 1_000_000
    )
    await expire_uploads(stores.metadata, stores.blobs, now() - settings.upload_expiry * 1_000_000)
    return collected, orphaned
