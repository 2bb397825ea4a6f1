"""Pages of a list: the parameters `n`, `last` and `orderby`, and where the next page starts."""

from __future__ import annotations

import enum
import re
from typing import Generic, NamedTuple, TypeVar

from portside.spec.errors import PaginationNumberInvalid, ParameterInvalid

Item = TypeVar("Item")

_NUMBER = re.compile(r"(?a:\d+)")

_POSITION = re.compile(r"(?as:(\d{1,18})&(.*))")

_MAX_DIGITS = 18
"""A number of more digits is more than any limit, and is not converted."""


class PageRequest(NamedTuple):
    """At most `limit` items, each greater than `last` (the start of the list if that is empty)."""

    limit: int
    last: str = ""


class Order(enum.Enum):
    """The order of a list: by name or digest, or by when an item was last pushed."""

    NAME = enum.auto()
    OLDEST_FIRST = enum.auto()
    NEWEST_FIRST = enum.auto()


class Position(NamedTuple):
    """A position in an ordered list, which stays one when the item there is gone.

    `time` is in microseconds since 1970; it means nothing in an order of names.
    """

    time: int
    name: str

    def __str__(self) -> str:
        """Write the position as `last` holds it in an order of time."""
        return f"{self.time}&{self.name}"


START = {
    Order.NAME: Position(0, ""),
    Order.OLDEST_FIRST: Position(-1, ""),
    Order.NEWEST_FIRST: Position(2**63 - 1, "~"),
}
"""The positions before the first item; no name and no digest has a tilde."""


class OrderedPageRequest(NamedTuple):
    """At most `limit` items, each behind the position `after` in an order."""

    limit: int
    order: Order = Order.NAME
    after: Position = START[Order.NAME]


class Page(NamedTuple, Generic[Item]):
    """Some items of a list, in order; `more` tells whether others follow them."""

    items: list[Item]
    more: bool


ORDERS = {
    "": Order.NAME,
    "none": Order.NAME,
    "timeasc": Order.OLDEST_FIRST,
    "timedesc": Order.NEWEST_FIRST,
}
"""The values of ACR's parameter `orderby`."""


def parse_ordered_page(
    n: str | None, last: str | None, orderby: str | None, *, limit: int, default: int
) -> OrderedPageRequest:
    """Read `n`, `last` and `orderby` of ACR's lists.

    In an order of time, `last` is what the Link to a next page says: a position.

    Raises PaginationNumberInvalid and ParameterInvalid.
    """
    order = ORDERS.get(orderby or "")
    if order is None:
        known = ", ".join(filter(None, ORDERS))
        raise ParameterInvalid(f"unknown orderby {(orderby or '')[:40]!r}: use {known}")
    page = parse_page(n, last, limit=limit, default=default)
    if not page.last:
        return OrderedPageRequest(page.limit, order, START[order])
    if order is Order.NAME:
        return OrderedPageRequest(page.limit, order, Position(0, page.last))
    found = _POSITION.fullmatch(page.last)
    if found is None:
        what = "in an order of time, last must be taken from the Link to the next page"
        raise ParameterInvalid(f"{page.last[:140]!r}: {what}")
    return OrderedPageRequest(page.limit, order, Position(int(found[1]), found[2]))


def parse_page(
    n: str | None, last: str | None, *, limit: int, default: int | None = None
) -> PageRequest:
    """Read `n` and `last` ("Listing Tags", end-8b).

    For an `n` above it, a page has `limit` items; without `n` it has `default`, if there is one.

    Raises PaginationNumberInvalid.
    """
    if n is None:
        return PageRequest(limit if default is None else min(default, limit), last or "")
    if _NUMBER.fullmatch(n) is None:
        shape = f"n must be a whole number of zero or more, not {n[:40]!r}"
        raise PaginationNumberInvalid(shape)
    wanted = int(n) if len(n) <= _MAX_DIGITS else limit
    return PageRequest(min(wanted, limit), last or "")


def cut(found: list[Item], request: PageRequest | OrderedPageRequest) -> Page[Item]:
    """Make a page of what a store found when it was asked for one item more than the limit."""
    return Page(found[: request.limit], more=request.limit > 0 and len(found) > request.limit)
