"""`portside token`: names and passwords for programs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from portside.auth.registrar import (
    PASSWORD_NUMBERS,
    MadePassword,
    Registrar,
    RegistrarError,
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
from portside.cli.registry import registrar_command
from portside.cli.users import FIRST, status_of
from portside.stores.access import IdentityKind, StoredIdentity

END = "30d, 12h, 45m, 2027-01-31 or 2027-01-31T12:00:00Z"

_LENGTH = re.compile(r"([0-9]{1,5})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}

_expires_option = click.option(
    "--expires",
    metavar="WHEN",
    help=f"When the token ends: {END}. A date is its first moment, UTC.",
)


def parse_expiry(text: str, since: int) -> int:
    """Read a length of time such as `30d` or a moment in ISO 8601, of UTC if it names no zone.

    Times are in microseconds since 1970. Raises RegistrarError.
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
        raise RegistrarError(f"{text[:80]!r} is no time; write it as {END}") from error


@click.group("token", cls=CommandGroup)
def token() -> None:
    """Manage tokens: names with two passwords for programs, limited by a scope map."""


@token.command("create")
@click.argument("name")
@click.option("--scope-map", required=True, metavar="MAP", help="What the token may do.")
@_expires_option
@json_option
@registrar_command
async def create_token(
    registrar: Registrar, *, name: str, scope_map: str, expires: str | None, as_json: bool
) -> None:
    """Create the token NAME, and print its passwords.

    Either password will do; two let you replace one while programs use the other. They cannot be
    shown again.
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
    """List tokens by name."""
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
    """Show the token NAME, without its passwords."""
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
        *((f"password{one.number}", f"made {shown_time(one.created)}") for one in found.passwords),
    ]
    show_details(pairs)


@token.command("update")
@click.argument("name")
@click.option("--scope-map", metavar="MAP", help="What the token may do from now on.")
@_expires_option
@click.option("--no-expiry", is_flag=True, help="Let the token never end.")
@click.option("--status", type=click.Choice(["enabled", "disabled"]), help="Let it in, or not.")
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
    """Change the token NAME; its passwords stay."""
    if expires is not None and no_expiry:
        raise RegistrarError("give one of --expires and --no-expiry")
    change = TokenChange(
        scope_map=scope_map,
        enabled=status == "enabled" if status is not None else None,
        expires=parse_expiry(expires, now()) if expires is not None else None,
        endless=no_expiry,
    )
    if change == TokenChange():
        options = "--scope-map, --expires, --no-expiry or --status"
        raise RegistrarError(f"nothing to change; give {options}")
    await registrar.change_token(name, change)
    click.echo(f"Token {name} updated.")


@token.command("delete")
@click.argument("name")
@registrar_command
async def delete_token(registrar: Registrar, *, name: str) -> None:
    """Delete the token NAME; its passwords end at once."""
    await registrar.remove(name, IdentityKind.TOKEN)
    click.echo(f"Token {name} deleted.")


@token.command("regenerate")
@click.argument("name")
@click.option(
    "--password",
    "number",
    required=True,
    type=click.Choice([str(number) for number in PASSWORD_NUMBERS]),
    help="Which password to make anew.",
)
@json_option
@registrar_command
async def regenerate_password(
    registrar: Registrar, *, name: str, number: str, as_json: bool
) -> None:
    """Make a password of the token NAME anew, and print it; the other one stays.

    The old password ends at once. The new one cannot be shown again.
    """
    made = await registrar.regenerate(name, int(number))
    if as_json:
        show_json({"name": name, "passwords": [_password_document(made)]})
    else:
        click.echo(f"Password {number} of the token {name} made anew.")
        _show_passwords([made])


def _show_passwords(passwords: Iterable[MadePassword]) -> None:
    """Print passwords, the only time that this is possible."""
    shown = [(f"password{password.number}", password.value) for password in passwords]
    show_details(shown)
    which, them = ("These passwords are", "them") if len(shown) > 1 else ("This password is", "it")
    click.echo(f"{which} shown only this once: keep {them} in a safe place now.")


def _created_document(made: Registration) -> dict[str, Any]:
    passwords = [_password_document(password) for password in made.passwords]
    return {**_document(made.identity), "passwords": passwords}


def _password_document(password: MadePassword) -> dict[str, Any]:
    return {"name": f"password{password.number}", "value": password.value}


def _document(found: StoredIdentity) -> dict[str, Any]:
    """Write a token without its secrets."""
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
    """Give the status, or the news that it no longer matters."""
    is_over = found.expires is not None and found.expires <= now()
    return "expired" if is_over else status_of(found)
