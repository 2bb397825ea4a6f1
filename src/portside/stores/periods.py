"""The periods for which a registry keeps what it could free, as its server applies them.

Commands run beside the server, without its options. What they say about the trash, and what they
collect, has to be what the server promises to clients.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Periods(NamedTuple):
    """How long content is kept, in seconds; the settings of the same names say more."""

    keep_deleted: int
    tag_history: int
    gc_grace: int
    upload_expiry: int


class PeriodStore(Protocol):
    """Stores the periods where every command and every node finds them."""

    async def note_periods(self, periods: Periods) -> None:
        """Record the periods of a server that starts; those of the last one count."""
        ...

    async def noted_periods(self) -> Periods | None:
        """Return the periods of the server that started last; None if none has been recorded."""
        ...
