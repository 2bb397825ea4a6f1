"""Backups: snapshots of a registry's metadata, beside the blobs that they need.

A backup is a blob store with a mark of its own. The metadata of a snapshot is a SQLite file,
whatever database it was read from, and is stored as a blob. A snapshot is there once its document
is; until then, nothing refers to what was copied for it.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from portside.spec.errors import Unavailable
from portside.stores.inspection import InspectableMetadata
from portside.stores.interfaces import InspectableBlobs

SNAPSHOTS = "snapshots"
"""The directory of the documents, beside `blobs`."""

SUFFIX = ".json"


class Snapshot(msgspec.Struct, frozen=True):
    """A registry at one moment.

    `registry` is its identity, `created` in microseconds since 1970, `database` the digest of the
    SQLite file, and `schema` the version of its schema. `blobs` have `bytes` together; so many that
    the registry itself had lost are `missing`.
    """

    registry: str
    created: int
    database: str
    schema: int
    blobs: int
    bytes: int
    missing: int = 0


class SavedRows(InspectableMetadata, Protocol):
    """The metadata of a registry at one moment, which nobody else uses."""

    async def forget_blob(self, digest: str) -> bool:
        """Delete a blob that nothing refers to, and its links; return whether that is so."""
        ...


class BackupBlobs(InspectableBlobs, Protocol):
    """A blob store that holds snapshots too; their names are in the order of time."""

    @property
    def place(self) -> object:
        """Where all of it is, as shown to people; a path if it is a directory."""
        ...

    async def list_snapshots(self) -> list[str]:
        """List the names of the snapshots, the oldest first."""
        ...

    async def read_snapshot(self, name: str) -> Snapshot | None:
        """Read the document of a snapshot; None if there is none of that name.

        Raises Unavailable if it is damaged.
        """
        ...

    async def put_snapshot(self, name: str, snapshot: Snapshot) -> None:
        """Write the document of a snapshot durably, unless there is one of that name."""
        ...

    async def drop_snapshot(self, name: str) -> None:
        """Remove the document of a snapshot durably."""
        ...


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return a snapshot as the content of its document."""
    return msgspec.json.encode(snapshot) + b"\n"


def decode_snapshot(name: str, content: bytes) -> Snapshot:
    """Return the snapshot that a document holds; raises Unavailable if it is damaged."""
    try:
        return msgspec.json.decode(content, type=Snapshot)
    except msgspec.DecodeError as error:
        raise Unavailable(f"the snapshot {name} of the backup is damaged: {error}") from error
