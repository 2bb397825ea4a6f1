"""Access control over a real store: what is remembered, and forgotten at once."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from msgspec.structs import replace

from auth.conftest import SECOND, Clock, Elapsed
from portside.auth import access_control
from portside.auth.access_control import (
    AccessControl,
    AccessTerms,
    CredentialsInvalid,
)
from portside.auth.access_files import AccessFiles
from portside.auth.credentials import BasicCredentials
from portside.auth.grants import NOBODY, Caller, Grants
from portside.auth.identities import TOKEN_USER
from portside.auth.limits import ALL_NAMES, LoginLimits
from portside.auth.passwords import digest_password, hash_password
from portside.auth.tokens.keys import KeyRing, load_keys, make_key, rotate_keys
from portside.auth.tokens.own import TokenInvalid
from portside.files.text import FileInvalid
from portside.spec.actions import ALL, Action
from portside.spec.errors import TooManyRequests
from portside.spec.patterns import RepositoryPattern
from portside.stores.access import (
    IdentityKind,
    ScopeMap,
    ScopeRule,
    StoredIdentity,
    StoredPassword,
)
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Access
from support.sqlite import open_database

SOURCE = "192.0.2.1"
FAILURES, WINDOW = 3, 60
REMEMBERED = 30.0
SECRET, OTHER_SECRET, MADE = "alice's own", "alice's other", "made for the robot"
HASHED, OTHER_HASHED = (hash_password(text, cost=4) for text in (SECRET, OTHER_SECRET))
ALICE = BasicCredentials("alice", SECRET)
ROBOT = BasicCredentials("robot", MADE)
GRANTS = Grants({"team/app": frozenset({Action.PULL})})
CI_RING = KeyRing([make_key(1)])
TERMS = AccessTerms(
    open=False,
    required=False,
    audience="registry.example",
    work=4,
    access_life=300,
    refresh_life=3600,
    credential_life=REMEMBERED,
    login_refresh_tokens=False,
    clock_skew=60,
    login_queue=64,
)


class Worker:
    """One process that serves: a connection of its own, and its own access control."""

    def __init__(self, folder: Path, clock: Clock, elapsed: Elapsed, **settings: Any) -> None:
        self.database = SqliteDatabase(folder, clock=clock)
        self.store = Access(self.database)
        terms: AccessTerms = settings.pop("terms", TERMS)
        files = {"anonymous": (), "access_file": "", "htpasswd": ""} | settings
        self.control = AccessControl(
            self.store,
            files=AccessFiles(**files),
            terms=terms,
            limits=LoginLimits(self.store, failures=FAILURES, window=WINDOW, clock=clock),
            clock=clock,
            elapsed=elapsed,
        )

    def close(self) -> None:
        """Stop."""
        self.control.close()
        self.database.close()

    async def basic(self, given: BasicCredentials = ALICE, source: str = SOURCE) -> Caller:
        """Log in."""
        return await self.control.authenticate_basic(await self.control.snapshot(), given, source)

    async def bearer(self, token: str) -> Caller:
        """Use an access token."""
        return await self.control.authenticate_bearer(await self.control.snapshot(), token)

    async def exchange(self, token: str) -> Caller:
        """Use a refresh token."""
        return await self.control.exchange(await self.control.snapshot(), token)

    async def access_token(self, caller: Caller, grants: Grants = GRANTS) -> str:
        """Get an access token."""
        return self.control.access_token(await self.control.snapshot(), caller, grants)[0]

    async def refresh_token(self, caller: Caller) -> str:
        """Get a refresh token."""
        return self.control.refresh_token(await self.control.snapshot(), caller)

    async def use_up(self, name: str = "alice") -> None:
        """Fail until there is no more attempt for a name."""
        for _ in range(FAILURES):
            with pytest.raises(CredentialsInvalid):
                await self.basic(BasicCredentials(name, "wrong"))

    async def is_remembered(self, given: BasicCredentials = ALICE) -> bool:
        """Whether credentials are accepted without a look at the store."""
        try:
            await self.basic(given)
        except TooManyRequests:
            return False
        return True


Start = Callable[..., Worker]


@pytest.fixture
async def start(
    store: Access, tmp_path: Path, clock: Clock, elapsed: Elapsed
) -> AsyncIterator[Start]:
    """Start workers over a store with a user and a token."""
    await load_keys(store, clock())
    rule = ScopeRule(RepositoryPattern("team/*"), frozenset({Action.PULL}))
    assert await store.add_scope_map(ScopeMap("pull", 1, rules=(rule,)))
    for name, kind, hashed, scope_map in (
        ("alice", IdentityKind.USER, HASHED, None),
        ("robot", IdentityKind.TOKEN, digest_password(MADE), "pull"),
    ):
        passwords = (StoredPassword(1, hashed, 1),)
        identity = StoredIdentity(name, kind, 1, scope_map=scope_map, passwords=passwords)
        assert await store.add_identity(identity)

    with ExitStack() as stack:

        def begin(**settings: Any) -> Worker:
            worker = Worker(tmp_path, clock, elapsed, **settings)
            stack.callback(worker.close)
            return worker

        yield begin


@pytest.fixture
def worker(start: Start) -> Worker:
    """Start one worker, without files."""
    return start()


async def change_alice(store: Access, **changes: Any) -> None:
    """Change the user, as a command in another process does."""
    found = await store.change_identity(
        "alice", IdentityKind.USER, lambda alice: replace(alice, **changes)
    )
    assert found is not None


async def give_other_password(store: Access) -> None:
    """Set another password for the user."""
    await change_alice(store, passwords=(StoredPassword(1, OTHER_HASHED, 2),))


async def disable(store: Access) -> None:
    """Disable the user."""
    await change_alice(store, enabled=False)


async def remove(store: Access) -> None:
    """Remove the user."""
    assert await store.remove_identity("alice", IdentityKind.USER)


async def make_again(store: Access) -> None:
    """Remove the user, and make another one with the same name and password."""
    alice = await store.get_identity("alice")
    assert alice is not None
    await remove(store)
    assert await store.add_identity(replace(alice, created=2))


ENDINGS = [give_other_password, disable, remove]
Ending = Callable[[Access], Awaitable[None]]


class TestPasswords:
    """Basic."""

    async def test_right_and_wrong(self, worker: Worker) -> None:
        """Only the right password of the right name is taken."""
        assert (await worker.basic()).identity.name == "alice"
        assert (await worker.basic(ROBOT)).identity.kind is IdentityKind.TOKEN
        for name, password in (
            ("alice", MADE),
            ("robot", SECRET),
            ("nobody", SECRET),
            ("", SECRET),
            ("bob", ""),
            ("al\0ice", SECRET),
            (TOKEN_USER, SECRET),
        ):
            with pytest.raises(CredentialsInvalid) as caught:
                await worker.basic(BasicCredentials(name, password))
            assert str(caught.value) == "wrong name or password"

    async def test_remembering(self, worker: Worker, elapsed: Elapsed) -> None:
        """A verified pair is remembered as long as is said, and no other pair is with it."""
        caller = await worker.basic()
        await worker.use_up()
        assert await worker.is_remembered()
        assert await worker.basic() == caller
        assert not await worker.is_remembered(BasicCredentials("alice", SECRET + "x"))
        elapsed.now += REMEMBERED - 1
        assert await worker.is_remembered()
        elapsed.now += 1
        assert not await worker.is_remembered()

    @pytest.mark.parametrize("end", ENDINGS)
    async def test_forgetting(self, start: Start, store: Access, end: Ending) -> None:
        """What was remembered is forgotten in every process by the next request after a change."""
        workers = [start(), start()]

        for worker in workers:
            await worker.basic()
        await end(store)
        for worker in workers:
            with pytest.raises(CredentialsInvalid):
                await worker.basic()

    async def test_other_password(self, worker: Worker, store: Access) -> None:
        """The new password is good at once."""
        await worker.basic()
        await give_other_password(store)
        await worker.basic(BasicCredentials("alice", OTHER_SECRET))

    async def test_expiry(
        self,
        worker: Worker,
        store: Access,
        clock: Clock,
        elapsed: Elapsed,
    ) -> None:
        """Credentials that expire are not remembered any longer."""
        end = (clock() // SECOND + 10) * SECOND
        await change_alice(store, expires=end)
        caller = await worker.basic()
        assert caller.expires == end // SECOND
        clock.forward(11)
        elapsed.now += 11
        with pytest.raises(CredentialsInvalid):
            await worker.basic()

    async def test_htpasswd(self, start: Start, tmp_path: Path) -> None:
        """A user removed from the htpasswd file is unknown to the next request."""
        path = tmp_path / "htpasswd"
        path.write_text(f"bob:{HASHED}\ncarol:{HASHED}\n")
        worker = start(htpasswd=str(path))
        bob, carol = (BasicCredentials(name, SECRET) for name in ("bob", "carol"))

        await worker.basic(bob)
        token = await worker.refresh_token(await worker.basic(carol))
        path.write_text(f"bob:{HASHED}\n")
        await worker.basic(bob)
        with pytest.raises(CredentialsInvalid):
            await worker.basic(carol)
        with pytest.raises(TokenInvalid):
            await worker.exchange(token)


class TestLimits:
    """Guessing."""

    async def test_one_name(self, worker: Worker, clock: Clock) -> None:
        """After some failures of a name from a source even the right password has to wait."""
        await worker.use_up()
        with pytest.raises(TooManyRequests) as caught:
            await worker.basic()
        assert caught.value.seconds == WINDOW
        await worker.basic(ROBOT)
        await worker.basic(source="192.0.2.2")
        clock.forward(WINDOW + 1)
        await worker.basic()

    async def test_every_process(self, start: Start) -> None:
        """Failures count wherever they were made."""
        workers = [start(), start()]

        await workers[0].use_up()
        with pytest.raises(TooManyRequests):
            await workers[1].basic()

    async def test_many_names(self, worker: Worker) -> None:
        """Trying many names is limited too; unknown names count like known ones."""
        for number in range(FAILURES * ALL_NAMES):
            with pytest.raises(CredentialsInvalid):
                await worker.basic(BasicCredentials(f"name-{number}", SECRET))
        with pytest.raises(TooManyRequests):
            await worker.basic()

    async def test_at_the_same_time(self, worker: Worker) -> None:
        """Attempts that are sent together are counted before they are looked at."""
        guesses = [worker.basic(BasicCredentials("alice", f"{n}")) for n in range(20)]
        found = await asyncio.gather(*guesses, return_exceptions=True)
        looked_at = [error for error in found if isinstance(error, CredentialsInvalid)]
        assert len(looked_at) <= FAILURES + access_control.MAX_HASHING
        assert all(isinstance(error, CredentialsInvalid | TooManyRequests) for error in found)

    async def test_long_names(self, worker: Worker) -> None:
        """The end of a name that is too long for anybody makes no other name of it."""
        for number in range(FAILURES):
            with pytest.raises(CredentialsInvalid):
                await worker.basic(BasicCredentials("a" * 100 + str(number), "x"))
        with pytest.raises(TooManyRequests):
            await worker.basic(BasicCredentials("a" * 101, "x"))

    async def test_cost_of_every_user(self, store: Access, worker: Worker) -> None:
        """An unknown name takes as long as the user with the most costly hash."""
        passwords = (StoredPassword(1, hash_password(SECRET, cost=7), 1),)
        costly = StoredIdentity("costly", IdentityKind.USER, 1, passwords=passwords)
        assert await store.add_identity(costly)
        assert (await worker.control.snapshot()).work == 7

    async def test_too_many_waiting(self, start: Start) -> None:
        """Of too many logins at the same time some are told to come again, and then may."""
        worker = start(terms=dataclasses.replace(TERMS, login_queue=2))
        logins = [
            worker.basic(BasicCredentials(f"user{number}", "x"), f"192.0.2.{number}")
            for number in range(10)
        ]
        found = await asyncio.gather(*logins, return_exceptions=True)
        refused = [error for error in found if isinstance(error, TooManyRequests)]
        assert len(refused) == 10 - access_control.MAX_HASHING - 2
        assert {error.seconds for error in refused} == {1}
        await worker.basic()

    async def test_same_login_many_times(self, start: Start) -> None:
        """Requests with the same credentials wait for one slow hash together."""
        worker = start(terms=dataclasses.replace(TERMS, login_queue=1))
        found = await asyncio.gather(*[worker.basic() for _ in range(100)])
        assert len({caller.identity.name for caller in found}) == 1


class TestRefreshTokens:
    """They stand for a password, and end with it."""

    async def test_good(self, worker: Worker) -> None:
        """A refresh token is who it was made for, as a parameter and as a password."""
        caller = await worker.basic()
        token = await worker.refresh_token(caller)
        for found in (
            await worker.exchange(token),
            await worker.basic(BasicCredentials(TOKEN_USER, token)),
        ):
            assert found.identity == caller.identity
            assert found.grants is None
            assert found.expires is not None
        with pytest.raises(TokenInvalid):
            await worker.bearer(token)

    @pytest.mark.parametrize("end", [*ENDINGS, make_again])
    async def test_end(self, worker: Worker, store: Access, end: Ending) -> None:
        """Deleting, disabling or re-passwording an identity ends all its tokens at once."""
        caller = await worker.basic()
        refresh = await worker.refresh_token(caller)
        access = await worker.access_token(caller)
        await worker.exchange(refresh)
        await worker.basic(BasicCredentials(TOKEN_USER, refresh))
        await worker.bearer(access)
        await end(store)
        for used in (worker.exchange(refresh), worker.bearer(access)):
            with pytest.raises(TokenInvalid):
                await used
        with pytest.raises(CredentialsInvalid):
            await worker.basic(BasicCredentials(TOKEN_USER, refresh))

    async def test_one_of_two_passwords(self, worker: Worker, store: Access) -> None:
        """A password that is made anew ends its own tokens, and not those of the other."""

        async def set_passwords(*made: str) -> None:
            passwords = tuple(
                StoredPassword(number, digest_password(text), 1)
                for number, text in enumerate(made, 1)
            )
            await store.change_identity(
                "robot", IdentityKind.TOKEN, lambda robot: replace(robot, passwords=passwords)
            )

        await set_passwords("one", "two")
        tokens = [
            await worker.refresh_token(await worker.basic(BasicCredentials("robot", text)))
            for text in ("one", "two")
        ]
        await set_passwords("one", "three")
        await worker.exchange(tokens[0])
        with pytest.raises(TokenInvalid):
            await worker.exchange(tokens[1])

    async def test_no_longer_than_the_identity(
        self, worker: Worker, store: Access, clock: Clock
    ) -> None:
        """No token outlives the credentials that it was made for, and none made from it does."""
        end = clock() // SECOND + 20
        await change_alice(store, expires=end * SECOND)
        caller = await worker.basic()
        refresh = await worker.refresh_token(caller)
        found = await worker.exchange(refresh)
        snapshot = await worker.control.snapshot()
        access, life = worker.control.access_token(snapshot, found, GRANTS)
        assert life == 20
        for token in (refresh, await worker.refresh_token(found), access):
            payload = jwt.decode(token, options={"verify_signature": False})
            assert payload["exp"] == end

    async def test_an_end_that_is_set_later(
        self, worker: Worker, store: Access, clock: Clock
    ) -> None:
        """Tokens from before end with the identity, and so does what is made from them."""
        caller = await worker.basic()
        refresh, access = await worker.refresh_token(caller), await worker.access_token(caller)
        end = clock() // SECOND + 20
        await change_alice(store, expires=end * SECOND)
        for found in (await worker.exchange(refresh), await worker.bearer(access)):
            assert found.expires == end

    async def test_expired(self, worker: Worker, clock: Clock) -> None:
        """Tokens of long ago are refused."""
        caller = await worker.basic()
        clock.forward(-2 * TERMS.refresh_life)
        refresh = await worker.refresh_token(caller)
        access = await worker.access_token(caller)
        for used in (worker.exchange(refresh), worker.bearer(access)):
            with pytest.raises(TokenInvalid, match="expired"):
                await used


class TestAccessTokens:
    """Bearer."""

    async def test_grants(self, worker: Worker) -> None:
        """A token gives what both it and the policy give."""
        token = await worker.access_token(await worker.basic(ROBOT))
        everything = Grants({"*": ALL}, catalog=True)
        wide = await worker.access_token(await worker.basic(ROBOT), everything)
        snapshot = await worker.control.snapshot()
        caller, wide_caller = await worker.bearer(token), await worker.bearer(wide)
        assert caller.grants == GRANTS
        assert snapshot.may(caller, Action.PULL, "team/app")
        assert not snapshot.may(caller, Action.PULL, "team/other")
        assert not snapshot.may(caller, Action.PUSH, "team/app")
        assert snapshot.may(wide_caller, Action.PULL, "team/other")
        assert not snapshot.may(wide_caller, Action.PUSH, "team/app")
        assert not snapshot.may(wide_caller, Action.PULL, "elsewhere")

    async def test_scope_map(self, worker: Worker, store: Access) -> None:
        """What is taken out of a scope map, its tokens may no longer do, at once."""
        token = await worker.access_token(await worker.basic(ROBOT))
        await worker.bearer(token)
        await store.change_scope_map("pull", lambda found: replace(found, rules=()))
        for caller in (await worker.bearer(token), await worker.basic(ROBOT)):
            snapshot = await worker.control.snapshot()
            assert not snapshot.may(caller, Action.PULL, "team/app")

    async def test_anonymous(self, start: Start) -> None:
        """A token of nobody in particular gives what everyone may."""
        worker = start(anonymous=("public/*:pull",))

        grants = Grants({"public/a": ALL, "team/app": ALL})
        caller = await worker.bearer(await worker.access_token(NOBODY, grants))
        snapshot = await worker.control.snapshot()
        assert caller.identity.is_anonymous
        assert snapshot.may(caller, Action.PULL, "public/a")
        assert not snapshot.may(caller, Action.PUSH, "public/a")
        assert not snapshot.may(caller, Action.PULL, "team/app")

    async def test_other_registry(self, worker: Worker, tmp_path: Path, clock: Clock) -> None:
        """A token of another registry, with other keys, is refused."""
        folder = tmp_path / "other"
        folder.mkdir()
        await open_database(folder, clock=clock)
        other = Worker(folder, clock, Elapsed())
        try:
            token = await other.access_token(NOBODY)
            with pytest.raises(TokenInvalid, match="unknown key"):
                await worker.bearer(token)
            for text in ("", "a.b.c", "\ud800", "\u00e9" * 9):
                with pytest.raises(TokenInvalid):
                    await worker.bearer(text)
        finally:
            other.close()

    async def test_rotation(self, start: Start, store: Access, clock: Clock) -> None:
        """Tokens in flight outlive a rotation of the keys, and new ones are good everywhere."""
        workers = [start(), start()]

        before = await workers[0].access_token(await workers[0].basic())
        clock.forward(1)
        await rotate_keys(store, clock(), token_life=TERMS.refresh_life * SECOND)
        clock.forward(-1)
        after = await workers[1].access_token(await workers[1].basic())
        kids = [jwt.get_unverified_header(token)["kid"] for token in (before, after)]
        assert kids[0] != kids[1]
        for worker in workers:
            for token in (before, after):
                assert (await worker.bearer(token)).identity.name == "alice"


def write_access_file(folder: Path, *, issuer: str = "ci", keys: str = "keys.json") -> Path:
    """Trust an issuer, whose robots may do everything in the repositories of the team."""
    (folder / "keys.json").write_text(json.dumps(CI_RING.jwks))
    path = folder / "access.toml"
    path.write_text(
        f"""
        [[issuer]]
        name = "{issuer}"
        issuer = "https://{issuer}.example"
        audience = "registry.example"
        jwks-file = "{folder / keys}"

        [[access]]
        identities = ["ci:robot"]
        repositories = ["team/*"]
        actions = ["*"]
        """
    )
    return path


def sign_as_ci(clock: Clock, **claims: Any) -> str:
    """Sign a token as the trusted issuer."""
    payload = {
        "iss": "https://ci.example",
        "aud": "registry.example",
        "sub": "robot",
        "exp": clock() // SECOND + 600,
        **claims,
    }
    headers = {"kid": CI_RING.newest}
    return jwt.encode(payload, CI_RING.signing, algorithm="ES256", headers=headers)


class TestForeignTokens:
    """Tokens of a trusted issuer."""

    async def test_good(self, start: Start, tmp_path: Path, clock: Clock) -> None:
        """They are taken directly, exchanged, and as a password."""
        worker = start(access_file=str(write_access_file(tmp_path)))
        token = sign_as_ci(clock)

        refresh = await worker.refresh_token(await worker.exchange(token))
        access = await worker.access_token(await worker.exchange(refresh))
        for caller in (
            await worker.bearer(token),
            await worker.basic(BasicCredentials(TOKEN_USER, token)),
            await worker.exchange(refresh),
            await worker.bearer(access),
        ):
            assert caller.identity.name == "ci:robot"
            assert caller.identity.kind is IdentityKind.FOREIGN
            assert caller.expires is not None
            assert caller.expires <= clock() // SECOND + 600 + TERMS.clock_skew
            snapshot = await worker.control.snapshot()
            assert snapshot.may(caller, Action.PULL, "team/app")
            assert not snapshot.may(caller, Action.PULL, "other")

    async def test_limit(self, start: Start, tmp_path: Path, clock: Clock) -> None:
        """What a token is limited to, no token made from it exceeds."""
        worker = start(access_file=str(write_access_file(tmp_path)))
        entry = {"type": "repository", "name": "team/app", "actions": ["pull"]}
        token = sign_as_ci(clock, access=[entry])

        direct = await worker.exchange(token)
        refresh = await worker.refresh_token(direct)
        again = await worker.refresh_token(await worker.exchange(refresh))
        snapshot = await worker.control.snapshot()
        for caller in (
            direct,
            await worker.bearer(token),
            await worker.exchange(refresh),
            await worker.exchange(again),
            await worker.basic(BasicCredentials(TOKEN_USER, again)),
        ):
            assert caller.grants == GRANTS
            assert snapshot.may(caller, Action.PULL, "team/app")
            assert not snapshot.may(caller, Action.PUSH, "team/app")
            assert not snapshot.may(caller, Action.PULL, "team/other")

    async def test_strange_limit(self, start: Start, tmp_path: Path, clock: Clock) -> None:
        """Whatever a token is limited to, a token made from it can be read by every client."""
        worker = start(access_file=str(write_access_file(tmp_path)))
        entry = {"type": "repository", "name": "?>~\x7f\u00ff", "actions": ["pull"]}
        token = sign_as_ci(clock, access=[entry], sub="?>~\x7f")

        refresh = await worker.refresh_token(await worker.exchange(token))
        middle = refresh.split(".")[1]
        base64.b64decode(middle + "=" * (-len(middle) % 4), validate=True)
        assert (await worker.exchange(refresh)).grants == Grants()

    async def test_no_longer_trusted(self, start: Start, tmp_path: Path, clock: Clock) -> None:
        """When an issuer is no longer trusted, its tokens and all made from them end at once."""
        worker = start(access_file=str(write_access_file(tmp_path)))
        token = sign_as_ci(clock)

        caller = await worker.exchange(token)
        refresh = await worker.refresh_token(caller)
        access = await worker.access_token(caller)
        await worker.bearer(access)
        write_access_file(tmp_path, issuer="other", keys="missing.json")
        for used in (
            worker.bearer(token),
            worker.exchange(token),
            worker.exchange(refresh),
            worker.bearer(access),
        ):
            with pytest.raises(TokenInvalid):
                await used
        await worker.basic()

    async def test_missing_keys(self, start: Start, tmp_path: Path) -> None:
        """A registry does not start with an issuer whose keys are missing."""
        path = write_access_file(tmp_path, keys="missing.json")
        with pytest.raises(FileInvalid, match=r"missing\.json"):
            start(access_file=str(path))


class TestSnapshots:
    """What holds now."""

    async def test_the_same(self, worker: Worker, store: Access) -> None:
        """As long as nothing changes, everything that is remembered stays; failures are none."""
        first = await worker.control.snapshot()
        await worker.use_up()
        assert await worker.control.snapshot() is first
        await store.add_scope_map(ScopeMap("new", 1))
        assert await worker.control.snapshot() is not first

    async def test_closed(self, tmp_path: Path, clock: Clock, store: Access) -> None:
        """The first identity closes an open registry, and the last one's removal opens none."""
        worker = Worker(tmp_path, clock, Elapsed())

        try:
            assert not (await worker.control.snapshot()).closed
            alice = StoredIdentity("alice", IdentityKind.USER, 1)
            assert await store.add_identity(alice)
            assert (await worker.control.snapshot()).closed
            await remove(store)
            assert (await worker.control.snapshot()).closed
        finally:
            worker.close()

    async def test_work(self, start: Start, tmp_path: Path) -> None:
        """A failed login takes as long as the slowest hash of the htpasswd file."""
        path = tmp_path / "htpasswd"
        path.write_text(f"bob:{hash_password(SECRET, cost=6)}\n")
        worker = start(htpasswd=str(path))
        assert (await worker.control.snapshot()).work == 6
