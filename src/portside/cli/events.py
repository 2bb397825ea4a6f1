"""`portside events`: who did what, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import click

from portside.api.log_lines import escape_controls
from portside.bootstrap import connected_stores, now
from portside.cli.options import CommandGroup
from portside.cli.output import json_option, show_pages
from portside.cli.registry import read_settings, registry_command, require_registry
from portside.operations.events import document_of
from portside.operations.tag_history import TIME_FORM, format_time, parse_time
from portside.spec.errors import ParameterInvalid
from portside.spec.patterns import NameRange, PatternInvalid, RepositoryPattern
from portside.spec.quantities import QuantityInvalid, parse_duration
from portside.stores.events import ACTIONS, Event, EventFilter, EventStore

PAGE = 100
"""Events of a list that are in memory at once."""

TAIL_INTERVAL = 1.0
"""Seconds between two looks for new events."""

Command = TypeVar("Command", bound=Callable[..., Any])


def _parse_moment(
    _context: click.Context, _parameter: click.Parameter, given: str | None
) -> int | None:
    """Read a time, or how long ago it was."""
    if given is None:
        return None
    try:
        return now() - parse_duration(given)
    except QuantityInvalid:
        pass
    try:
        return parse_time(given)
    except ParameterInvalid as error:
        unclear = f"invalid time {given[:80]!r}: expected {TIME_FORM}, or 2h"
        raise click.BadParameter(unclear) from error


def _parse_pattern(
    _context: click.Context, _parameter: click.Parameter, given: str | None
) -> tuple[NameRange, ...] | None:
    if given is None:
        return None
    try:
        return (RepositoryPattern.parse(given).names,)
    except PatternInvalid as error:
        raise click.BadParameter(str(error)) from error


def _parse_action(
    _context: click.Context, _parameter: click.Parameter, given: str | None
) -> str | None:
    if given is None or given in ACTIONS:
        return given
    unknown = f"unknown action {given[:80]!r}: expected one such as tag.set, or tag.*"
    raise click.BadParameter(unknown)


def _filter_options(*, until: bool) -> Callable[[Command], Command]:
    """Add the options that select events."""
    options = [
        click.option("--identity", metavar="NAME", help="Only changes that NAME made."),
        click.option(
            "--repository",
            "names",
            metavar="PATTERN",
            callback=_parse_pattern,
            help="Only changes of these repositories, such as 'team/*'.",
        ),
        click.option(
            "--action",
            metavar="ACTION",
            callback=_parse_action,
            help="Only this action, such as tag.set, or tag.* for all of a kind.",
        ),
    ]
    if until:
        options[:0] = [
            click.option(
                "--since",
                metavar="TIME",
                callback=_parse_moment,
                help=f"Only events from TIME on: {TIME_FORM}, or 2h for two hours ago.",
            ),
            click.option(
                "--until", metavar="TIME", callback=_parse_moment, help="Only events before TIME."
            ),
        ]
        options.append(
            click.option(
                "--request",
                metavar="ID",
                help="Only what the request with this X-Request-Id changed.",
            )
        )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group("events", cls=CommandGroup)
def events() -> None:
    """Show who changed content and access control, and when."""


@events.command("list")
@_filter_options(until=True)
@json_option
@registry_command()
async def list_events(
    *,
    since: int | None,
    until: int | None,
    identity: str | None,
    names: tuple[NameRange, ...] | None,
    action: str | None,
    request: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """List events, newest first.

    Each event is recorded in the transaction of its change, and kept for --keep-events.
    """
    wanted = EventFilter(since, until, identity, action, names, request)
    async with connected_stores(read_settings(given), read_only=True) as stores:
        await require_registry(stores)
        await stores.engine.database.require_newest()
        await show_pages(
            _pages(stores.metadata, wanted),
            columns=("time", "action", "what", "by", "address"),
            row=_row,
            document=document_of,
            empty="No events.",
            as_json=as_json,
        )


@events.command("tail")
@_filter_options(until=False)
@click.option(
    "--lines",
    type=click.IntRange(min=0, max=PAGE),
    default=10,
    show_default=True,
    help="How many of the last events to print first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@registry_command()
async def tail_events(
    *,
    identity: str | None,
    names: tuple[NameRange, ...] | None,
    action: str | None,
    lines: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Print the last events, oldest first, and new ones as they happen, until Ctrl-C."""
    wanted = EventFilter(None, None, identity, action, names)
    async with connected_stores(read_settings(given), read_only=True) as stores:
        await require_registry(stores)
        await stores.engine.database.require_newest()
        position = await stores.metadata.last_event()
        page = await stores.metadata.list_events(wanted, before=position + 1, limit=lines)
        for event in reversed(page.items):
            _print(event, as_json=as_json)
        while True:
            found = await stores.metadata.read_events(position, limit=PAGE)
            for event in found:
                position = event.id
                if wanted.matches(event):
                    _print(event, as_json=as_json)
            if not found:
                await asyncio.sleep(TAIL_INTERVAL)


async def _pages(store: EventStore, wanted: EventFilter) -> AsyncIterator[Sequence[Event]]:
    before: int | None = None
    while True:
        page = await store.list_events(wanted, before=before, limit=PAGE)
        yield page.items
        if not page.more:
            return
        before = page.items[-1].id


def _print(event: Event, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document_of(event), sort_keys=True))
    else:
        click.echo("  ".join(map(escape_controls, _row(event))).rstrip())


def _row(event: Event) -> tuple[str, ...]:
    by = event.by
    return (
        format_time(event.time),
        event.action,
        what_changed(event),
        by.name or "-",
        by.address or "-",
    )


def what_changed(event: Event) -> str:
    """Return what was changed as commands name it."""
    if not event.repository:
        counts = ", ".join(f"{count} {kind}" for kind, count in event.details.items())
        return event.reference or event.digest or counts or "-"
    tag = f":{event.reference}" if event.reference else ""
    digest = f"@{event.digest}" if event.digest else ""
    return f"{event.repository}{tag}{digest}"
