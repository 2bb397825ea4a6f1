"""The contract of every store of identities, scope maps, keys and login failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import pytest
from msgspec.structs import replace

from portside.spec.actions import ALL, Action
from portside.spec.patterns import RepositoryPattern
from portside.stores.access import (
    AccessState,
    AccessStore,
    IdentityKind,
    ScopeMap,
    ScopeRule,
    SigningKey,
    StoredIdentity,
    StoredPassword,
)
from stores.conftest import Clock, Shelf

USER, TOKEN = IdentityKind.USER, IdentityKind.TOKEN
ALICE = StoredIdentity("alice", USER, 10, passwords=(StoredPassword(1, "hash of alice", 11),))
BOB = StoredIdentity("bob", USER, 12)
ROBOT = StoredIdentity(
    "robot",
    TOKEN,
    20,
    enabled=False,
    expires=99,
    scope_map="pull",
    passwords=(StoredPassword(1, "first", 21), StoredPassword(2, "second", 22)),
)
PULL = ScopeMap(
    "pull",
    5,
    "for robots",
    (
        ScopeRule(RepositoryPattern("other"), ALL),
        ScopeRule(RepositoryPattern("team/*"), frozenset({Action.PULL, Action.METADATA_READ})),
    ),
)
EMPTY = ScopeMap("empty", 6)
COSTS = {"a": "04", "y": "12", "b": "09"}
KEY, NEXT_KEY = SigningKey("first", "its PEM", 1), SigningKey("second", "its PEM", 2)


@pytest.fixture
def other(access: AccessStore, shelf: Shelf) -> AccessStore:
    """Open the same store as another process does."""
    del access
    return shelf.access()


async def fill(access: AccessStore) -> None:
    """Store one of everything."""
    assert await access.add_scope_map(PULL)
    for identity in (BOB, ALICE, ROBOT):
        assert await access.add_identity(identity)
    assert await access.add_key(KEY)


def never(found: object) -> NoReturn:
    """Fail: nothing must be changed."""
    pytest.fail(f"{found} was to be changed")


def unchanged(identity: StoredIdentity) -> StoredIdentity:
    """Leave an identity as it is."""
    return identity


class TestIdentities:
    """Users and tokens."""

    async def test_slowest_hash(self, access: AccessStore) -> None:
        """The hash with the highest cost, as long as somebody has it; digests have no cost."""
        assert await access.slowest_hash() is None
        digest = StoredPassword(1, f"sha256${'9' * 64}", 1)
        assert await access.add_identity(StoredIdentity("robot", TOKEN, 1, passwords=(digest,)))
        assert await access.slowest_hash() is None
        hashes = {name: f"$2{name}${cost}${'.' * 53}" for name, cost in COSTS.items()}
        for name, hashed in hashes.items():
            password = (StoredPassword(1, hashed, 1),)
            assert await access.add_identity(StoredIdentity(name, USER, 1, passwords=password))
        for name in ("y", "b", "a"):
            assert await access.slowest_hash() == hashes[name]
            assert await access.remove_identity(name, USER)
        assert await access.slowest_hash() is None

    async def test_life(self, access: AccessStore) -> None:
        """An identity is read as it was stored, with its passwords, until it is removed."""
        await fill(access)
        for identity in (ALICE, BOB, ROBOT):
            assert await access.get_identity(identity.name) == identity
        assert await access.list_identities(USER) == [ALICE, BOB]
        assert await access.list_identities(TOKEN) == [ROBOT]
        assert await access.remove_identity("alice", USER)
        assert await access.get_identity("alice") is None
        assert not await access.remove_identity("alice", USER)
        assert await access.add_identity(replace(ALICE, passwords=()))
        again = await access.get_identity("alice")
        assert again is not None
        assert again.passwords == ()

    async def test_first(self, access: AccessStore, other: AccessStore) -> None:
        """Of many that add a first identity at the same time, one succeeds; later ones never do."""
        names = [f"name-{number}" for number in range(8)]
        adding = [
            store.add_identity(replace(ALICE, name=name), only_first=True)
            for store, name in zip((access, other) * 4, names, strict=True)
        ]
        added = await asyncio.gather(*adding)
        assert sorted(added) == [False] * 7 + [True]
        (first,) = await other.list_identities(USER)
        assert first.name == names[added.index(True)]
        assert await access.remove_identity(first.name, USER)
        assert not await access.add_identity(ALICE, only_first=True)
        assert await access.add_identity(ALICE)

    async def test_names(self, access: AccessStore) -> None:
        """A name belongs to one identity of either kind, whatever its case."""
        await fill(access)
        assert not await access.add_identity(replace(ALICE, kind=TOKEN, passwords=()))
        assert await access.get_identity("alice") == ALICE
        for name in ("Alice", "alice ", "alic", "alic_", "%", "alice\0", ""):
            assert await access.get_identity(name) is None

    async def test_kind(self, access: AccessStore) -> None:
        """A user is neither changed nor removed as a token, and a token not as a user."""
        await fill(access)
        for name, kind in (("alice", TOKEN), ("robot", USER), ("nobody", USER)):
            assert not await access.remove_identity(name, kind)
            assert await access.change_identity(name, kind, never) is None
        assert await access.get_identity("alice") == ALICE
        assert await access.get_identity("robot") == ROBOT

    async def test_scope_map_must_exist(self, access: AccessStore) -> None:
        """An identity cannot name a missing scope map."""
        assert not await access.add_identity(ROBOT)
        assert await access.get_identity("robot") is None
        await fill(access)
        changed = await access.change_identity(
            "robot", TOKEN, lambda robot: replace(robot, scope_map="none", passwords=())
        )
        assert changed is None
        assert await access.get_identity("robot") == ROBOT

    async def test_change(self, access: AccessStore) -> None:
        """A change is stored whole: status, expiry, scope map and passwords."""
        passwords = (StoredPassword(2, "other", 30),)

        def change(robot: StoredIdentity) -> StoredIdentity:
            return replace(robot, enabled=True, expires=None, scope_map=None, passwords=passwords)

        await fill(access)
        expected = change(ROBOT)
        assert await access.change_identity("robot", TOKEN, change) == expected
        assert await access.get_identity("robot") == expected
        assert await access.get_identity("alice") == ALICE

    async def test_changes_at_the_same_time(self, access: AccessStore, other: AccessStore) -> None:
        """Changes from two processes come one after another, and none is lost."""

        def later(robot: StoredIdentity) -> StoredIdentity:
            assert robot.expires is not None
            return replace(robot, expires=robot.expires + 1)

        await fill(access)
        both = [store.change_identity("robot", TOKEN, later) for store in (access, other) * 10]
        assert None not in await asyncio.gather(*both)
        found = await access.get_identity("robot")
        assert found == replace(ROBOT, expires=99 + 20)

    async def test_name_and_kind_stay(self, access: AccessStore) -> None:
        """A change that renames an identity changes no other identity."""
        await fill(access)
        stolen = replace(ROBOT, name="alice", kind=USER, created=1, enabled=True)
        changed = await access.change_identity("robot", TOKEN, lambda _: stolen)
        assert changed == replace(ROBOT, enabled=True)
        assert await access.get_identity("robot") == changed
        assert await access.get_identity("alice") == ALICE

    async def test_closing(self, access: AccessStore) -> None:
        """The first identity turns access control on, and nothing turns it off."""
        assert not (await access.access_state()).closed
        await access.add_scope_map(EMPTY)
        await access.add_key(KEY)
        await access.add_failure("here", "alice", forget_before=0)
        assert not await access.add_identity(ROBOT)
        assert not (await access.access_state()).closed
        await access.add_identity(ALICE)
        assert (await access.access_state()).closed
        await access.remove_identity("alice", USER)
        assert await access.list_identities(USER) == []
        assert (await access.access_state()).closed


class TestScopeMaps:
    """Scope maps."""

    async def test_life(self, access: AccessStore) -> None:
        """A scope map is read as it was stored, with its rules or without any."""
        for scope_map in (PULL, EMPTY):
            assert await access.add_scope_map(scope_map)
            assert await access.get_scope_map(scope_map.name) == scope_map
        assert await access.list_scope_maps() == [EMPTY, PULL]
        assert not await access.add_scope_map(replace(EMPTY, name="pull"))
        assert await access.get_scope_map("pull") == PULL
        assert await access.remove_scope_map("pull") == []
        assert await access.remove_scope_map("pull") is None
        assert await access.get_scope_map("pull") is None
        assert await access.list_scope_maps() == [EMPTY]

    async def test_change(self, access: AccessStore) -> None:
        """A change is stored whole; the name stays."""

        def change(found: ScopeMap) -> ScopeMap:
            return replace(found, name="empty", created=1, description="new", rules=found.rules[:1])

        await fill(access)
        await access.add_scope_map(EMPTY)
        expected = replace(PULL, description="new", rules=PULL.rules[:1])
        assert await access.change_scope_map("pull", change) == expected
        assert await access.get_scope_map("pull") == expected
        assert await access.get_scope_map("empty") == EMPTY
        assert await access.change_scope_map("none", never) is None

    async def test_in_use(self, access: AccessStore) -> None:
        """A scope map cannot be removed while tokens name it, and the error names them."""
        await fill(access)
        await access.add_identity(replace(ROBOT, name="automaton", passwords=()))
        assert await access.remove_scope_map("pull") == ["automaton", "robot"]
        assert await access.get_scope_map("pull") == PULL
        await access.remove_identity("automaton", TOKEN)
        await access.change_identity("robot", TOKEN, lambda robot: replace(robot, scope_map=None))
        assert await access.remove_scope_map("pull") == []


class TestKeys:
    """Signing keys."""

    async def test_life(self, access: AccessStore) -> None:
        """The newest key comes first; those that are removed are gone."""
        assert await access.list_keys() == []
        for key in (KEY, NEXT_KEY):
            assert await access.add_key(key)
        assert await access.list_keys() == [NEXT_KEY, KEY]
        await access.remove_keys([KEY.id, "unknown"])
        assert await access.list_keys() == [NEXT_KEY]
        await access.remove_keys([])
        assert await access.list_keys() == [NEXT_KEY]

    async def test_first(self, access: AccessStore, other: AccessStore) -> None:
        """Of many processes that add a first key at the same time, one succeeds."""
        keys = [SigningKey(f"key-{number}", "PEM", number) for number in range(8)]
        stores = (access, other) * 4
        adding = [
            store.add_key(key, only_first=True) for store, key in zip(stores, keys, strict=True)
        ]
        added = await asyncio.gather(*adding)
        assert sorted(added) == [False] * 7 + [True]
        assert await other.list_keys() == [keys[added.index(True)]]


class TestLists:
    """Lists of what has several rows each."""

    async def test_identities(self, access: AccessStore) -> None:
        """Each is there once, by name, with its passwords by their numbers."""
        await access.add_scope_map(PULL)
        second, first = (StoredPassword(number, f"hash {number}", number) for number in (2, 1))
        for name in ("z", "a", "m"):
            assert await access.add_identity(replace(ROBOT, name=name, passwords=(second, first)))
        expected = [replace(ROBOT, name=name, passwords=(first, second)) for name in "amz"]
        assert await access.list_identities(TOKEN) == expected
        assert await access.get_identity("m") == expected[1]

    async def test_scope_maps(self, access: AccessStore) -> None:
        """Each is there once, by name, with its rules by their patterns."""
        for name in ("z", "a", "m"):
            changed = replace(PULL, name=name, rules=PULL.rules[::-1])
            assert await access.add_scope_map(changed)
        expected = [replace(PULL, name=name) for name in "amz"]
        assert await access.list_scope_maps() == expected
        assert await access.get_scope_map("m") == expected[1]

    async def test_keys_of_one_moment(self, access: AccessStore) -> None:
        """They have the same order everywhere."""
        for name in ("b", "c", "a"):
            assert await access.add_key(SigningKey(name, "PEM", 1))
        assert [key.id for key in await access.list_keys()] == ["a", "b", "c"]


class TestFailures:
    """Failed attempts."""

    async def test_counting(self, access: AccessStore, clock: Clock) -> None:
        """Failures are counted by client address, name and time."""
        for source, name in (("here", "alice"), ("here", "bob"), ("there", "alice")) * 2:
            await access.add_failure(source, name, forget_before=0)
        now = clock.now
        assert await access.count_failures("here", "alice", 0) == 2
        assert await access.count_failures("here", None, 0) == 4
        assert await access.count_failures("there", None, now) == 2
        assert await access.count_failures("there", "bob", 0) == 0
        assert await access.count_failures("nowhere", None, 0) == 0
        assert await access.count_failures("here", "alice", now) == 2
        assert await access.count_failures("here", "alice", now + 1) == 0

    async def test_forgetting(self, access: AccessStore, clock: Clock) -> None:
        """A new failure removes the expired ones of every identity."""
        await access.add_failure("here", "alice", forget_before=0)
        first = clock.now
        clock.now += 10
        await access.add_failure("there", "bob", forget_before=first)
        assert await access.count_failures("here", None, 0) == 1
        await access.add_failure("there", "bob", forget_before=first + 1)
        assert await access.count_failures("here", None, 0) == 0
        assert await access.count_failures("there", None, 0) == 2


Act = Callable[[AccessStore], Awaitable[object]]

CHANGES: dict[str, Act] = {
    "add_identity": lambda access: access.add_identity(replace(ALICE, name="carol")),
    "change_identity": lambda access: access.change_identity(
        "alice", USER, lambda alice: replace(alice, enabled=False)
    ),
    "remove_identity": lambda access: access.remove_identity("alice", USER),
    "add_scope_map": lambda access: access.add_scope_map(EMPTY),
    "change_scope_map": lambda access: access.change_scope_map(
        "pull", lambda found: replace(found, rules=())
    ),
    "remove_scope_map": lambda access: access.remove_scope_map("unused"),
    "add_key": lambda access: access.add_key(NEXT_KEY),
    "remove_keys": lambda access: access.remove_keys([KEY.id]),
}

NO_CHANGES: dict[str, Act] = {
    "access_state": lambda access: access.access_state(),
    "get_identity": lambda access: access.get_identity("alice"),
    "list_identities": lambda access: access.list_identities(USER),
    "slowest_hash": lambda access: access.slowest_hash(),
    "taken name": lambda access: access.add_identity(replace(ALICE, kind=TOKEN)),
    "scope map that is not there": lambda access: access.add_identity(
        replace(ALICE, name="carol", scope_map="none")
    ),
    "change of nobody": lambda access: access.change_identity("nobody", USER, unchanged),
    "change of another kind": lambda access: access.change_identity("alice", TOKEN, unchanged),
    "change to no scope map": lambda access: access.change_identity(
        "robot", TOKEN, lambda robot: replace(robot, scope_map="none")
    ),
    "removal of nobody": lambda access: access.remove_identity("nobody", USER),
    "removal of another kind": lambda access: access.remove_identity("alice", TOKEN),
    "get_scope_map": lambda access: access.get_scope_map("pull"),
    "list_scope_maps": lambda access: access.list_scope_maps(),
    "taken scope map": lambda access: access.add_scope_map(PULL),
    "change of no scope map": lambda access: access.change_scope_map("none", lambda found: found),
    "removal of no scope map": lambda access: access.remove_scope_map("none"),
    "removal of a scope map in use": lambda access: access.remove_scope_map("pull"),
    "list_keys": lambda access: access.list_keys(),
    "key that is not the first": lambda access: access.add_key(NEXT_KEY, only_first=True),
    "removal of no key": lambda access: access.remove_keys([]),
    "removal of an unknown key": lambda access: access.remove_keys(["unknown"]),
    "count_failures": lambda access: access.count_failures("here", None, 0),
    "add_failure": lambda access: access.add_failure("here", "alice", forget_before=0),
}


class TestVersion:
    """How every process learns of a change."""

    @pytest.mark.parametrize("kind", CHANGES)
    async def test_changes(self, access: AccessStore, other: AccessStore, kind: str) -> None:
        """Each change is a new version, which other processes see at once."""
        await fill(access)
        await access.add_scope_map(replace(EMPTY, name="unused"))
        seen: set[int] = set()
        for store in (access, other):
            seen.add((await store.access_state()).version)
        assert len(seen) == 1
        await CHANGES[kind](access)
        states = [await store.access_state() for store in (access, other)]
        assert states[0] == states[1]
        assert states[0].version not in seen

    @pytest.mark.parametrize("kind", NO_CHANGES)
    async def test_no_changes(self, access: AccessStore, kind: str) -> None:
        """Reads, refused changes and login failures do not change the version."""

        async def states() -> AccessState:
            return await access.access_state()

        await fill(access)
        before = await states()
        await NO_CHANGES[kind](access)
        assert await states() == before

    def test_every_method(self) -> None:
        """Every method of the store is in one of the two lists above."""
        methods = {name for name in dir(AccessStore) if not name.startswith("_")}
        codes = [act.__code__ for act in (*CHANGES.values(), *NO_CHANGES.values())]
        named = {name for code in codes for name in code.co_names}
        assert methods <= named

    async def test_one_object(self, access: AccessStore) -> None:
        """What others made of a state they can keep for as long as it is the same object."""
        await fill(access)
        state = await access.access_state()
        assert await access.access_state() is state
        await access.add_scope_map(EMPTY)
        changed = await access.access_state()
        assert changed is not state
        assert await access.access_state() is changed

    async def test_two_processes(self, access: AccessStore, other: AccessStore) -> None:
        """A process reads at once what another one has written."""
        await fill(access)
        assert await other.get_identity("robot") == ROBOT
        assert await other.get_scope_map("pull") == PULL
        assert await other.list_keys() == [KEY]
        assert (await other.access_state()).closed
        await other.add_failure("here", "alice", forget_before=0)
        assert await access.count_failures("here", "alice", 0) == 1
        await other.remove_identity("robot", TOKEN)
        assert await access.get_identity("robot") is None
        assert await other.remove_scope_map("pull") == []
        assert await access.list_scope_maps() == []

    async def test_restart(self, access: AccessStore, shelf: Shelf) -> None:
        """A process that starts later reads everything."""
        await fill(access)
        again = shelf.access()
        assert await again.list_identities(USER) == [ALICE, BOB]
        assert await again.access_state() == await access.access_state()
