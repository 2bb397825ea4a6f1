"""How long the server keeps content: recorded when it starts, and used by commands."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from portside.bootstrap.stores import Stores
from portside.config import Settings
from portside.spec.errors import StorageFull
from portside.stores.periods import Periods, PeriodStore

log = logging.getLogger(__name__)


async def note_periods(settings: Settings, stores: Stores) -> None:
    """Record the periods of a server that starts; raises Unavailable."""
    try:
        await stores.metadata.note_periods(settings.select(Periods))
    except StorageFull as error:
        # It can serve pulls and deletes nevertheless.
        log.warning("cannot record how long content is kept: %s", error)


async def as_served(
    settings: Settings, metadata: PeriodStore, given: Mapping[str, Any]
) -> Settings:
    """Return the settings of a command with the periods of the server that started last.

    Those that are `given` to the command, by an option, the environment or the file, stay.
    """
    noted = await metadata.noted_periods()
    if noted is None:
        return settings
    periods = noted._asdict().items()
    return settings.replacing({name: value for name, value in periods if given.get(name) is None})
