"""Relocation: what is said where a registry was moved, and somebody still uses the old one."""

from __future__ import annotations

from portside.spec.errors import ReadOnly, RegistryError
from portside.stores.read_only import ReadOnlySwitch, Successor


class Relocation:
    """Explains why a change of the registry was refused."""

    def __init__(self, metadata: ReadOnlySwitch) -> None:
        self._metadata = metadata

    async def explain_to_client(self, error: ReadOnly) -> ReadOnly:
        """Return what a client is told.

        Where the successor is stored is for operators only.
        """
        successor = await self._find_successor()
        if successor is None:
            return error
        if not successor.url:
            return ReadOnly("the registry was moved; ask its operator for the new address")
        return ReadOnly(f"the registry was moved to {successor.url}; push there")

    async def explain_to_operator(self, error: ReadOnly) -> ReadOnly:
        """Return what a command says."""
        successor = await self._find_successor()
        if successor is None:
            return error
        return ReadOnly(
            f"the registry was moved to {successor.place}; name that one, or run"
            " `portside read-only off` to make this one independent"
        )

    async def _find_successor(self) -> Successor | None:
        """Return where the registry was moved, if it was and that can be found out."""
        try:
            return (await self._metadata.registry_state()).successor
        except RegistryError:
            return None
