"""Holds: requests that write to one upload wait for one another, up to a time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from portside.spec.errors import UploadBusy
from portside.spec.uploads import UploadId

Held = TypeVar("Held")


class Backoff(NamedTuple):
    """Seconds between two attempts; each pause is twice as long as the one before it."""

    first: float
    last: float


async def wait_for_hold(
    upload: UploadId,
    patience: float,
    attempt: Callable[[], Awaitable[Held | None]],
    backoff: Backoff,
) -> Held:
    """Try to hold an upload until that succeeds; raises UploadBusy after `patience` seconds."""
    deadline = time.monotonic() + patience
    pause = backoff.first
    while (held := await attempt()) is None:
        if time.monotonic() >= deadline:
            raise UploadBusy(f"upload session {upload} has been in use for {patience:g} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, backoff.last)
    return held
