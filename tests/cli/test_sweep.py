"""What goes on in a worker beside requests."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from portside.bootstrap import open_stores
from portside.bootstrap.collecting import remove_expired_uploads
from portside.bootstrap.preparing import prepare
from portside.config import Settings, make_settings
from portside.telemetry.tasks import TaskCounts
from support.waiting import PATIENCE


class Counter(logging.Handler):
    """Counts records, and wakes the test at the second one."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.enough = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        assert "removing expired uploads failed" in record.getMessage()
        self.count += 1
        if self.count == 2:
            self.enough.set()


@pytest.fixture
def settings(data: Path) -> Settings:
    """Make a registry that is swept every second."""
    settings = make_settings({"data": str(data), "upload_sweep_interval": 1})
    prepare(settings)
    return settings


async def test_the_sweeper_survives(settings: Settings) -> None:
    """Whatever goes wrong in a look for expired uploads is logged, and the next look comes."""
    counter = Counter()
    logger = logging.getLogger("portside.bootstrap.collecting")
    logger.addHandler(counter)
    stores = open_stores(settings)
    stores.close()
    sweeping = asyncio.create_task(remove_expired_uploads(settings, stores, TaskCounts()))
    try:
        async with asyncio.timeout(PATIENCE):
            await counter.enough.wait()
    finally:
        sweeping.cancel()
        logger.removeHandler(counter)
