"""Sweep: end expired upload sessions for as long as a worker lives."""

from __future__ import annotations

import asyncio
import logging
import random

from portside.bootstrap.clock import now
from portside.bootstrap.stores import Stores
from portside.config import Settings
from portside.operations.collect import expire_uploads
from portside.spec.errors import RegistryError

log = logging.getLogger(__name__)


async def sweep(settings: Settings, stores: Stores) -> None:
    """Look for expired sessions again and again; whatever goes wrong in a look is logged."""
    while True:
        # Workers that started together do not look together.
        await asyncio.sleep(settings.upload_sweep_interval * random.uniform(0.5, 1))  # noqa: S311
        try:
            before = now() - settings.upload_expiry * 1_000_000
            gone = await expire_uploads(stores.metadata, stores.blobs, before)
        except RegistryError as error:
            log.warning("looking for expired uploads: %s", error)
        except Exception:
            # Whatever it is, the next look may go well; without one, uploads would never end.
            log.exception("looking for expired uploads failed")
        else:
            if gone:
                log.info("%d upload sessions expired", gone)
