"""How a registry is copied from a store, and into one.

An ability beside those of `interfaces`, with the same rules for Unavailable, StorageFull and
durability. Rows are identified by what they are about, a repository by its name and a manifest by
its repository and digest, never by a number that means something in one database only. Keys have
the same order in every store: texts are compared byte by byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.stores.actors import Actor
from portside.stores.interfaces import Place, Remove
from portside.stores.read_only import ReadOnlySwitch, Successor

Row = tuple[Any, ...]
"""A row: texts, numbers, bytes and None; times are microseconds since 1970, booleans 0 or 1."""

Key = tuple[Any, ...]
"""The columns at the start of a row that tell it from others."""


class CopiedTable(msgspec.Struct, frozen=True):
    """A table as a copy sees it: the columns of its key, and those that are read and compared.

    What is `heavy` can be large, and follows from the digest in the key; it is not compared, and
    read only for the rows that are to be written.
    """

    name: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    heavy: tuple[str, ...] = ()

    def key_of(self, row: Row) -> Key:
        """Return the key of a row."""
        return row[: len(self.key)]


BLOBS = "blobs"
"""The table whose rows are written together with their bytes."""


class NotItsCopy(Unavailable):
    """The store is not a copy of the registry that is to be copied into it."""

    message = "the target is not a copy of the source"


class ReadableRows(Protocol):
    """All rows of a registry, to be read."""

    @property
    def tables(self) -> tuple[CopiedTable, ...]:
        """Every table that is copied, each after those that its rows refer to."""
        ...

    async def list_rows(self, table: CopiedTable, after: Key | None, limit: int) -> list[Row]:
        """Return at most `limit` rows after a key, in the order of keys, without heavy columns."""
        ...

    async def read_whole(self, table: CopiedTable, keys: Sequence[Key]) -> list[Row]:
        """Return rows with their heavy columns; rows that are gone are left out."""
        ...


class CopyableMetadata(ReadableRows, ReadOnlySwitch, Protocol):
    """All rows of a registry, to be read, and to be written as they were elsewhere.

    Upload sessions are not copied: their bytes are in a form of the store's own, and clients start
    again. Nor are failed logins.

    Every method that writes raises NotItsCopy unless the store holds a copy of `source`, which is
    the identity of another registry.
    """

    def rows_apart(self) -> AbstractAsyncContextManager[ReadableRows]:
        """Read all rows as they are at one moment, for as long as it takes."""
        ...

    def claim(self) -> AbstractAsyncContextManager[None]:
        """Keep other copies away from the registry for the length of a block, which may be long.

        Raises Unavailable if a copy or a backup is running; never NotItsCopy.
        """
        ...

    async def begin_copy(self, source: str, *, is_same: bool = False) -> None:
        """Make an empty registry a copy, which nobody else may change; repeat it freely.

        With `is_same`, it takes the identity of the source too: it will be the same registry.
        """
        ...

    async def put_rows(self, source: str, table: CopiedTable, rows: Sequence[Row]) -> list[Key]:
        """Write whole rows, all at once; those of BLOBS only where there are no bytes beside them.

        A row that refers to a missing one is left out. Return the keys of rows with a text that the
        store cannot store.
        """
        ...

    async def drop_rows(self, source: str, table: CopiedTable, keys: Sequence[Key]) -> None:
        """Delete rows, all at once; not those of BLOBS."""
        ...

    async def put_blob(self, source: str, row: Row, *, place: Place) -> None:
        """Write a row of BLOBS, and place its bytes before anyone sees it.

        A failure can leave bytes without a row.
        """
        ...

    async def drop_blob(self, source: str, digest: Digest, *, remove: Remove) -> None:
        """Delete a row of BLOBS and its bytes, unless a repository links the blob."""
        ...

    async def end_copy(self, source: str, *, by: Actor | None = None) -> None:
        """Make the copy independent, and allow changes.

        That is recorded if `by` says who makes it a registry; what is saved or restored stays as it
        was.
        """
        ...

    async def follow(self, identity: str, successor: Successor) -> None:
        """Become a copy of the registry that was copied from here and now takes this one's place.

        `successor` is where that one is. Does nothing unless the registry is read-only. Never
        raises NotItsCopy.
        """
        ...
