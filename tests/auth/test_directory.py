"""The directory: who has a name, and that a wrong proof costs the same for all of them."""

from __future__ import annotations

import asyncio

import bcrypt
import pytest
from msgspec.structs import replace

from auth.conftest import SECOND, Clock
from portside.auth.directory import Account, Directory, prove
from portside.auth.htpasswd import parse_htpasswd
from portside.auth.identities import Kind
from portside.auth.passwords import digest_password, hash_password
from portside.auth.rules import Subjects
from portside.spec.actions import Action
from portside.spec.patterns import RepositoryPattern
from portside.stores.access import (
    IdentityKind,
    ScopeMap,
    ScopeRule,
    StoredIdentity,
    StoredPassword,
)
from portside.stores.metadata.sqlite import SqliteAccess

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
def directory(runner: asyncio.Runner, store: SqliteAccess, clock: Clock) -> Directory:
    """Fill a directory from both sources."""

    async def fill() -> None:
        assert await store.add_scope_map(SCOPE_MAP)
        assert await store.add_identity(ALICE)
        assert await store.add_identity(ROBOT)

    runner.run(fill())
    other = hash_password("of the file", cost=5)
    file = parse_htpasswd(f"alice:{other}\nbob:{other}\n")
    return Directory(store, file, GROUPS, clock)


def find(runner: asyncio.Runner, directory: Directory, name: str) -> Account:
    """Find an account that there is."""
    account = runner.run(directory.find(name))
    assert account is not None
    return account


class TestFinding:
    """Names."""

    def test_user(self, runner: asyncio.Runner, directory: Directory) -> None:
        """A user proves itself by its password, and has its groups."""
        account = find(runner, directory, "alice")
        caller = prove(account, SECRET, work=4)
        assert caller is not None
        assert (caller.identity.name, caller.identity.kind) == ("alice", Kind.USER)
        assert caller.identity.groups == {"devs"}
        assert (caller.grants, caller.expires) == (None, None)

    def test_the_store_hides_the_file(self, runner: asyncio.Runner, directory: Directory) -> None:
        """Of a name that is in both, the file's password is no way in."""
        assert prove(find(runner, directory, "alice"), "of the file", work=5) is None
        assert prove(find(runner, directory, "bob"), "of the file", work=5) is not None

    def test_token(self, runner: asyncio.Runner, directory: Directory) -> None:
        """A token proves itself by either password, and has the rules of its scope map."""
        account = find(runner, directory, "robot")
        callers = [prove(account, made, work=4) for made in MADE]
        stamps = {caller.identity.stamp for caller in callers if caller is not None}
        assert len(stamps) == 2
        (rule,) = account.identity.rules
        assert (rule.subjects, rule.who, rule.pattern) == (Subjects.IDENTITY, "robot", "team/*")
        assert "scope map pull" in str(rule)

    def test_nobody(self, runner: asyncio.Runner, directory: Directory) -> None:
        """A name that nobody has is nobody, in another case or with more around it too."""
        for name in ("", "nobody", "Alice", "alice ", "alice\0", "ALICE", "bob:x", "%", "a_ice"):
            assert runner.run(directory.find(name)) is None
        assert prove(None, "", work=4) is None

    def test_disabled(
        self, runner: asyncio.Runner, directory: Directory, store: SqliteAccess
    ) -> None:
        """Whoever is disabled proves nothing by any of its passwords, nor by having done so."""

        async def disable() -> None:
            for identity in (ALICE, ROBOT):
                await store.change_identity(
                    identity.name, identity.kind, lambda found: replace(found, enabled=False)
                )

        before = prove(find(runner, directory, "robot"), MADE[0], work=4)
        assert before is not None
        runner.run(disable())
        assert prove(find(runner, directory, "alice"), SECRET, work=4) is None
        account = find(runner, directory, "robot")
        assert prove(account, MADE[0], work=4) is None
        assert account.caller(before.identity.stamp) is None

    def test_expired(
        self, runner: asyncio.Runner, directory: Directory, store: SqliteAccess, clock: Clock
    ) -> None:
        """An identity ends when it says so, and says when it will."""
        end = clock() + 10 * SECOND

        async def limit() -> None:
            await store.change_identity(
                "robot", IdentityKind.TOKEN, lambda found: replace(found, expires=end)
            )

        runner.run(limit())
        clock.now = end - 1
        caller = prove(find(runner, directory, "robot"), MADE[0], work=4)
        assert caller is not None
        assert caller.expires == end // SECOND
        clock.now = end
        assert prove(find(runner, directory, "robot"), MADE[0], work=4) is None

    def test_stamp(self, runner: asyncio.Runner, directory: Directory, store: SqliteAccess) -> None:
        """Whoever is removed and made again is another, even with the same password."""
        before = prove(find(runner, directory, "alice"), SECRET, work=4)
        assert before is not None

        async def again() -> None:
            assert await store.remove_identity("alice", IdentityKind.USER)
            assert await store.add_identity(replace(ALICE, created=6))

        runner.run(again())
        account = find(runner, directory, "alice")
        assert account.caller(before.identity.stamp) is None
        assert HASHED not in before.identity.stamp


def test_work(
    runner: asyncio.Runner,
    directory: Directory,
    store: SqliteAccess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong password makes the same number of steps, whose ever it is, and if there is nobody."""
    disabled = replace(ALICE, name="carol", enabled=False)
    runner.run(store.add_identity(disabled))
    runner.run(store.add_identity(replace(ALICE, name="dan", passwords=())))
    names = ("alice", "bob", "carol", "dan", "robot", "nobody")
    accounts = [runner.run(directory.find(name)) for name in names]
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
    for account in accounts:
        for password in ("wrong", "", "\0", "a" * 80, "\ud800"):
            steps.clear()
            assert prove(account, password, work=6) is None
            assert sum(steps) == 2**6
    steps.clear()
    assert prove(accounts[2], SECRET, work=6) is None
    assert sum(steps) == 2**6
