"""The periods of the server that started last, beside what else is known of the registry."""

from __future__ import annotations

from portside.stores.metadata.engine import Noun, require_row
from portside.stores.periods import Periods

_GET = "SELECT keep_deleted, tag_history, gc_grace, upload_expiry FROM registry"
_NOTE = """
    UPDATE registry SET keep_deleted = $1, tag_history = $2, gc_grace = $3, upload_expiry = $4
"""


class NotedPeriods(Noun):
    """The PeriodStore."""

    async def note_periods(self, periods: Periods) -> None:
        """Look first: a server with the same settings starts without a write."""
        if await self.noted_periods() != periods:
            await self._database.execute(_NOTE, *periods)

    async def noted_periods(self) -> Periods | None:
        """Read the row, whose columns are written together."""
        row = require_row(await self._database.find(_GET))
        return None if row[0] is None else Periods(*row)
