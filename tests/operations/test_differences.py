"""Two streams side by side: every key once, in order, with what each side has."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from portside.operations.copy.plan import pairs
from portside.stores.copying import Key, Row

TABLES = st.dictionaries(
    st.tuples(st.text(max_size=3), st.integers(0, 3)), st.integers(0, 2), max_size=8
)


async def stream(table: dict[Key, int]) -> AsyncIterator[Row]:
    """Return rows in the order of keys."""
    for key in sorted(table):
        yield (*key, table[key])


def key_of(row: Row) -> Key:
    """Return the first two columns."""
    return row[:2]


@given(TABLES, TABLES)
async def test_side_by_side(source: dict[Key, int], target: dict[Key, int]) -> None:
    """What the pairs say of a side is that side, and the pairs have the order of keys."""
    found = [pair async for pair in pairs(stream(source), stream(target), key_of)]
    assert {key_of(left): left[2] for left, _ in found if left is not None} == source
    assert {key_of(right): right[2] for _, right in found if right is not None} == target
    keys = [key_of(left or right or ()) for left, right in found]
    assert keys == sorted({*source, *target})
    assert all(left is None or right is None or left[:2] == right[:2] for left, right in found)


@given(st.text(), st.text())
def test_order_of_texts(left: str, right: str) -> None:
    """Texts compare in Python as their bytes do in the databases."""
    bytes_differ = left.encode("utf-8") < right.encode("utf-8")
    assert (left < right) == bytes_differ
