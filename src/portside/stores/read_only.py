"""The read-only mode of a registry.

An ability beside those of `interfaces`, with the same rules for Unavailable and durability. While a
registry is read-only, every method that would change its content or its access control raises
ReadOnly. Reads work, upload sessions may end, and failed logins are counted.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from portside.stores.actors import Actor


class Successor(msgspec.Struct, frozen=True):
    """The registry that took another one's place.

    `place` is where it is stored, for operators and without secrets; `url` is what clients call, or
    empty where that is not set.
    """

    place: str
    url: str = ""


class RegistryState(msgspec.Struct, frozen=True):
    """Which registry a store holds, and whether it may change.

    `identity` is random and the store's own. `copy_of` is the identity of the registry that this
    one is a copy of and whose changes it will take; None for an independent registry. `storage` is
    the name in the mark of its blob store, if there is one; see `marks`. `successor` is where it
    was moved, if it was.
    """

    identity: str
    copy_of: str | None
    read_only: bool
    storage: str | None
    successor: Successor | None = None


class ReadOnlySwitch(Protocol):
    """The switch of the mode, stored where every process of every node sees it."""

    async def registry_state(self) -> RegistryState:
        """Read the state of the registry."""
        ...

    async def registry_identity(self) -> str:
        """Read which registry this is, also in the schema of an older version."""
        ...

    async def set_read_only(self, *, read_only: bool, by: Actor | None = None) -> RegistryState:
        """Turn the mode on or off; return the state before.

        A change of it is recorded if `by` says who makes it.

        When this returns, every change that was under way is committed or refused, and nothing
        changes any more. Turning the mode off makes a copy independent.
        """
        ...

    async def note_storage(self, storage: str) -> None:
        """Record which blob store belongs to the registry, unless one is recorded."""
        ...
