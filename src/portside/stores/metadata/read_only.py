"""Which registry this is, and whether it is read-only.

Triggers refuse changes while it is (`schema`). Setting the mode waits for every transaction that
has changed what it guards.
"""

from __future__ import annotations

from portside.stores.actors import Actor
from portside.stores.events import EventAction, NewEvent
from portside.stores.metadata.engine import Noun, Queries, Transaction, require_row
from portside.stores.metadata.events import record_events
from portside.stores.metadata.schema.steps import GUARDED
from portside.stores.read_only import RegistryState, Successor

_GET = "SELECT identity, copy_of, read_only, storage, successor, successor_url FROM registry"
_GET_IDENTITY = "SELECT identity FROM registry"
_SET = "UPDATE registry SET read_only = TRUE"
_LIFT = """
    UPDATE registry
    SET read_only = FALSE, copy_of = NULL, successor = NULL, successor_url = NULL
"""
_NOTE_STORAGE = "UPDATE registry SET storage = $1 WHERE storage IS NULL"


class ReadOnlyMode(Noun):
    """The ReadOnlySwitch."""

    async def registry_state(self) -> RegistryState:
        """Read the row."""
        return await _read(self._database)

    async def registry_identity(self) -> str:
        """Read a column that the row had from the first."""
        identity: str = require_row(await self._database.find(_GET_IDENTITY))[0]
        return identity

    async def set_read_only(self, *, read_only: bool, by: Actor | None = None) -> RegistryState:
        """Lock what is guarded, and write the row."""

        async def job(transaction: Transaction) -> RegistryState:
            await transaction.lock_tables(GUARDED)
            before = await lock_state(transaction)
            if not read_only:
                await lift(transaction, before, by)
                return before
            if not before.read_only:
                # Before the mode is on, which refuses events as well.
                await _record(transaction, by, EventAction.READ_ONLY_SET)
            await transaction.execute(_SET)
            return before

        return await self._database.write(job)

    async def note_storage(self, storage: str) -> None:
        """Write the row if it names no blob store yet."""
        await self._database.execute(_NOTE_STORAGE, storage)


async def lock_state(transaction: Transaction) -> RegistryState:
    """Read the row, which nobody else can change until the transaction has ended."""
    return await _read(transaction, " FOR NO KEY UPDATE")


async def lift(transaction: Transaction, before: RegistryState, by: Actor | None) -> None:
    """Write the row, and record a change of the mode."""
    await transaction.execute(_LIFT)
    if before.read_only:
        await _record(transaction, by, EventAction.READ_ONLY_LIFTED)


async def _record(transaction: Transaction, by: Actor | None, action: EventAction) -> None:
    if by is not None:
        await record_events(transaction, by, [NewEvent(action)])


async def _read(queries: Queries, lock: str = "") -> RegistryState:
    row = require_row(await queries.find(f"{_GET}{lock}"))
    identity, copy_of, read_only, storage, place, url = row
    successor = Successor(place, url or "") if place is not None else None
    return RegistryState(identity, copy_of, bool(read_only), storage, successor)
