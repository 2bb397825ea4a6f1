"""`portside webhooks`: the receivers of the rules file, and what they have not accepted yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import click

from portside.bootstrap import connected_stores
from portside.bootstrap.webhooks import make_attempts
from portside.cli.errors import ServerError
from portside.cli.events import what_changed
from portside.cli.options import CommandGroup
from portside.cli.output import (
    counted,
    iso_time,
    json_option,
    show_json,
    show_pages,
    show_table,
    shown_time,
)
from portside.cli.registry import (
    opened_metadata,
    read_settings,
    registry_command,
    require_registry,
)
from portside.config import Settings, SettingsInvalid
from portside.config.rules import watch_rules_file
from portside.operations.events import document_of
from portside.spec.webhooks import Webhook
from portside.stores.interfaces import MetadataStore
from portside.stores.webhooks import Delivery, DeliveryState, WebhookState

PAGE = 100
"""Deliveries that are in memory at once."""


class _Listed(NamedTuple):
    """A webhook of the rules file, of the database, or of both."""

    name: str
    webhook: Webhook | None
    state: WebhookState | None
    last: int
    """The position of the last event that there is."""

    @property
    def unread(self) -> int:
        """How many events it has not read, wanted or not."""
        return max(0, self.last - self.state.position) if self.state is not None else 0

    @property
    def condition(self) -> str:
        """What it does now, in a few words."""
        if self.state is None:
            return "not started"
        if self.webhook is None:
            return "not in the rules"
        if self.state.paused:
            return "paused"
        if self.state.failing is not None:
            return f"failing since {shown_time(self.state.failing)}"
        return "active"


name_argument = click.argument("name", metavar="NAME")


@click.group("webhooks", cls=CommandGroup)
def webhooks() -> None:
    """Show, try, pause and resume webhooks, and retry what they did not accept."""


@webhooks.command("list")
@json_option
@registry_command("rules")
async def list_webhooks(*, as_json: bool, **given: Any) -> None:
    """List webhooks, and what waits for each.

    They are those of the rules file and those that the registry knows. One that was removed from
    the rules file is listed as long as its position is kept. `unread` counts the events, wanted or
    not, that it has not read yet, as it is paused for example.
    """
    settings = read_settings(given)
    named = {webhook.name: webhook for webhook in watch_rules_file(settings.rules)().webhooks}
    async with connected_stores(settings, read_only=True) as stores:
        await require_registry(stores)
        await stores.engine.database.require_newest()
        states = {state.name: state for state in await stores.metadata.list_webhooks()}
        last = await stores.metadata.last_event()
    names = sorted({*named, *states})
    found = [_Listed(name, named.get(name), states.get(name), last) for name in names]
    if as_json:
        show_json([_document(listed) for listed in found])
        return
    show_table(
        ("name", "receiver", "format", "state", "unread", "waiting", "dead", "last accepted"),
        [_row(listed) for listed in found],
        empty="No webhooks. Add some to the file that --rules names.",
    )


@webhooks.command("test")
@name_argument
@registry_command("rules", "public_url", "webhook_timeout")
async def test_webhook(*, name: str, **given: Any) -> None:
    """Send an event to a receiver now, and print what it answers.

    The event is made up, and has the action `ping`. Nothing is recorded, and nothing that waits is
    sent. The exit code is 1 if the receiver does not accept it.
    """
    settings = read_settings(given)
    webhook = _named(settings, name)
    async with connected_stores(settings, read_only=True) as stores:
        await require_registry(stores)
        identity = await stores.metadata.registry_identity()
    answer = await make_attempts(settings, identity).ping(webhook)
    if answer.error:
        raise ServerError(f"webhook {name}: {answer.error}")
    click.echo(f"Webhook {name} accepted the event: {answer.status}.")


@webhooks.command("deliveries")
@name_argument
@click.option(
    "--state",
    type=click.Choice([str(state) for state in DeliveryState]),
    help="Only these deliveries.",
)
@json_option
@registry_command()
async def list_deliveries(*, name: str, state: str | None, as_json: bool, **given: Any) -> None:
    """List events that a receiver has not accepted.

    Dead ones come first. What waits behind another event of its repository has no time at which it
    is tried next.
    """
    wanted = [DeliveryState(state)] if state else [DeliveryState.DEAD, DeliveryState.WAITING]
    async with opened_metadata(read_settings(given)) as metadata:
        await _require(metadata, name)
        await show_pages(
            _pages(metadata, name, wanted),
            columns=("event", "time", "action", "what", "state", "attempts", "next", "error"),
            row=_delivery_row,
            document=_delivery_document,
            empty="Nothing waits, and nothing is dead.",
            as_json=as_json,
        )


@webhooks.command("retry")
@name_argument
@click.argument("events", nargs=-1, type=click.IntRange(min=1), metavar="[EVENT]...")
@click.option("--all", "is_all", is_flag=True, help="Retry everything that is dead.")
@registry_command()
async def retry(*, name: str, events: tuple[int, ...], is_all: bool, **given: Any) -> None:
    """Send dead events again.

    They are named by the numbers that `portside webhooks deliveries` prints. In each repository,
    they are sent in their order, before those that wait.
    """
    if bool(events) == is_all:
        raise click.UsageError("name events as `portside webhooks deliveries` does, or use --all")
    async with opened_metadata(read_settings(given)) as metadata:
        await _require(metadata, name)
        if is_all:
            retried = await _retry_all(metadata, name)
        else:
            retried = await metadata.retry_deliveries(name, sorted(set(events)))
    click.echo(f"{counted(retried, 'dead event')} of {name} will be sent again.")


@webhooks.command("pause")
@name_argument
@registry_command()
async def pause(*, name: str, **given: Any) -> None:
    """Send nothing to a webhook until it is resumed.

    Events are kept for it as long as they are for everyone (--keep-events of `portside serve`).
    """
    await _pause(name, given, paused=True)
    click.echo(f"Webhook {name} paused.")


@webhooks.command("resume")
@name_argument
@registry_command()
async def resume(*, name: str, **given: Any) -> None:
    """Send to a webhook again, from where it was."""
    await _pause(name, given, paused=False)
    click.echo(f"Webhook {name} resumed.")


async def _pause(name: str, given: dict[str, Any], *, paused: bool) -> None:
    async with opened_metadata(read_settings(given)) as metadata:
        if not await metadata.pause_webhook(name, paused=paused):
            await _require(metadata, name)


def _named(settings: Settings, name: str) -> Webhook:
    """Return a webhook of the rules file; raises FileInvalid, SettingsInvalid and ServerError."""
    if not settings.rules:
        raise SettingsInvalid("rules is empty: name the file with the webhooks")
    known = watch_rules_file(settings.rules)().webhooks
    for webhook in known:
        if webhook.name == name:
            return webhook
    raise ServerError(_unknown(name, settings.rules, [webhook.name for webhook in known]))


async def _require(metadata: MetadataStore, name: str) -> None:
    """Refuse a name that the registry does not know; raises ServerError."""
    known = [state.name for state in await metadata.list_webhooks()]
    if name not in known:
        raise ServerError(_unknown(name, "the registry", known))


def _unknown(name: str, place: str, known: Sequence[str]) -> str:
    """Return that a webhook is not known, and which are."""
    others = f"it has {', '.join(known)}" if known else "it has none"
    return f"{place} has no webhook {name[:80]!r}; {others}"


async def _pages(
    metadata: MetadataStore, name: str, states: Sequence[DeliveryState]
) -> AsyncIterator[Sequence[Delivery]]:
    for state in states:
        after, more = 0, True
        while more:
            page = await metadata.list_deliveries(name, state, after=after, limit=PAGE)
            yield page.items
            more = page.more
            if more:
                after = page.items[-1].event.id


async def _retry_all(metadata: MetadataStore, name: str) -> int:
    """Retry what is dead now, page by page; return how many there were."""
    retried = 0
    async for page in _pages(metadata, name, [DeliveryState.DEAD]):
        retried += await metadata.retry_deliveries(name, [each.event.id for each in page])
    return retried


def _place(webhook: Webhook) -> str:
    """Return a URL without its query, in which some receivers have a secret."""
    return webhook.url.partition("?")[0]


def _row(listed: _Listed) -> tuple[str, ...]:
    webhook, state = listed.webhook, listed.state
    return (
        listed.name,
        _place(webhook) if webhook is not None else "-",
        str(webhook.format) if webhook is not None else "-",
        listed.condition,
        str(listed.unread) if state is not None else "-",
        str(state.waiting) if state is not None else "-",
        str(state.dead) if state is not None else "-",
        shown_time(state.delivered) if state is not None else "never",
    )


def _document(listed: _Listed) -> dict[str, Any]:
    webhook, state = listed.webhook, listed.state
    return {
        "name": listed.name,
        "url": _place(webhook) if webhook is not None else None,
        "format": str(webhook.format) if webhook is not None else None,
        "state": listed.condition.partition(" since")[0],
        "unread": listed.unread,
        "waiting": state.waiting if state is not None else 0,
        "dead": state.dead if state is not None else 0,
        "position": state.position if state is not None else None,
        "last_accepted": iso_time(state.delivered) if state is not None else None,
        "failing_since": iso_time(state.failing) if state is not None else None,
    }


def _delivery_row(delivery: Delivery) -> tuple[str, ...]:
    event = delivery.event
    return (
        str(event.id),
        shown_time(event.time),
        event.action,
        what_changed(event),
        str(delivery.state),
        str(delivery.attempts),
        shown_time(delivery.due) if delivery.due is not None else "-",
        delivery.error or "-",
    )


def _delivery_document(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "state": str(delivery.state),
        "attempts": delivery.attempts,
        "next": iso_time(delivery.due),
        "error": delivery.error or None,
        "event": document_of(delivery.event),
    }
