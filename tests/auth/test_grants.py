"""Grants and callers: limits only ever become narrower."""

from __future__ import annotations

import pytest

from auth.conftest import SECOND, Clock
from portside.auth.grants import Caller, Grants, grant
from portside.auth.identities import ANONYMOUS, Identity
from portside.auth.limits import ALL_NAMES, LoginLimits
from portside.auth.policy import Policy, Rule, Subjects
from portside.auth.tokens.times import explain_times
from portside.spec.actions import ALL, Action
from portside.spec.errors import TooManyRequests
from portside.spec.patterns import RepositoryPattern
from portside.spec.scopes import CATALOG_SCOPE, REPOSITORY, Scope
from portside.stores.access import IdentityKind
from portside.stores.actors import NOBODY
from portside.stores.metadata.store import Access

ALICE = Identity("alice", IdentityKind.USER)
EVERYTHING = Policy([Rule("rule", Subjects.USERS, "", RepositoryPattern("*"), ALL)])
CATALOG = {"type": "registry", "name": "catalog", "actions": ["*"]}


@pytest.mark.parametrize(
    ("known", "given", "expected"), [(None, 20, 20), (10, 20, 10), (20, 10, 10), (10, 10, 10)]
)
def test_ending(known: int | None, given: int, expected: int) -> None:
    """Credentials end at the earlier of two times; all else stays."""
    caller = Caller(ALICE, Grants({"a": ALL}), known)
    assert caller.ending(given) == Caller(ALICE, Grants({"a": ALL}), expected)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (CATALOG, True),
        (CATALOG | {"actions": ["pull"]}, False),
        (CATALOG | {"actions": []}, False),
        (CATALOG | {"actions": "*"}, False),
        (CATALOG | {"name": "other"}, False),
        (CATALOG | {"type": "repository"}, False),
    ],
)
def test_catalog_of_a_claim(entry: object, expected: bool) -> None:  # a table
    """The catalog is granted by the very entry that clients know, and by no other."""
    assert Grants.from_claim([entry]).catalog is expected


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (Caller(ALICE), True),
        (Caller(ALICE, Grants(catalog=True)), True),
        (Caller(ALICE, Grants({"*": ALL})), False),
        (Caller(ANONYMOUS), False),
    ],
)
def test_catalog(caller: Caller, expected: bool) -> None:  # a table
    """The catalog is granted to those whose credentials do not exclude it."""
    assert grant(EVERYTHING, caller, [CATALOG_SCOPE]).catalog is expected


def test_scopes_of_one_repository_add_up() -> None:
    """Clients may ask for each action by a scope of its own, in any order."""
    asked = [
        Scope(REPOSITORY, name, frozenset({action}))
        for action in (Action.PULL, Action.PUSH)
        for name in ("a", "b")
    ]
    both = frozenset({Action.PULL, Action.PUSH})
    found = grant(EVERYTHING, Caller(ALICE), [CATALOG_SCOPE, *asked])
    assert found == Grants({"a": both, "b": both}, catalog=True)


async def test_failures_are_counted_exactly(store: Access, clock: Clock) -> None:
    """The last failure allowed is the limit itself, by name, by address, and in time."""
    limits = LoginLimits(store, failures=2, window=60, clock=clock)
    for _ in range(2):
        await limits.check("192.0.2.1", "alice")
        await limits.note_failure("192.0.2.1", "alice", NOBODY)
    with pytest.raises(TooManyRequests):
        await limits.check("192.0.2.1", "alice")
    for number in range(2 * ALL_NAMES - 2):
        await limits.check("192.0.2.1", "bob")
        await limits.note_failure("192.0.2.1", f"name{number}", NOBODY)
    with pytest.raises(TooManyRequests):
        await limits.check("192.0.2.1", "bob")
    await limits.check("192.0.2.2", "alice")
    clock.now += 60 * SECOND + 1
    await limits.check("192.0.2.1", "alice")


@pytest.mark.parametrize(
    ("claims", "is_valid"),
    [
        ({"exp": 96}, True),
        ({"exp": 95}, False),
        ({"nbf": 110}, True),
        ({"nbf": 111}, False),
        ({"iat": 110}, True),
        ({"iat": 111}, False),
        ({"nbf": 90, "iat": 111}, False),
        ({"nbf": True}, False),
        ({"exp": float("inf")}, False),
        ({"exp": "200"}, False),
    ],
)
def test_times(claims: dict[str, object], is_valid: bool) -> None:  # a table
    """A token is valid up to the last second that is tolerated, and no longer."""
    assert (explain_times(claims, 100, skew=10, grace=5) == "") is is_valid


def test_cover() -> None:
    """What the credentials do not cover is not granted, whatever the policy allows."""
    limited = Grants({"a": frozenset({Action.PULL})})
    assert limited.cover(Action.PULL, "a")
    assert not limited.cover(Action.PUSH, "a")
    assert not limited.cover(Action.PULL, "b")
