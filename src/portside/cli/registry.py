"""The registry that a command works on: its settings and its stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from portside.auth.registrar import Registrar
from portside.bootstrap import Stores, now, opened_stores
from portside.config import Settings, make_settings
from portside.spec.errors import Unavailable


def read_settings(given: dict[str, Any]) -> Settings:
    """Make settings of what the options hold; raises SettingsInvalid."""
    return make_settings({name: value for name, value in given.items() if value not in (None, ())})


def require_registry(settings: Settings) -> None:
    """Refuse a directory that holds no registry, rather than to make one; raises Unavailable."""
    if not (settings.root / "portside.db").is_file():
        nothing = f"{settings.root} holds no registry; name its directory with --data"
        raise Unavailable(nothing)


@contextmanager
def opened_registry(settings: Settings, *, create: bool = False) -> Iterator[Stores]:
    """Open the stores for the length of a block, with the newest schema.

    With `create`, a registry is made where there is none. Raises Unavailable and StorageFull.
    """
    if not create:
        require_registry(settings)
    with opened_stores(settings) as stores:
        stores.create()
        yield stores


@contextmanager
def opened_registrar(settings: Settings, *, create: bool = False) -> Iterator[Registrar]:
    """Open the stores for what the registrar does; see opened_registry."""
    with opened_registry(settings, create=create) as stores:
        yield Registrar(stores.access, clock=now)
