"""`portside usage`: what takes the space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from portside.bootstrap import connected_stores
from portside.cli.options import Command
from portside.cli.output import json_option, show_json, show_table, shown_size
from portside.cli.registry import read_settings, registry_command, require_registry
from portside.config.rules import watch_rules_file
from portside.spec.patterns import PatternInvalid, RepositoryPattern
from portside.stores.usage import RegistryUsage, Usage


def _parse(_context: click.Context, _parameter: click.Parameter, given: str) -> RepositoryPattern:
    try:
        return RepositoryPattern.parse(given)
    except PatternInvalid as error:
        raise click.BadParameter(str(error)) from error


@click.command("usage", cls=Command)
@click.option(
    "--repository",
    "pattern",
    default="*",
    metavar="PATTERN",
    callback=_parse,
    help="Measure one repository, or those that a pattern such as team/* matches.",
)
@json_option
@registry_command("rules")
async def usage(*, pattern: RepositoryPattern, as_json: bool, **given: Any) -> None:
    """Show how many bytes each repository takes, the largest first.

    The size is that of all blobs and manifests that a repository has. No other repository has the
    exclusive bytes, and the others are shared. Deleted bytes can still be restored, and
    unreferenced ones wait to be collected: see `portside collect`. The total counts each blob once.
    With --rules, the quota of each repository is shown, and how much of it is used.
    """
    settings = read_settings(given)
    rules = watch_rules_file(settings.rules)()
    async with connected_stores(settings, read_only=True) as stores:
        await require_registry(stores)
        await stores.engine.database.require_newest()
        found = await stores.metadata.measure_usage(pattern)
    quotas = {item.name: rules.of(item.name).quota for item in found.repositories}
    if as_json:
        show_json(_document(found, quotas))
        return
    columns: tuple[str, ...] = (
        "repository",
        "manifests",
        "tags",
        "size",
        "exclusive",
        "shared",
        "deleted",
        "unreferenced",
    )
    rows: list[tuple[str, ...]] = [(item.name, *_cells(item.usage)) for item in found.repositories]
    if rows:
        rows.append(("total", *_cells(found.total)))
    if any(quotas.values()):
        columns = (*columns, "quota", "used")
        shares = [_share(item.usage, quotas[item.name]) for item in found.repositories]
        rows = [(*row, *share) for row, share in zip(rows, [*shares, ("", "")], strict=True)]
    show_table(columns, rows, empty="No repositories.")


def _share(usage: Usage, quota: int | None) -> tuple[str, str]:
    """Return a quota, and the share of it that is used."""
    return ("none", "") if quota is None else (shown_size(quota), f"{usage.bytes / quota:.0%}")


def _cells(usage: Usage) -> tuple[str, ...]:
    sizes = (usage.bytes, usage.exclusive, usage.shared, usage.deleted, usage.unreferenced)
    return (str(usage.manifests), str(usage.tags), *map(shown_size, sizes))


def _document(found: RegistryUsage, quotas: Mapping[str, int | None]) -> dict[str, Any]:
    return {
        "repositories": [
            {"name": item.name, **_figures(item.usage), "quota_bytes": quotas[item.name]}
            for item in found.repositories
        ],
        "total": _figures(found.total),
    }


def _figures(usage: Usage) -> dict[str, int]:
    return {
        "manifests": usage.manifests,
        "tags": usage.tags,
        "bytes": usage.bytes,
        "exclusive_bytes": usage.exclusive,
        "shared_bytes": usage.shared,
        "deleted_bytes": usage.deleted,
        "unreferenced_bytes": usage.unreferenced,
    }
