"""Errors of the operating system, translated to those of the registry."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from portside.spec.errors import StorageFull, Unavailable

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn an OSError raised while `doing` something into StorageFull or Unavailable."""
    try:
        yield
    except OSError as error:
        reason = f"{doing}: {error.strerror or error}"
        raise (StorageFull if error.errno in _FULL else Unavailable)(reason) from error
