"""Conditional requests: which digests a condition lets through."""

from __future__ import annotations

import pytest

from portside.spec.conditions import TagCondition, allows_range

ONE, TWO = "sha256:1", "sha256:2"


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "held_by"),
    [
        (None, None, {None, ONE, TWO}),
        (f'"{ONE}"', None, {ONE}),
        (f'"{ONE}" , "{TWO}"', None, {ONE, TWO}),
        (ONE, None, {ONE}),
        ("*", None, {ONE, TWO}),
        (" * ", None, {ONE, TWO}),
        ('"*"', None, set()),
        (f'W/"{ONE}"', None, set()),
        (f'W/"{ONE}", "{TWO}"', None, {TWO}),
        ("", None, set()),
        (None, f'"{ONE}"', {None, TWO}),
        (None, f'W/"{ONE}", "{TWO}"', {None}),
        (None, "*", {None}),
        (None, '"*"', {None, ONE, TWO}),
        (f'"{ONE}"', f'"{TWO}"', {ONE}),
        ("*", f'"{ONE}"', {TWO}),
        ("*", "*", set()),
    ],
)
def test_conditions(
    if_match: str | None, if_none_match: str | None, held_by: set[str | None]
) -> None:
    """If-Match wants a strong tag of the list, If-None-Match none of any (RFC 9110, 13.1)."""
    condition = TagCondition.parse(if_match, if_none_match)
    assert {digest for digest in (None, ONE, TWO) if condition.holds(digest)} == held_by


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (None, True),
        (f'"{ONE}"', True),
        (f' "{ONE}" ', True),
        (ONE, True),
        (f'"{TWO}"', False),
        (f'W/"{ONE}"', False),
        ("*", False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
        ("", False),
    ],
)
def test_if_range(header: str | None, *, allowed: bool) -> None:
    """A part is sent for the strong tag of the content alone (RFC 9110, 13.1.5)."""
    assert allows_range(header, ONE) is allowed
