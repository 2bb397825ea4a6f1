"""What retention and purges show of what goes, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import click

from portside.cli.output import counted, show_json, show_table, shown_size
from portside.operations.retain import Plan, Retain
from portside.stores.properties import Deleted


class Outcome(NamedTuple):
    """A plan, the bytes that it frees, and what was deleted; None for a plan alone."""

    plan: Plan
    size: int
    deleted: Deleted | None


async def carry_out(retain: Retain, plans: AsyncIterator[Plan], *, dry_run: bool) -> list[Outcome]:
    """Carry out each plan that deletes anything, unless it is only to be shown."""
    outcomes = []
    async for plan in plans:
        if plan.tags or plan.manifests:
            size = await retain.size(plan)
            outcomes.append(Outcome(plan, size, None if dry_run else await retain.carry_out(plan)))
    return outcomes


def show(outcomes: list[Outcome], *, as_json: bool) -> None:
    """Print what goes or went, why, and the bytes."""
    if as_json:
        show_json([_document(outcome) for outcome in outcomes])
        return
    rows = [row for outcome in outcomes for row in _rows(outcome)]
    show_table(("repository", "what", "why"), rows, empty="Nothing to delete.")
    if rows:
        click.echo(_summary(outcomes))


def _summary(outcomes: list[Outcome]) -> str:
    tags = sum(len(_names(outcome).tags) for outcome in outcomes)
    manifests = sum(len(_names(outcome).manifests) for outcome in outcomes)
    size = sum(outcome.size for outcome in outcomes)
    is_planned = any(outcome.deleted is None for outcome in outcomes)
    what = f"{counted(tags, 'tag')} and {counted(manifests, 'manifest')}"
    freed = f"the garbage collector then frees {shown_size(size)}"
    if is_planned:
        return f"{what} would be deleted; {freed}."
    return f"{what} deleted; {freed}."


def _names(outcome: Outcome) -> Deleted:
    """Return what was deleted, or what would be."""
    if outcome.deleted is not None:
        return outcome.deleted
    plan = outcome.plan
    return Deleted([each.digest for each in plan.manifests], [each.name for each in plan.tags])


def _rows(outcome: Outcome) -> list[tuple[str, str, str]]:
    names, plan = _names(outcome), outcome.plan
    verdicts = plan.verdicts
    found = [(f"tag {name}", verdicts.tags[name]) for name in names.tags]
    found += [(digest, verdicts.manifests[digest]) for digest in names.manifests]
    return [(plan.repository, what, str(verdict)) for what, verdict in found]


def _document(outcome: Outcome) -> dict[str, Any]:
    names, plan = _names(outcome), outcome.plan
    verdicts = plan.verdicts
    digests = {tag.name: tag.digest for tag in plan.content.tags}
    return {
        "repository": plan.repository,
        "tags": [
            {"name": name, "digest": digests[name], "reason": str(verdicts.tags[name])}
            for name in names.tags
        ],
        "manifests": [
            {"digest": digest, "reason": str(verdicts.manifests[digest])}
            for digest in names.manifests
        ],
        "bytes": outcome.size,
        "deleted": outcome.deleted is not None,
    }
