"""What a store must be able to do so that a registry can be kept from changing.

An ability beside those of `interfaces`; what those say of Unavailable and durability holds here.
While a registry is read-only, every method that would change its content or its access control
raises ReadOnly. All that only reads goes on, upload sessions may end, and failed attempts to log in
are noted.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class RegistryState(msgspec.Struct, frozen=True):
    """Which registry a store holds, and whether it may change.

    `identity` is random and the store's own. `copy_of` is the identity of the registry that this
    one is a copy of and whose changes it will take; None for a registry that stands for itself.
    `storage` is what its blob store is told from others by, if that was noted; see `marks`.
    """

    identity: str
    copy_of: str | None
    read_only: bool
    storage: str | None


class ReadOnlySwitch(Protocol):
    """The read-only switch, kept where every process of every node sees it."""

    async def registry_state(self) -> RegistryState:
        """Read where the registry stands."""
        ...

    async def set_read_only(self, *, read_only: bool) -> RegistryState:
        """Set the switch or lift it; gives where the registry stood before.

        Once this has returned, whatever was under way is committed or refused, and nothing changes
        any more. A copy that may change is a copy no longer.
        """
        ...

    async def note_storage(self, storage: str) -> None:
        """Note which blob store belongs to the registry, unless one was noted before."""
        ...
