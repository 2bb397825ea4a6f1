"""The registry that a command works on: its settings and its stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

from portside.auth.registrar import Registrar
from portside.bootstrap import Stores, connected_stores, now
from portside.cli.options import settings_options
from portside.config import Settings, make_settings
from portside.spec.errors import Unavailable


def read_settings(given: dict[str, Any]) -> Settings:
    """Make settings of what the options hold; raises SettingsInvalid."""
    return make_settings({name: value for name, value in given.items() if value not in (None, ())})


REGISTRY = (
    "data",
    "database",
    "database_connect_timeout",
    "database_statement_timeout",
)
"""The settings that say where the identities of a registry are kept."""

BLOBS = ("storage", "storage_http")
"""The settings that say where its blobs are kept."""


def registry_command(
    *names: str,
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Make a coroutine function a command on a registry, with the options for it and those named.

    It runs in an event loop, and must not wait there for a person or for what takes long: Ctrl-C
    would not be heard.
    """

    def decorate(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:
            asyncio.run(command(**given))

        return settings_options(*REGISTRY, *names)(run)

    return decorate


async def require_registry(stores: Stores) -> None:
    """Refuse stores that hold no registry, rather than to make one; raises Unavailable."""
    if not await stores.engine.is_made():
        nothing = (
            f"{stores.engine.place} does not contain a registry; use --data or --database to say"
            " where the registry is"
        )
        raise Unavailable(nothing)


@asynccontextmanager
async def opened_registry(settings: Settings, *, create: bool = False) -> AsyncIterator[Stores]:
    """Open the stores for the length of a block, with a schema that can be used.

    With `create`, a registry is made where there is none. Raises Unavailable, StorageFull,
    SchemaTooNew and SchemaTooOld.
    """
    async with connected_stores(settings) as stores:
        if not create:
            await require_registry(stores)
        if settings.database:
            # Blobs may be out of reach from here, and are none of an identity's business.
            await stores.engine.prepare()
        else:
            await stores.create()
        yield stores


@asynccontextmanager
async def opened_registrar(settings: Settings, *, create: bool = False) -> AsyncIterator[Registrar]:
    """Open the stores for what the registrar does; see opened_registry."""
    async with opened_registry(settings, create=create) as stores:
        yield Registrar(stores.access, clock=now)
