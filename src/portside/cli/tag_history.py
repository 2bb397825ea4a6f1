"""`portside tag history` and `portside tag restore`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import click

from portside.bootstrap.periods import as_served
from portside.bootstrap.tag_history import make_tag_history
from portside.cli.identity import command_actor
from portside.cli.objects import PAGE, TAG, reference_argument
from portside.cli.options import Command
from portside.cli.output import json_option, show_json, show_pages
from portside.cli.registry import opened_metadata, read_settings, registry_command
from portside.config.rules import watch_rules_file
from portside.operations.tag_history import (
    TIME_FORM,
    ManifestState,
    PointedBack,
    TagHistory,
    TagRecord,
    format_time,
    parse_time,
)
from portside.spec.digests import Digest
from portside.spec.errors import RegistryError
from portside.spec.names import QualifiedReference, RepositoryName, Tag
from portside.spec.rules import NO_RULES

STATES = {
    ManifestState.PRESENT: "present",
    ManifestState.DELETED: "in the trash",
    ManifestState.PURGED: "purged",
}


@click.command("history", cls=Command)
@reference_argument(TAG)
@json_option
@registry_command("keep_deleted")
async def show_history(*, reference: QualifiedReference, as_json: bool, **given: Any) -> None:
    """Show what a tag pointed to, from when on, and who changed it, newest first.

    The history of a tag that was deleted is shown as well. "In the trash" means that the manifest
    was deleted and can be restored.
    """
    settings = read_settings(given)
    async with opened_metadata(settings) as metadata:
        settings = await as_served(settings, metadata, given)
        await show_pages(
            _read(make_tag_history(settings, metadata, lambda: NO_RULES), *reference.named_tag),
            columns=("time", "change", "by", "digest", "manifest"),
            row=_row,
            document=_document,
            empty="No history.",
            as_json=as_json,
        )


@click.command("restore", cls=Command)
@reference_argument(TAG)
@click.option("--at", metavar="TIME", help=f"Point it to what it pointed to at TIME: {TIME_FORM}.")
@click.option("--to", metavar="DIGEST", help="Point it to this manifest of the repository.")
@json_option
@registry_command("keep_deleted", "rules")
async def restore_tag(
    *,
    reference: QualifiedReference,
    at: str | None,
    to: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Point a tag back to what it pointed to before.

    If the manifest was deleted and is still in the trash, it is restored with all that it needs,
    but without its other tags. A tag that was deleted is restored as well. A locked tag stays where
    it is, and with --rules an immutable one.
    """
    aim = _parse_aim(at, to)
    name, tag = reference.named_tag
    settings = read_settings(given)
    async with opened_metadata(settings) as metadata:
        settings = await as_served(settings, metadata, given)
        history = make_tag_history(settings, metadata, watch_rules_file(settings.rules))
        done = await history.restore(name, tag, aim, by=command_actor())
    if as_json:
        show_json({"repository": name, "tag": tag, **done._asdict()})
    else:
        click.echo("\n".join(_lines(name, tag, done)))


def _parse_aim(at: str | None, to: str | None) -> Digest | int:
    """Return the digest or the time that is given; raises UsageError."""
    try:
        if at is not None and to is None:
            return parse_time(at)
        if to is not None and at is None:
            return Digest.parse(to)
    except RegistryError as error:
        raise click.UsageError("; ".join(error.details)) from error
    raise click.UsageError("use either --at or --to")


async def _read(
    history: TagHistory, name: RepositoryName, tag: Tag
) -> AsyncIterator[Sequence[TagRecord]]:
    before: int | None = None
    while True:
        page = await history.list(name, tag, before=before, limit=PAGE)
        yield page.items
        if not page.more:
            return
        before = page.items[-1].change.time


def _lines(name: RepositoryName, tag: Tag, done: PointedBack) -> list[str]:
    if not done.is_change:
        return [f"Tag {name}:{tag} already points to {done.digest}."]
    before = f"It pointed to {done.before}." if done.before else "It did not exist."
    return [
        *(f"Manifest {name}@{digest} restored." for digest in done.manifests),
        f"Tag {name}:{tag} points to {done.digest} again. {before}",
    ]


def _row(record: TagRecord) -> tuple[str, ...]:
    change = record.change
    return (
        format_time(change.time),
        str(change.action),
        change.identity or "-",
        change.digest,
        STATES[record.manifest],
    )


def _document(record: TagRecord) -> dict[str, Any]:
    change = record.change
    return {
        "time": format_time(change.time),
        "action": change.action,
        "digest": change.digest,
        "identity": change.identity or None,
        "manifest": record.manifest,
    }
