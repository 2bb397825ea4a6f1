"""`portside scope-map`: what tokens may do, under a name."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from portside.auth.registrar import (
    Registrar,
    ScopeMapChange,
    check_spelling,
    parse_scope_rules,
)
from portside.cli.options import CommandGroup
from portside.cli.output import (
    iso_time,
    json_option,
    show_details,
    show_json,
    show_table,
    shown_time,
)
from portside.cli.registry import (
    ADDITION,
    create_option,
    opened_registrar,
    read_settings,
    registrar_command,
    registry_command,
)
from portside.spec.actions import acr_names
from portside.stores.access import ScopeMap, ScopeRule

RULE = "PATTERN:ACTIONS"


@click.group("scope-map", cls=CommandGroup)
def scope_map() -> None:
    """Manage scope maps: what tokens may do in which repositories.

    PATTERN is the name of a repository, or a prefix followed by a star. ACTIONS are content/read,
    content/write, content/delete, metadata/read and metadata/write, separated by commas, or a star
    for all of them.
    """


@scope_map.command("create")
@click.argument("name")
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    required=True,
    metavar=RULE,
    help="Allowed actions, such as 'team/*:content/read,metadata/read'; repeatable.",
)
@click.option("--description", default="", help="One line that says what the scope map is for.")
@create_option
@json_option
@registry_command("reserve_bytes")
async def create_scope_map(
    *,
    name: str,
    repositories: tuple[str, ...],
    description: str,
    create: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Create scope map NAME."""
    settings = read_settings(given)
    check_spelling(name)
    rules = parse_scope_rules(repositories)
    async with opened_registrar(settings, create=create) as registrar:
        created = await registrar.add_scope_map(name, rules, description=description)
    if as_json:
        show_json(_document(created))
    else:
        click.echo(f"Scope map {name} created.")


@scope_map.command("list")
@json_option
@registrar_command
async def list_scope_maps(registrar: Registrar, *, as_json: bool) -> None:
    """List scope maps, with what they allow."""
    found = await registrar.list_scope_maps()
    if as_json:
        show_json([_document(one) for one in found])
        return
    rows = [
        (one.name, " ".join(map(_written, one.rules)), shown_time(one.created), one.description)
        for one in found
    ]
    show_table(("name", "repositories", "created", "description"), rows, empty="No scope maps.")


@scope_map.command("show")
@click.argument("name")
@json_option
@registrar_command
async def show_scope_map(registrar: Registrar, *, name: str, as_json: bool) -> None:
    """Show scope map NAME."""
    found = await registrar.get_scope_map(name)
    if as_json:
        show_json(_document(found))
        return
    pairs = [
        ("name", found.name),
        ("description", found.description),
        ("created", shown_time(found.created)),
        *(("repository", _written(rule)) for rule in found.rules),
    ]
    show_details(pairs)


@scope_map.command("update")
@click.argument("name")
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    metavar=RULE,
    help="Add a pattern, or replace its actions; repeatable.",
)
@click.option(
    "--remove-repository",
    "without",
    multiple=True,
    metavar="PATTERN",
    help="Remove a pattern; repeatable.",
)
@click.option("--description", help="Replace the description.")
@partial(registrar_command, settings=ADDITION)
async def update_scope_map(
    registrar: Registrar,
    *,
    name: str,
    repositories: tuple[str, ...],
    without: tuple[str, ...],
    description: str | None,
) -> None:
    """Change scope map NAME; takes effect at once for all of its tokens."""
    change = ScopeMapChange(parse_scope_rules(repositories), without, description)
    if change == ScopeMapChange():
        options = "--repository, --remove-repository or --description"
        raise click.UsageError(f"nothing to change; use {options}")
    await registrar.change_scope_map(name, change)
    click.echo(f"Scope map {name} updated.")


@scope_map.command("delete")
@click.argument("name")
@registrar_command
async def delete_scope_map(registrar: Registrar, *, name: str) -> None:
    """Delete scope map NAME; fails if a token uses it."""
    await registrar.remove_scope_map(name)
    click.echo(f"Scope map {name} deleted.")


def _document(found: ScopeMap) -> dict[str, Any]:
    return {
        "name": found.name,
        "description": found.description,
        "created": iso_time(found.created),
        "repositories": [
            {"pattern": str(rule.pattern), "actions": acr_names(rule.actions)}
            for rule in found.rules
        ],
    }


def _written(rule: ScopeRule) -> str:
    """Return a rule as `--repository` accepts it."""
    return f"{rule.pattern}:{','.join(acr_names(rule.actions))}"
