"""What a store must be able to do so that a registry can be copied from it, and into it.

An ability beside those of `interfaces`; what those say of Unavailable, StorageFull and durability
holds here. Rows are named by what they are about, a repository by its name and a manifest by its
repository and digest, never by a number that means something in one database only. Keys have the
same order in every store: texts by their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from portside.spec.digests import Digest
from portside.spec.errors import Unavailable
from portside.stores.interfaces import Place, Remove
from portside.stores.read_only import ReadOnlySwitch

Row = tuple[Any, ...]
"""A row: texts, numbers, bytes and None; times are microseconds since 1970, truth is 0 or 1."""

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


class CopyableMetadata(ReadOnlySwitch, Protocol):
    """All rows of a registry, to be read, and to be written as they were elsewhere.

    `tables` are all that a registry is, in an order in which rows need only those of tables before
    them. Upload sessions are no part of it: their bytes are in a form of the store's own, and
    clients begin again. Nor are failed logins.

    Every method that writes raises NotItsCopy unless the store holds a copy of `source`, which is
    the identity of another registry.
    """

    @property
    def tables(self) -> tuple[CopiedTable, ...]:
        """The tables of a copy."""
        ...

    async def list_rows(self, table: CopiedTable, after: Key | None, limit: int) -> list[Row]:
        """Give at most `limit` rows behind a key, in the order of keys, without what is heavy."""
        ...

    async def read_whole(self, table: CopiedTable, keys: Sequence[Key]) -> list[Row]:
        """Give rows with what is heavy; those that are gone are left out."""
        ...

    def claim(self) -> AbstractAsyncContextManager[None]:
        """Keep other copies from the registry for the length of a block, which may be long.

        Raises Unavailable if one has it already; no NotItsCopy.
        """
        ...

    async def begin_copy(self, source: str) -> None:
        """Make an empty registry a copy, which nobody else may change; a copy of it stays one."""
        ...

    async def put_rows(self, source: str, table: CopiedTable, rows: Sequence[Row]) -> list[Key]:
        """Write whole rows, all at once; not those of BLOBS.

        A row that needs one that is not there is left out. Gives the keys of those that hold a text
        that the store cannot hold.
        """
        ...

    async def drop_rows(self, source: str, table: CopiedTable, keys: Sequence[Key]) -> None:
        """Drop rows, all at once; not those of BLOBS."""
        ...

    async def put_blob(self, source: str, row: Row, *, place: Place) -> None:
        """Write a row of BLOBS, and place its bytes before it is seen.

        If that fails, bytes without a row can be left.
        """
        ...

    async def drop_blob(self, source: str, digest: Digest, *, remove: Remove) -> None:
        """Drop a row of BLOBS unless a repository links it, and then its bytes."""
        ...

    async def end_copy(self, source: str) -> None:
        """Let the copy stand for itself and change."""
        ...

    async def follow(self, identity: str) -> None:
        """Become a copy of the registry that was copied from here and now takes this one's place.

        Only for a registry that is read-only. Raises no NotItsCopy.
        """
        ...
