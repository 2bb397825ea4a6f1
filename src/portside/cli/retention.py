"""`portside retention`: apply the rules of retention, and explain what they decide."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from portside.bootstrap import now
from portside.cli.identity import command_actor
from portside.cli.objects import MANIFEST, find_digest, reference_argument
from portside.cli.options import CommandGroup
from portside.cli.output import json_option, show_details, show_json
from portside.cli.registry import opened_metadata, read_settings, registry_command
from portside.cli.retaining import carry_out, show
from portside.config import Settings, SettingsInvalid
from portside.config.rules import watch_rules_file
from portside.operations.last_pulls import STORED_WITHIN
from portside.operations.retain import Retain
from portside.spec.errors import ManifestUnknown
from portside.spec.names import QualifiedReference
from portside.spec.retention import Verdict
from portside.spec.rules import Rules
from portside.stores.actors import NOBODY

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing."
)


@click.group("retention", cls=CommandGroup)
def retention() -> None:
    """Apply the rules of retention, and explain them."""


@retention.command("run")
@dry_run_option
@json_option
@registry_command("rules")
async def run(*, dry_run: bool, as_json: bool, **given: Any) -> None:
    """Delete what the rules do not keep, and say why.

    A running registry does so by itself. Deleted content can be restored for as long as the
    registry keeps it (--keep-deleted of `portside serve`); then its space is freed.

    If a rule has keep-pulled-within, the command waits for twelve seconds, until each worker of the
    registry has stored the pulls that it has answered.
    """
    settings = read_settings(given)
    rules = _read_rules(settings)
    async with opened_metadata(settings) as metadata:
        begun = now()
        if rules.heed_pulls and not dry_run:
            await asyncio.sleep(STORED_WITHIN)
        retain = Retain(metadata, clock=lambda: begun, by=command_actor())
        outcomes = await carry_out(retain, retain.plan_each(rules.of), dry_run=dry_run)
    show(outcomes, as_json=as_json)


@retention.command("explain")
@reference_argument(MANIFEST)
@json_option
@registry_command("rules")
async def explain(*, reference: QualifiedReference, as_json: bool, **given: Any) -> None:
    """Explain why a tag or a manifest stays, or goes when the rules are applied next."""
    settings = read_settings(given)
    rules = _read_rules(settings).of(reference.repository)
    async with opened_metadata(settings) as metadata:
        digest = await find_digest(metadata, reference)
        plan = await Retain(metadata, clock=now, by=NOBODY).plan(reference.repository, rules)
    if digest not in plan.verdicts.manifests:
        raise ManifestUnknown(f"repository {reference.repository} has no manifest {digest}")
    named = [tag.name for tag in plan.content.tags if tag.digest == digest]
    if reference.tag:
        named = [reference.tag]
    verdicts = {f"tag {name}": plan.verdicts.tags[name] for name in named}
    verdicts[f"manifest {digest}"] = plan.verdicts.manifests[digest]
    if as_json:
        show_json({name.partition(" ")[2]: _document(found) for name, found in verdicts.items()})
        return
    show_details((name, _sentence(found)) for name, found in verdicts.items())


def _read_rules(settings: Settings) -> Rules:
    """Read the rules file, once; raises FileInvalid and SettingsInvalid."""
    if not settings.rules:
        raise SettingsInvalid("rules is empty: name the file with the rules of retention")
    return watch_rules_file(settings.rules)()


def _sentence(verdict: Verdict) -> str:
    return f"{'goes' if verdict.goes else 'stays'}: {verdict}"


def _document(verdict: Verdict) -> dict[str, Any]:
    return {"goes": verdict.goes, "reason": str(verdict)}
