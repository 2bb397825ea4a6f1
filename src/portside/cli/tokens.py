"""`portside token`: names and passwords for programs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import click

from portside.auth.registrar import (
    PASSWORD_NUMBERS,
    MadePassword,
    Registrar,
    Registration,
    TokenChange,
)
from portside.bootstrap import now
from portside.cli.options import CommandGroup
from portside.cli.output import (
    iso_time,
    json_option,
    show_details,
    show_json,
    show_table,
    shown_time,
)
from portside.cli.registry import ADDITION, registrar_command
from portside.cli.users import FIRST, status_of
from portside.stores.access import IdentityKind, StoredIdentity

END = "30d, 12h, 45m, 2027-01-31 or 2027-01-31T12:00:00Z"

_LENGTH = re.compile(r"([0-9]{1,5})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}

_expires_option = click.option(
    "--expires",
    metavar="WHEN",
    help=f"When the token expires: {END}. Times are in UTC.",
)


def parse_expiry(text: str, since: int) -> int:
    """Read a duration such as `30d`, or a time in ISO 8601, in UTC if it has no zone.

    Times are in microseconds since 1970. Raises UsageError.
    """
    length = _LENGTH.fullmatch(text)
    try:
        if length is not None:
            start = datetime.fromtimestamp(since // 1_000_000, UTC)
            moment = start + timedelta(**{_UNITS[length[2]]: int(length[1])})
        else:
            written = datetime.fromisoformat(text)
            moment = written if written.tzinfo is not None else written.replace(tzinfo=UTC)
        return int(moment.astimezone(UTC).timestamp()) * 1_000_000
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"invalid time {text[:80]!r}: expected {END}") from error


@click.group("token", cls=CommandGroup)
def token() -> None:
    """Manage tokens: credentials for programs."""


@token.command("create")
@click.argument("name")
@click.option("--scope-map", required=True, metavar="MAP", help="Scope map that limits the token.")
@_expires_option
@json_option
@partial(registrar_command, settings=ADDITION)
async def create_token(
    registrar: Registrar, *, name: str, scope_map: str, expires: str | None, as_json: bool
) -> None:
    """Create token NAME, and print its two passwords.

    Both passwords are valid, so that one can be replaced while programs use the other. They cannot
    be shown again.
    """
    end = parse_expiry(expires, now()) if expires is not None else None
    made = await registrar.add_token(name, scope_map, expires=end)
    if as_json:
        show_json(_created_document(made))
    else:
        until = f", until {shown_time(end)}" if end is not None else ""
        click.echo(f"Token {name} created with the scope map {scope_map}{until}.")
        _show_passwords(made.passwords)
    if made.is_first:
        click.echo(FIRST, err=True)


@token.command("list")
@json_option
@registrar_command
async def list_tokens(registrar: Registrar, *, as_json: bool) -> None:
    """List tokens."""
    found = await registrar.list_identities(IdentityKind.TOKEN)
    if as_json:
        show_json([_document(one) for one in found])
        return
    rows = [
        (
            one.name,
            one.scope_map or "",
            _shown_status(one),
            shown_time(one.expires),
            shown_time(one.created),
        )
        for one in found
    ]
    columns = ("name", "scope map", "status", "expires", "created")
    show_table(columns, rows, empty="No tokens.")


@token.command("show")
@click.argument("name")
@json_option
@registrar_command
async def show_token(registrar: Registrar, *, name: str, as_json: bool) -> None:
    """Show token NAME, without its passwords."""
    found = await registrar.get(name, IdentityKind.TOKEN)
    if as_json:
        show_json(_document(found))
        return
    pairs = [
        ("name", found.name),
        ("scope map", found.scope_map or ""),
        ("status", _shown_status(found)),
        ("expires", shown_time(found.expires)),
        ("created", shown_time(found.created)),
        *(
            (f"password{one.number}", f"created {shown_time(one.created)}")
            for one in found.passwords
        ),
    ]
    show_details(pairs)


@token.command("update")
@click.argument("name")
@click.option("--scope-map", metavar="MAP", help="Replace the scope map.")
@_expires_option
@click.option("--no-expiry", is_flag=True, help="Remove the expiry time.")
@click.option(
    "--status", type=click.Choice(["enabled", "disabled"]), help="Enable or disable the token."
)
@registrar_command
async def update_token(
    registrar: Registrar,
    *,
    name: str,
    scope_map: str | None,
    expires: str | None,
    no_expiry: bool,
    status: str | None,
) -> None:
    """Change token NAME; its passwords stay valid."""
    if expires is not None and no_expiry:
        raise click.UsageError("use either --expires or --no-expiry")
    change = TokenChange(
        scope_map=scope_map,
        enabled=status == "enabled" if status is not None else None,
        expires=parse_expiry(expires, now()) if expires is not None else None,
        endless=no_expiry,
    )
    if change == TokenChange():
        options = "--scope-map, --expires, --no-expiry or --status"
        raise click.UsageError(f"nothing to change; use {options}")
    await registrar.change_token(name, change)
    click.echo(f"Token {name} updated.")


@token.command("delete")
@click.argument("name")
@registrar_command
async def delete_token(registrar: Registrar, *, name: str) -> None:
    """Delete token NAME; its passwords are rejected at once."""
    await registrar.remove(name, IdentityKind.TOKEN)
    click.echo(f"Token {name} deleted.")


@token.command("regenerate")
@click.argument("name")
@click.option(
    "--password",
    "number",
    required=True,
    type=click.Choice([str(number) for number in PASSWORD_NUMBERS]),
    help="Which password to replace.",
)
@json_option
@registrar_command
async def regenerate_password(
    registrar: Registrar, *, name: str, number: str, as_json: bool
) -> None:
    """Replace one password of token NAME, and print the new one.

    The old password is rejected at once; the other one stays valid. The new password cannot be
    shown again.
    """
    made = await registrar.regenerate(name, int(number))
    if as_json:
        show_json({"name": name, "passwords": [_password_document(made)]})
    else:
        click.echo(f"Password {number} of the token {name} regenerated.")
        _show_passwords([made])


def _show_passwords(passwords: Iterable[MadePassword]) -> None:
    """Print new passwords; they cannot be shown again."""
    shown = [(f"password{password.number}", password.value) for password in passwords]
    show_details(shown)
    which, them = ("These passwords are", "them") if len(shown) > 1 else ("This password is", "it")
    click.echo(f"{which} shown only once: store {them} in a safe place now.")


def _created_document(made: Registration) -> dict[str, Any]:
    passwords = [_password_document(password) for password in made.passwords]
    return {**_document(made.identity), "passwords": passwords}


def _password_document(password: MadePassword) -> dict[str, Any]:
    return {"name": f"password{password.number}", "value": password.value}


def _document(found: StoredIdentity) -> dict[str, Any]:
    """Return a token as a document, without its secrets."""
    return {
        "name": found.name,
        "scope_map": found.scope_map,
        "status": status_of(found),
        "expires": iso_time(found.expires),
        "created": iso_time(found.created),
        "passwords": [
            {"name": f"password{password.number}", "created": iso_time(password.created)}
            for password in found.passwords
        ],
    }


def _shown_status(found: StoredIdentity) -> str:
    """Return the status of a token, or that it has expired."""
    is_over = found.expires is not None and found.expires <= now()
    return "expired" if is_over else status_of(found)
