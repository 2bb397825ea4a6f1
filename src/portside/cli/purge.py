"""`portside purge`: delete old tags and untagged manifests once, as `acr purge` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from portside.bootstrap import now
from portside.cli.identity import command_actor
from portside.cli.options import Command
from portside.cli.output import json_option
from portside.cli.registry import opened_metadata, read_settings, registry_command
from portside.cli.retaining import carry_out, show
from portside.cli.retention import dry_run_option
from portside.config.rules import watch_rules_file
from portside.operations.retain import Retain
from portside.spec.patterns import PatternInvalid, RepositoryPattern, TagPattern
from portside.spec.quantities import QuantityInvalid, parse_duration
from portside.spec.rules import RepositoryRules, RetentionRule, UntaggedRule

Parsed = TypeVar("Parsed")


def _parsed(parse: Callable[[str], Parsed]) -> Callable[..., Any]:
    """Return the callback of an option whose value, or each of whose values, is parsed."""

    def callback(_context: click.Context, _parameter: click.Parameter, given: Any) -> Any:
        try:
            if isinstance(given, tuple):
                return tuple(map(parse, given))
            return parse(given)
        except (PatternInvalid, QuantityInvalid) as error:
            raise click.BadParameter(str(error)) from error

    return callback


@click.command("purge", cls=Command)
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    required=True,
    metavar="PATTERN",
    callback=_parsed(RepositoryPattern.parse),
    help="Repositories to purge, such as 'team/*'; repeatable.",
)
@click.option(
    "--tags",
    multiple=True,
    metavar="PATTERN",
    callback=_parsed(TagPattern.parse),
    help="Tags to delete, such as 'pr-*'; repeatable.",
)
@click.option(
    "--older-than",
    required=True,
    metavar="DURATION",
    callback=_parsed(parse_duration),
    help="Keep what was pushed within this time, such as 30d.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the N newest tags of each pattern in each repository.",
)
@click.option("--untagged", is_flag=True, help="Delete manifests without tags as well.")
@dry_run_option
@json_option
@registry_command("rules")
async def purge(  # one for each option
    *,
    repositories: tuple[RepositoryPattern, ...],
    tags: tuple[TagPattern, ...],
    older_than: int,
    keep: int | None,
    untagged: bool,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Delete old tags, and old manifests without tags.

    A tag that --tags matches is deleted if it was pushed longer ago than --older-than, and is not
    among the newest that --keep keeps. With --untagged, manifests without tags are deleted as well
    if they were last pushed longer ago, also those that lose their last tag now.

    Locked and immutable tags stay, and so does all that a kept tag needs. Deleted content can be
    restored for as long as the registry keeps it (--keep-deleted of `portside serve`).
    """
    if not tags and not untagged:
        raise click.UsageError("say what to purge: --tags, --untagged or both")
    settings = read_settings(given)
    rules = watch_rules_file(settings.rules)()
    retention = tuple(
        RetentionRule(
            source=f"--tags {pattern}",
            tags=pattern,
            keep_newest=keep,
            keep_pushed_within=older_than,
        )
        for pattern in tags
    )
    rule = UntaggedRule(source="--untagged", delete_after=older_than, since_push=True)

    def rules_of(repository: str) -> RepositoryRules:
        if not any(pattern.matches(repository) for pattern in repositories):
            return RepositoryRules()
        return RepositoryRules(
            immutable_tags=rules.of(repository).immutable_tags,
            retention=retention,
            untagged=rule if untagged else None,
        )

    async with opened_metadata(settings) as metadata:
        retain = Retain(metadata, clock=now, by=command_actor())
        outcomes = await carry_out(retain, retain.plan_each(rules_of), dry_run=dry_run)
    show(outcomes, as_json=as_json)
