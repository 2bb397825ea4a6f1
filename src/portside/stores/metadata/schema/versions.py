"""Versions of the schema: the number of steps that were taken."""

from __future__ import annotations

import logging

from portside.spec.errors import Unavailable
from portside.stores.metadata.schema.steps import STEPS

NEWEST = len(STEPS)
"""The version that this Portside needs."""

log = logging.getLogger(__name__)


class SchemaTooNew(Unavailable):
    """The database was made by a newer Portside."""

    message = "the database is newer than this version of Portside"


class SchemaTooOld(Unavailable):
    """The database was made by an older Portside, or holds nothing yet."""

    message = "the database is older than this version of Portside"


def require_version(database: str, current: int, *, remedy: str) -> None:
    """Raise SchemaTooNew or SchemaTooOld unless the schema is the newest one.

    `database` names the database, and `remedy` is the command that brings it up to date.
    """
    if current > NEWEST:
        newer = (
            f"{database} was made by a newer Portside: its schema has version {current},"
            f" and this one knows versions up to {NEWEST}; install the newer one again, or restore"
            " a backup from before the upgrade"
        )
        raise SchemaTooNew(newer)
    if current < NEWEST:
        older = (
            f"{database} has version {current} of the schema, and version {NEWEST} is needed;"
            f" run `{remedy}` to upgrade it"
        )
        raise SchemaTooOld(older)


def note_upgrade(database: str, current: int) -> None:
    """Log that a database with content is about to be upgraded, if it is."""
    if 0 < current < NEWEST:
        log.warning(
            "upgrading the schema of %s from version %d to %d; this takes minutes if there are"
            " millions of blobs",
            database,
            current,
            NEWEST,
        )
