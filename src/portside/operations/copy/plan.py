"""What is copied from where to where, how the two differ, and what is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, Protocol

from portside.stores.copying import CopiedTable, CopyableMetadata, Key, Row
from portside.stores.inspection import InspectableMetadata
from portside.stores.interfaces import InspectableBlobs, MetadataStore

PAGE = 1000
"""Rows that are read at once; none of them is large."""

Pair = tuple[Row | None, Row | None]

Progress = Callable[[], object]
"""Called whenever something was copied."""


class MovableMetadata(CopyableMetadata, InspectableMetadata, MetadataStore, Protocol):
    """A metadata store with everything that a copy needs."""


class RegistryStores(NamedTuple):
    """The stores of one registry."""

    metadata: MovableMetadata
    blobs: InspectableBlobs


class Tally:
    """How much has been copied so far, and what could not be copied.

    `blobs` were copied, with `bytes` in them; other `rows` were written, others `dropped`; each of
    the `rounds` went through the whole registry. `problems` has a line for each problem.
    """

    def __init__(self) -> None:
        self.rounds = 0
        self.rows = 0
        self.dropped = 0
        self.blobs = 0
        self.bytes = 0
        self.problems: list[str] = []

    @property
    def moved(self) -> int:
        """How many things differed between the source and the target."""
        return self.rows + self.dropped + self.blobs


class Plan(NamedTuple):
    """A copy of `source`, whose identity is `identity`, to `target`."""

    source: RegistryStores
    target: RegistryStores
    identity: str
    tally: Tally
    progress: Progress


async def rows_of(metadata: CopyableMetadata, table: CopiedTable) -> AsyncIterator[Row]:
    """Read all rows of a table in the order of keys; concurrent changes may be missed."""
    after: Key | None = None
    while page := await metadata.list_rows(table, after, PAGE):
        for row in page:
            yield row
        after = table.key_of(page[-1])


async def pairs(
    source: AsyncIterator[Row], target: AsyncIterator[Row], key_of: Callable[[Row], Key]
) -> AsyncIterator[Pair]:
    """Yield the rows of each key in the source and in the target, None where there is none.

    Both come in the order of keys, and no key comes twice in either.
    """
    left, right = await anext(source, None), await anext(target, None)
    while left is not None or right is not None:
        if right is None or (left is not None and key_of(left) < key_of(right)):
            yield left, None
            left = await anext(source, None)
        elif left is None or key_of(right) < key_of(left):
            yield None, right
            right = await anext(target, None)
        else:
            yield left, right
            left, right = await anext(source, None), await anext(target, None)


def compared(
    source: CopyableMetadata, target: CopyableMetadata, table: CopiedTable
) -> AsyncIterator[Pair]:
    """Read the rows of a table in both stores, side by side."""
    return pairs(rows_of(source, table), rows_of(target, table), table.key_of)
