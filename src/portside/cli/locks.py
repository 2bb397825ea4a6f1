"""Locks that one registry at a time holds, on a file or a directory."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from portside import __version__
from portside.cli.errors import ServerError
from portside.files.users import user_name
from portside.stores.directories import create_directory

LOCK_TIMEOUT = 1.0
"""Seconds to wait: the workers of a registry that was killed may still hold what it held."""

PAUSE = 0.05
"""Seconds between two attempts."""

DATA = "portside.lock"
"""In a data directory: what its registry locks, and writes its version into."""

LONGEST = 100
"""Bytes of a version that are read."""


def lock(descriptor: int, used: str) -> None:
    """Lock an open file within LOCK_TIMEOUT; raises ServerError with the message `used`."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise ServerError(used) from error
            time.sleep(PAUSE)
        else:
            return


def lock_data(root: Path) -> int:
    """Create the data directory, and lock it for as long as this process and its workers live.

    Raises ServerError.
    """
    try:
        create_directory(root)
        descriptor = os.open(root / DATA, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ServerError(_explain(error, root)) from error
    used = (
        f"the data directory {root} is in use by another Portside; if it was killed, its workers"
        " exit within its --shutdown-timeout"
    )
    lock(descriptor, used)
    # A registry whose disk is full serves as well.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, __version__.encode(), 0)
    return descriptor


def serving_version(root: Path) -> str:
    """Return the version of the Portside that holds a data directory.

    Empty if none does, or if it is not known.
    """
    try:
        descriptor = os.open(root / DATA, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, LONGEST, 0).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
    return ""


def _explain(error: OSError, root: Path) -> str:
    """Return why a data directory cannot be used, and what to do."""
    unusable = f"cannot use the data directory {root}: {error.strerror}"
    if error.errno == errno.EROFS:
        return f"{unusable}; set --data to a directory that can be written to, such as a volume"
    if error.errno == errno.EACCES and not root.exists():
        create = f"install --directory --owner {user_name()} {root}"
        return f"{unusable}; create it as root: `{create}`"
    return unusable
