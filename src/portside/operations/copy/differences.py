"""Differences: two streams of rows side by side, by their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from portside.stores.copying import CopyableMetadata, Key, Row, Table

PAGE = 1000
"""Rows that are read at once; none of them is large."""

Pair = tuple[Row | None, Row | None]


async def rows_of(metadata: CopyableMetadata, table: Table) -> AsyncIterator[Row]:
    """Give all rows of a table in the order of keys; what changes meanwhile may be missed."""
    after: Key | None = None
    while page := await metadata.list_rows(table, after, PAGE):
        for row in page:
            yield row
        after = table.key_of(page[-1])


async def pairs(
    source: AsyncIterator[Row], target: AsyncIterator[Row], key_of: Callable[[Row], Key]
) -> AsyncIterator[Pair]:
    """Give each key once: its row in the source and its row in the target, None where it has none.

    Both come in the order of keys, in which each key is there once at most.
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
    source: CopyableMetadata, target: CopyableMetadata, table: Table
) -> AsyncIterator[Pair]:
    """Give the rows of a table side by side."""
    return pairs(rows_of(source, table), rows_of(target, table), table.key_of)
