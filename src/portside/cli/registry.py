"""The registry that a command works on: its settings and its stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import Any

import click

from portside.auth.registrar import Registrar
from portside.bootstrap import Stores, connected_stores, now, space_check
from portside.cli.identity import command_actor
from portside.cli.options import read_cloud_secrets, settings_options
from portside.config import Settings, SettingsInvalid, make_settings
from portside.operations.relocation import Relocation
from portside.spec.errors import ReadOnly, Unavailable
from portside.stores.interfaces import MetadataStore


def read_settings(given: dict[str, Any]) -> Settings:
    """Return the settings that the options, the environment and the file give.

    The secrets that clients of other services look for in the environment are read from their files
    as well. Raises SettingsInvalid.
    """
    read_cloud_secrets()
    given = {name: value for name, value in given.items() if value not in (None, ())}
    settings = make_settings(given)
    if not settings.database and settings.root.is_file():
        raise SettingsInvalid(f"data must be a directory, and {settings.root} is a file")
    return settings


REGISTRY = (
    "data",
    "database",
    "database_connect_timeout",
    "database_statement_timeout",
)
"""The settings that say where the metadata of a registry is stored."""

ADDITION = (*REGISTRY, "reserve_bytes")
"""The settings of commands that add to the metadata."""

BLOBS = ("storage", "storage_http")
"""The settings that say where its blobs are stored."""


def registry_command(
    *names: str,
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Turn a coroutine function into a command with the options for a registry and those named.

    The function runs in an event loop. It must not block there, such as on a prompt: Ctrl-C would
    have no effect.
    """

    def decorate(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:
            asyncio.run(command(**given))

        return settings_options(*REGISTRY, *names)(run)

    return decorate


def registrar_command(
    command: Callable[..., Coroutine[Any, Any, None]], *, settings: tuple[str, ...] = REGISTRY
) -> Callable[..., None]:
    """Make a coroutine function a command that gets a registrar as its first argument.

    The registry has to exist. `settings` are ADDITION for a command that adds something.
    """
    return _opening_command(command, settings, opened_registrar)


def metadata_command(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a coroutine function a command that gets a metadata store as its first argument.

    The registry has to exist.
    """
    return _opening_command(command, REGISTRY, opened_metadata)


def _opening_command(
    command: Callable[..., Coroutine[Any, Any, None]],
    settings: tuple[str, ...],
    opened: Callable[[Settings], AbstractAsyncContextManager[Any]],
) -> Callable[..., None]:
    @wraps(command)
    async def run(**given: Any) -> None:
        taken = read_settings({name: given.pop(name) for name in settings})
        async with opened(taken) as first:
            await command(first, **given)

    return registry_command(*settings)(run)


create_option = click.option(
    "--create", is_flag=True, help="Create the registry if it does not exist yet."
)
"""For commands that can be the first one of a registry: without it, a command that is run in the
wrong directory would change a new registry there, and not the one that is served."""


async def require_registry(stores: Stores, *, can_create: bool = False) -> None:
    """Refuse stores that do not contain a registry; raises Unavailable.

    `can_create` says that the command has the option --create.
    """
    if not await stores.engine.database.is_made():
        nothing = (
            f"{stores.engine.place} does not contain a registry; use --data or --database to say"
            " where the registry is"
        )
        creating = ", or --create to create a new one there" if can_create else ""
        raise Unavailable(f"{nothing}{creating}")


async def require_this_version(stores: Stores) -> None:
    """Refuse stores that are not those of one registry and of this very version.

    Raises Unavailable, SchemaTooNew and SchemaTooOld.
    """
    await stores.require_database()
    await require_registry(stores)
    await stores.engine.database.require_newest()
    await stores.require_storage()


@asynccontextmanager
async def opened_registry(
    settings: Settings, *, create: bool | None = None
) -> AsyncIterator[Stores]:
    """Open the stores of a registry for the duration of a block, with a current schema.

    `create` is the option --create of a command that has it. Raises Unavailable, StorageFull,
    SchemaTooNew and SchemaTooOld.
    """
    async with connected_stores(settings) as stores:
        if not settings.database:
            await stores.require_database()
        if not create:
            await require_registry(stores, can_create=create is not None)
        if settings.database:
            # Identities do not depend on blobs, which may be unreachable from this machine.
            await stores.engine.prepare()
        else:
            await stores.create()
        try:
            yield stores
        except ReadOnly as error:
            raise await Relocation(stores.metadata).explain_to_operator(error) from error


@asynccontextmanager
async def opened_registrar(
    settings: Settings, *, create: bool | None = None
) -> AsyncIterator[Registrar]:
    """Open the stores for a registrar; see `opened_registry`."""
    async with opened_registry(settings, create=create) as stores:
        yield Registrar(
            stores.access, clock=now, require_space=space_check(settings), by=command_actor()
        )


@asynccontextmanager
async def opened_metadata(settings: Settings) -> AsyncIterator[MetadataStore]:
    """Open what is known of the content; see `opened_registry`."""
    async with opened_registry(settings) as stores:
        yield stores.metadata
