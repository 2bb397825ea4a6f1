"""The work for what a client sends grows with its length, never with its square."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from portside.api.queries import Fields
from portside.auth.credentials import CredentialsMalformed, parse_authorization
from portside.auth.grants import Grants
from portside.auth.tokens.own import TokenInvalid, claimed_issuer
from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import RegistryError
from portside.spec.manifests import parse_manifest
from portside.spec.names import RepositoryName, Tag
from portside.spec.pagination import parse_page
from portside.spec.patterns import PatternInvalid, RepositoryPattern
from portside.spec.ranges import parse_chunk, parse_range
from portside.spec.scopes import parse_scopes
from portside.spec.uploads import UploadId

LENGTH, FACTOR = 20_000, 4
"""Characters of the shorter input; and how many times as long the longer one is."""

MOST = FACTOR**2 / 2
"""A quadratic look takes 16 times as long for four times the input, a linear one four times."""

TINY = 0.002
"""Seconds below which a clock tells nothing about growth, and nobody is kept waiting."""

LIMITLESS = 10**9


def _query(length: int) -> None:
    fields = Fields.parse("&".join(f"a{i}" for i in range(length // 8)), limit=LIMITLESS)
    for name, _ in fields.items:
        fields.all(name)


def _repeated(length: int) -> None:
    Fields.parse("a=%61&" * (length // 6), limit=LIMITLESS).all("a")


def _manifest(*members: str) -> None:
    parse_manifest(f"{{{','.join(members)}}}".encode(), content_type="application/json")


INPUTS: dict[str, Callable[[int], object]] = {
    "a query of many names": _query,
    "a query of one name": _repeated,
    "scopes": lambda length: parse_scopes(["repository:a:pull " * (length // 18)]),
    "actions": lambda length: parse_scopes([f"repository:a:{'pull,' * (length // 5)}"]),
    "colons in a scope": lambda length: parse_scopes([f"repository:{':' * length}"]),
    "spaces in Authorization": lambda length: parse_authorization(f"Basic {' ' * length}x"),
    "Basic": lambda length: parse_authorization(f"Basic {'OjoO' * (length // 4)}"),
    "If-Match": lambda length: TagCondition.parse('"a", ' * (length // 5), None).holds("b"),
    "If-None-Match": lambda length: TagCondition.parse(None, 'W/"a",' * (length // 6)).holds("b"),
    "quotes in If-Match": lambda length: TagCondition.parse('"' * length, None),
    "dots of a token": lambda length: claimed_issuer("." * length),
    "braces of a token": lambda length: claimed_issuer("e30." + "W1tb" * (length // 4) + ".x"),
    "a claim of access": lambda length: Grants.from_claim(
        [{"type": "repository", "name": f"a{i}", "actions": ["*"]} for i in range(length // 40)]
    ),
    "a name": lambda length: RepositoryName.parse("a-" * (length // 2)),
    "a tag": lambda length: Tag.parse("a" * length),
    "a pattern": lambda length: RepositoryPattern.parse("a_" * (length // 2) + "*"),
    "a digest": lambda length: Digest.parse("a+" * (length // 2) + ":0"),
    "an upload": lambda length: UploadId.parse("0" * length),
    "a page": lambda length: parse_page("1" * length, "a" * length, limit=10),
    "ranges": lambda length: parse_range(
        f"bytes={'1-2,' * (length // 4)}", size=100, max_ranges=LIMITLESS
    ),
    "spaces in ranges": lambda length: parse_range(
        f"bytes=1-2{' ' * length}x", size=100, max_ranges=LIMITLESS
    ),
    "fields of a manifest": lambda length: _manifest(*(f'"{i}":0' for i in range(length // 8))),
    "a field twice, behind others": lambda length: _manifest(
        *(f'"{i}":0' for i in range(length // 8)), '"a":0', '"a":0'
    ),
    "lists in a manifest": lambda length: _manifest(f'"a":[{"[]," * (length // 3)}0]'),
    "Content-Range": lambda length: parse_chunk("1" * length + "-" + "1" * length),
}


def _least_time(work: Callable[[int], object], length: int) -> float:
    """Return the processor time of the fastest of a few runs, in seconds."""
    times = []
    for _ in range(5):
        start = time.thread_time()
        with suppress(RegistryError, CredentialsMalformed, TokenInvalid, PatternInvalid):
            work(length)
        times.append(time.thread_time() - start)
    return min(times)


@pytest.mark.parametrize("name", INPUTS)
def test_growth(name: str) -> None:
    """Four times the input never takes sixteen times as long."""
    work = INPUTS[name]
    # The caches of a busy machine are shared: what grows too fast does so each time.
    assert any(_grows_little(work) for _ in range(5))


def _grows_little(work: Callable[[int], object]) -> bool:
    long = _least_time(work, LENGTH * FACTOR)
    return long < TINY or long < MOST * _least_time(work, LENGTH)
