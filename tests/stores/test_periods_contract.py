"""Every metadata store remembers how long the server keeps content."""

from __future__ import annotations

from portside.stores.periods import Periods
from stores.conftest import Shelf

WEEK = Periods(keep_deleted=7 * 86400, tag_history=1, gc_grace=2, upload_expiry=3)
NOTHING = Periods(keep_deleted=0, tag_history=0, gc_grace=1, upload_expiry=1)


async def test_none_before_the_first_start(shelf: Shelf) -> None:
    """A registry that was never served has promised nothing."""
    assert await shelf.metadata().noted_periods() is None


async def test_the_last_start_counts(shelf: Shelf) -> None:
    """Each process sees what the last server has noted, also that it keeps nothing."""
    metadata, command = shelf.metadata(), shelf.metadata()
    for periods in (WEEK, NOTHING, WEEK, WEEK):
        await metadata.note_periods(periods)
        assert await command.noted_periods() == periods


async def test_read_only(shelf: Shelf) -> None:
    """A registry that is read-only can be served, with other options than before."""
    metadata = shelf.metadata()
    await metadata.set_read_only(read_only=True)
    await metadata.note_periods(WEEK)
    assert await metadata.noted_periods() == WEEK
