"""Locks on files, by which one request at a time writes to an upload."""

from __future__ import annotations

import asyncio
import fcntl
import os


def try_lock(path: str) -> int | None:
    """Open and lock a file, which is made if it is not there; None if another request has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    if not _is_still_at(path, descriptor):
        # Its last holder dropped the file, or put another one there, between our open and our lock.
        os.close(descriptor)
        return None
    return descriptor


def _is_still_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


async def or_close(trying: asyncio.Future[int | None]) -> int | None:
    """Wait for a descriptor; if nobody waits any more, it is closed when it comes."""
    try:
        return await asyncio.shield(trying)
    except asyncio.CancelledError:
        trying.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opened: asyncio.Future[int | None]) -> None:
    descriptor = None if opened.cancelled() or opened.exception() else opened.result()
    if descriptor is not None:
        os.close(descriptor)
