"""Locks: what nobody may do with a repository, a tag or a manifest, whoever they are.

ACR calls them changeable attributes: `writeEnabled` is false where writing is locked ("Lock a
container image in an Azure container registry").
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Lock(enum.IntFlag):
    """What is locked. The store keeps the bits, so their values never change.

    WRITE forbids overwriting and deleting, DELETE deleting alone. LIST hides from lists what can
    still be had by name, and READ forbids pulls.
    """

    DELETE = 1
    WRITE = 2
    LIST = 4
    READ = 8


NOTHING = Lock(0)
ON_DELETE = Lock.DELETE | Lock.WRITE
"""Either of these forbids deleting."""

ATTRIBUTES: dict[Lock, str] = {
    Lock.DELETE: "deleteEnabled",
    Lock.WRITE: "writeEnabled",
    Lock.LIST: "listEnabled",
    Lock.READ: "readEnabled",
}
"""ACR's names; an attribute is false while its lock is set."""


class LockChange(NamedTuple):
    """Locks to set, and locks to take away; the others stay."""

    lock: Lock = NOTHING
    unlock: Lock = NOTHING


def attributes(locks: Lock) -> dict[str, bool]:
    """Return locks as ACR's `changeableAttributes`."""
    return {name: not locks & lock for lock, name in ATTRIBUTES.items()}
