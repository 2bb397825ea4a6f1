"""`portside keys`: the keys that sign the registry's tokens."""

from __future__ import annotations

from typing import Any

import click

from portside.bootstrap import now, space_check
from portside.cli.identity import command_actor
from portside.cli.options import CommandGroup
from portside.cli.output import iso_time, json_option, show_json, show_table, shown_time
from portside.cli.registry import opened_registry, read_settings, registry_command
from portside.stores.access import SigningKey


@click.group("keys", cls=CommandGroup)
def keys() -> None:
    """Manage the keys that sign the registry's tokens."""


@keys.command("list")
@json_option
@registry_command()
async def list_keys(*, as_json: bool, **given: Any) -> None:
    """List signing keys, newest first.

    The newest key signs; all keys verify. Private keys are never shown.
    """
    async with opened_registry(read_settings(given)) as stores:
        found = await stores.access.list_keys()
    if as_json:
        show_json([_document(key, signs=key is found[0]) for key in found])
        return
    rows = [
        (key.id, shown_time(key.created), "signs" if key is found[0] else "verifies")
        for key in found
    ]
    show_table(
        ("id", "created", "use"), rows, empty="No keys; the first `portside serve` creates one."
    )


@keys.command("rotate")
@json_option
@registry_command("access_token_life", "refresh_token_life", "reserve_bytes")
async def rotate(*, as_json: bool, **given: Any) -> None:
    """Create a new signing key.

    Tokens signed with older keys stay valid. An older key is removed by the first rotation after
    the last of its tokens has expired.
    """
    # Help and lists need not wait for a library of cryptography.
    from portside.auth.tokens.keys import rotate_keys  # noqa: PLC0415

    settings = read_settings(given)
    life = max(settings.access_token_life, settings.refresh_token_life) * 1_000_000
    require_space = space_check(settings)
    async with opened_registry(settings) as stores:
        if require_space is not None:
            require_space()
        key = await rotate_keys(stores.access, now(), token_life=life, by=command_actor())
    if as_json:
        show_json(_document(key, signs=True))
    else:
        click.echo(f"The key {key.id} now signs tokens.")


def _document(key: SigningKey, *, signs: bool) -> dict[str, Any]:
    return {"id": key.id, "created": iso_time(key.created), "signs": signs}
