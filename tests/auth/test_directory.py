"""The directory: who has a name, and that a wrong proof costs the same for all of them."""

from __future__ import annotations

import hashlib

import bcrypt
import pytest
from msgspec.structs import replace

from auth.conftest import SECOND, Clock
from portside.auth.access_files import parse_htpasswd
from portside.auth.directory import Directory
from portside.auth.grants import Caller
from portside.auth.passwords import digest_password, hash_password
from portside.spec.actions import Action
from portside.spec.patterns import RepositoryPattern
from portside.stores.access import (
    IdentityKind,
    ScopeMap,
    ScopeRule,
    StoredIdentity,
    StoredPassword,
)
from portside.stores.metadata.store import Access

SECRET = "alice's own"  # noqa: S105
HASHED = hash_password(SECRET, cost=4)
MADE = ("first of the robot", "second of the robot")
ROBOT = StoredIdentity(
    "robot",
    IdentityKind.TOKEN,
    created=5,
    scope_map="pull",
    passwords=tuple(
        StoredPassword(number, digest_password(made), 5) for number, made in enumerate(MADE, 1)
    ),
)
ALICE = StoredIdentity(
    "alice", IdentityKind.USER, created=5, passwords=(StoredPassword(1, HASHED, 5),)
)
SCOPE_MAP = ScopeMap(
    "pull", 5, rules=(ScopeRule(RepositoryPattern("team/*"), frozenset({Action.PULL})),)
)
GROUPS = {"alice": frozenset({"devs"}), "bob": frozenset({"ops"})}


@pytest.fixture
async def directory(store: Access, clock: Clock) -> Directory:
    """Fill a directory from both sources."""
    assert await store.add_scope_map(SCOPE_MAP)
    assert await store.add_identity(ALICE)
    assert await store.add_identity(ROBOT)
    other = hash_password("of the file", cost=5)
    file = parse_htpasswd(f"alice:{other}\nbob:{other}\n")
    return Directory(store, file, GROUPS, clock)


async def prove(directory: Directory, name: str, password: str, work: int = 4) -> Caller | None:
    """Return the caller that a password proves."""
    found = await directory.find(name)
    made = directory.prove_made(found, password)
    stamp = made or directory.prove(found, password, work=work)
    return await directory.caller(found, stamp) if found is not None and stamp else None


async def is_valid(directory: Directory, caller: Caller) -> bool:
    """Whether a caller is still valid, as a token that it got would find out."""
    found = await directory.find(caller.identity.name)
    assert found is not None
    return await directory.caller(found, caller.identity.stamp) is not None


def stamp_of(*parts: str) -> str:
    """Return the stamp that tokens were signed with from the first version on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class TestFinding:
    """Names."""

    async def test_user(self, directory: Directory) -> None:
        """A user proves itself by its password, and has its groups."""
        caller = await prove(directory, "alice", SECRET)
        assert caller is not None
        assert (caller.identity.name, caller.identity.kind) == ("alice", IdentityKind.USER)
        assert caller.identity.groups == {"devs"}
        assert (caller.grants, caller.expires) == (None, None)

    async def test_the_store_hides_the_file(self, directory: Directory) -> None:
        """Of a name that is in both, the password in the file is not accepted."""
        assert await prove(directory, "alice", "of the file", 5) is None
        assert await prove(directory, "bob", "of the file", 5) is not None

    async def test_token(self, directory: Directory) -> None:
        """A token proves itself by either password, and has its scope map."""
        callers = [await prove(directory, "robot", made) for made in MADE]
        assert len({caller.identity.stamp for caller in callers if caller is not None}) == 2
        for caller in callers:
            assert caller is not None
            assert caller.identity.scope_map == SCOPE_MAP

    async def test_nobody(self, directory: Directory) -> None:
        """An unknown name is nobody, and so is a known one in another case or with more text."""
        for name in ("", "nobody", "Alice", "alice ", "alice\0", "ALICE", "bob:x", "%", "a_ice"):
            assert await directory.find(name) is None
        assert directory.prove(None, "", work=4) is None

    async def test_disabled(self, directory: Directory, store: Access) -> None:
        """A disabled identity proves nothing by any password, nor by having done so before."""
        before = await prove(directory, "robot", MADE[0])
        assert before is not None
        for identity in (ALICE, ROBOT):
            await store.change_identity(
                identity.name, identity.kind, lambda found: replace(found, enabled=False)
            )
        assert await prove(directory, "alice", SECRET) is None
        assert await prove(directory, "robot", MADE[0]) is None
        assert not await is_valid(directory, before)

    async def test_expired(self, directory: Directory, store: Access, clock: Clock) -> None:
        """An identity ends when it says so, and says when it will."""
        end = clock() + 10 * SECOND
        await store.change_identity(
            "robot", IdentityKind.TOKEN, lambda found: replace(found, expires=end)
        )
        clock.now = end - 1
        caller = await prove(directory, "robot", MADE[0])
        assert caller is not None
        assert caller.expires == end // SECOND
        clock.now = end
        assert await prove(directory, "robot", MADE[0]) is None

    async def test_stamp(self, directory: Directory, store: Access) -> None:
        """An identity that is removed and added again is another one, with the same password."""
        before = await prove(directory, "alice", SECRET)
        assert before is not None
        assert await store.remove_identity("alice", IdentityKind.USER)
        assert await store.add_identity(replace(ALICE, created=6))
        assert not await is_valid(directory, before)
        assert HASHED not in before.identity.stamp

    async def test_stamp_bytes(self, directory: Directory) -> None:
        """Stamps are the same in every version, so that an upgrade ends no token."""
        bob = await directory.find("bob")
        assert bob is not None
        for caller, stamp in (
            (await prove(directory, "alice", SECRET), stamp_of("user", "alice", HASHED, "5", "5")),
            (
                await prove(directory, "bob", "of the file", 5),
                stamp_of("user", "bob", bob.passwords[0].hash),
            ),
        ):
            assert caller is not None
            assert caller.identity.stamp == stamp


async def test_work(directory: Directory, store: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password takes the same number of steps for every name, known or not."""
    await store.add_identity(replace(ALICE, name="carol", enabled=False))
    await store.add_identity(replace(ALICE, name="dan", passwords=()))
    names = ("alice", "bob", "carol", "dan", "robot", "nobody")
    identities = [await directory.find(name) for name in names]
    steps: list[int] = []
    real_hash, real_check = bcrypt.hashpw, bcrypt.checkpw

    def hashpw(password: bytes, salt: bytes) -> bytes:
        steps.append(2 ** int(salt[4:6]))
        return real_hash(password, salt)

    def checkpw(password: bytes, hashed: bytes) -> bool:
        steps.append(2 ** int(hashed[4:6]))
        return real_check(password, hashed)

    monkeypatch.setattr(bcrypt, "hashpw", hashpw)
    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    for identity in identities:
        for password in ("wrong", "", "\0", "a" * 80, "\ud800"):
            steps.clear()
            assert directory.prove_made(identity, password) is None
            assert directory.prove(identity, password, work=6) is None
            assert sum(steps) == 2**6
    steps.clear()
    assert directory.prove(identities[2], SECRET, work=6) is None
    assert sum(steps) == 2**6
