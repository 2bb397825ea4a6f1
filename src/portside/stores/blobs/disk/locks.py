"""Locks on files, by which one request at a time writes to an upload.

The system releases a lock when its holder dies.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import ExitStack, suppress

TEMPORARY = (".copy", ".placing")
"""What the names of files beside an upload end with; they belong to the upload's holder."""


def try_lock(path: str) -> int | None:
    """Open and lock a file, which is created if missing; None if another request has locked it."""
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
        # Its last holder removed or replaced the file between our open and our lock.
        os.close(descriptor)
        return None
    return descriptor


def _is_still_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


async def or_close(trying: asyncio.Future[int | None]) -> int | None:
    """Wait for a descriptor; if the wait is cancelled, close it when it comes."""
    try:
        return await asyncio.shield(trying)
    except asyncio.CancelledError:
        trying.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opened: asyncio.Future[int | None]) -> None:
    descriptor = None if opened.cancelled() or opened.exception() else opened.result()
    if descriptor is not None:
        os.close(descriptor)


def is_in_use(path: str) -> bool:
    """Whether a file, or the upload beside which it is, is locked, as far as can be known."""
    with ExitStack() as stack, suppress(OSError):
        return not lock_holder(path, fcntl.LOCK_SH, stack)
    return False


def lock_holder(path: str, kind: int, stack: ExitStack) -> bool:
    """Lock a file, or the upload that it belongs to, until the stack is closed.

    Return whether no one else has locked it; a file that is missing is in no one's way. Raises
    OSError.
    """
    stem, extension = os.path.splitext(path)
    holder = stem if extension in TEMPORARY else path
    try:
        descriptor = os.open(holder, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return True
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
