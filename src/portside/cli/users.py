"""`portside user`: people who log in with a password."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from portside.auth.registrar import Registrar, RegistrarError, Registration, check_name
from portside.bootstrap import connected_stores
from portside.cli.options import CommandGroup, settings_options
from portside.cli.output import iso_time, json_option, show_json, show_table, shown_time
from portside.cli.registry import (
    ADDITION,
    REGISTRY,
    create_option,
    opened_registrar,
    read_settings,
    registrar_command,
)
from portside.config import Settings
from portside.files.text import read_first_line
from portside.stores.access import IdentityKind, StoredIdentity

LONGEST_LINE = 4096
"""How many bytes of a line are read for a password; no password is as long."""

PASSWORDS = ("password_cost", "min_password_length")
"""The settings for new passwords."""

FIRST = "This is the first identity: the registry now requires authentication."

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("user", cls=CommandGroup)
def user() -> None:
    """Manage users: people with a name and a password."""


def _password_options(command: Command) -> Command:
    """Add the options that pass a password without showing it to other processes."""
    for option in (
        click.option(
            "--password-file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Read the password from the first line of FILE.",
        ),
        click.option(
            "--password-stdin",
            is_flag=True,
            help="Read the password from the first line of standard input.",
        ),
    ):
        command = option(command)
    return command


@user.command("add")
@click.argument("name")
@_password_options
@create_option
@json_option
@settings_options(*ADDITION, *PASSWORDS)
def add_user(
    *,
    name: str,
    password_stdin: bool,
    password_file: Path | None,
    create: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Add user NAME; prompts for the password.

    Adding the first user turns authentication on.
    """
    settings = read_settings(given)
    check_name(name)
    asyncio.run(_require_free(settings, name, create=create))
    password = _password(name, stdin=password_stdin, file=password_file)
    added = asyncio.run(_add(settings, name, password, create=create))
    if as_json:
        show_json(_document(added.identity))
    else:
        click.echo(f"User {name} added.")
    if added.is_first:
        click.echo(FIRST, err=True)


async def _require_free(settings: Settings, name: str, *, create: bool) -> None:
    """Refuse a name that is taken before a password is asked for; creates nothing yet."""
    if create:
        async with connected_stores(settings) as stores:
            if not await stores.engine.database.is_made():
                return
    async with opened_registrar(settings, create=create) as registrar:
        await registrar.require_free(name)


async def _add(settings: Settings, name: str, password: str, *, create: bool) -> Registration:
    async with opened_registrar(settings, create=create) as registrar:
        return await registrar.add_user(name, password, **_terms(settings))


@user.command("list")
@json_option
@registrar_command
async def list_users(registrar: Registrar, *, as_json: bool) -> None:
    """List users."""
    found = await registrar.list_identities(IdentityKind.USER)
    if as_json:
        show_json([_document(identity) for identity in found])
        return
    rows = [
        (one.name, status_of(one), shown_time(one.created), shown_time(_password_changed(one)))
        for one in found
    ]
    show_table(("name", "status", "created", "password changed"), rows, empty="No users.")


@user.command("remove")
@click.argument("name")
@registrar_command
async def remove_user(registrar: Registrar, *, name: str) -> None:
    """Remove user NAME; takes effect at once.

    Authentication stays on, even after the last user is removed.
    """
    await registrar.remove(name, IdentityKind.USER)
    click.echo(f"User {name} removed.")


@user.command("passwd")
@click.argument("name")
@_password_options
@settings_options(*REGISTRY, *PASSWORDS)
def change_password(
    *, name: str, password_stdin: bool, password_file: Path | None, **given: Any
) -> None:
    """Change the password of user NAME.

    The old one is rejected at once.
    """
    settings = read_settings(given)
    asyncio.run(_require_user(settings, name))
    password = _password(name, stdin=password_stdin, file=password_file)
    asyncio.run(_change_password(settings, name, password))
    click.echo(f"Password of {name} changed.")


async def _require_user(settings: Settings, name: str) -> None:
    async with opened_registrar(settings) as registrar:
        await registrar.get(name, IdentityKind.USER)


async def _change_password(settings: Settings, name: str, password: str) -> None:
    async with opened_registrar(settings) as registrar:
        await registrar.change_password(name, password, **_terms(settings))


def _terms(settings: Settings) -> dict[str, int]:
    """Return what holds for new passwords."""
    return {"cost": settings.password_cost, "min_length": settings.min_password_length}


@user.command("disable")
@click.argument("name")
@registrar_command
async def disable_user(registrar: Registrar, *, name: str) -> None:
    """Disable user NAME; the password is kept."""
    await registrar.enable_user(name, enabled=False)
    click.echo(f"User {name} disabled.")


@user.command("enable")
@click.argument("name")
@registrar_command
async def enable_user(registrar: Registrar, *, name: str) -> None:
    """Enable user NAME."""
    await registrar.enable_user(name, enabled=True)
    click.echo(f"User {name} enabled.")


def _document(identity: StoredIdentity) -> dict[str, Any]:
    return {
        "name": identity.name,
        "status": status_of(identity),
        "created": iso_time(identity.created),
        "password_changed": iso_time(_password_changed(identity)),
    }


def status_of(identity: StoredIdentity) -> str:
    """Return the status of a user or a token, as lists show it."""
    return "enabled" if identity.enabled else "disabled"


def _password_changed(identity: StoredIdentity) -> int:
    return max(password.created for password in identity.passwords)


def _password(name: str, *, stdin: bool, file: Path | None) -> str:
    """Read a password, or prompt for it twice; raises RegistrarError."""
    if stdin and file is not None:
        raise click.UsageError("use either --password-stdin or --password-file")
    if stdin:
        return _first_line(0, "standard input")
    if file is not None:
        return _first_line(file, str(file))
    if sys.stdin is None or not sys.stdin.isatty():
        nobody = "cannot ask for the password without a terminal"
        raise RegistrarError(f"{nobody}; use --password-stdin or --password-file FILE")
    while True:
        asked: str = click.prompt(f"Password for {name}", hide_input=True, err=True)
        if asked == click.prompt("Repeat for confirmation", hide_input=True, err=True):
            return asked
        click.echo("The two passwords differ; enter both again.", err=True)


def _first_line(file: Path | int, shown: str) -> str:
    try:
        with open(file, "rb", closefd=isinstance(file, Path)) as lines:
            return read_first_line(lines, LONGEST_LINE)
    except OSError as error:
        raise RegistrarError(f"cannot read {shown}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RegistrarError(f"the password in {shown} is not valid UTF-8") from error
