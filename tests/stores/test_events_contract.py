"""Every store records what is changed, by whom, in the order of the changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from portside.spec.actions import ordered
from portside.spec.conditions import TagCondition
from portside.spec.digests import Digest
from portside.spec.errors import PreconditionFailed, RegistryError
from portside.spec.locks import Lock, LockChange
from portside.spec.names import RepositoryName, Tag
from portside.spec.patterns import RepositoryPattern
from portside.spec.retention import Removal
from portside.stores import access as access_store
from portside.stores.access import AccessStore, FailureLimits
from portside.stores.actors import LONGEST, NOBODY, Actor
from portside.stores.events import EventAction, EventFilter, NewEvent
from portside.stores.interfaces import MetadataStore, Recorded
from portside.stores.metadata.engine import Transaction
from portside.stores.metadata.events import record_events
from portside.stores.metadata.postgres.transactions import QUICK
from portside.stores.metadata.store import Metadata
from stores.conftest import CheckableStore, Clock, PostgresShelf, Shelf
from stores.test_access_contract import ALICE, KEY, NEXT_KEY, PULL, ROBOT
from stores.test_collection_contract import LATER
from stores.test_metadata_contract import parsed
from support.content import image, index
from support.postgres import Server

A, B = RepositoryName("a"), RepositoryName("b")
ANN = Actor("ann", "request", "192.0.2.1", "client/1", "localhost:5000", "PUT")
FIRST, SECOND = image("first"), image("second")
ONE, TWO = Digest(FIRST.digest), Digest(SECOND.digest)
V1 = Tag("v1")
BLOB = Digest.of(FIRST.blobs[0])
OTHER = Digest.of(b"other")
NOTED = NewEvent(EventAction.RULES_RELOADED)

Told = tuple[str, str, str, dict[str, Any]]


class Reader:
    """Reads on from where it was."""

    def __init__(self, metadata: MetadataStore) -> None:
        self._metadata = metadata
        self.position = 0

    async def read(self) -> list[Told]:
        """Return the action, the reference, the digest and the details of all that is new."""
        found = []
        while events := await self._metadata.read_events(self.position, limit=3):
            found += events
            self.position = events[-1].id
        return [(event.action, event.reference, event.digest, event.details) for event in found]


@pytest.fixture
def reader(metadata: MetadataStore) -> Reader:
    """Read from the beginning."""
    return Reader(metadata)


async def commit(
    metadata: MetadataStore,
    digest: Digest,
    size: int = 4,
    *,
    place: Callable[[], None] = lambda: None,
    by: Actor = ANN,
) -> None:
    """Push a blob, as if its bytes were there."""
    await metadata.commit_blob(A, digest, size, session=None, place=place, by=by)


async def push(metadata: MetadataStore, content: Any, *tags: str, by: Actor = ANN) -> None:
    """Push a manifest with its blobs."""
    for blob in content.blobs:
        await commit(metadata, Digest.of(blob), by=by)
    await put(metadata, content, *tags, by=by)


async def put(
    metadata: MetadataStore,
    content: Any,
    *tags: str,
    condition: TagCondition | None = None,
    by: Actor = ANN,
) -> None:
    """Push a manifest whose blobs are there."""
    await metadata.put_manifest(
        A,
        parsed(content),
        tags=[Tag(tag) for tag in tags],
        condition=condition,
        check_children=True,
        recorded=Recorded(by=by),
    )


class TestContent:
    """What is recorded of each change of content."""

    async def test_pushes(self, metadata: MetadataStore, clock: Clock) -> None:
        """The repository, the manifest, and the tags that moved, with who did it and how."""
        await push(metadata, FIRST, "v1")
        clock.now += 5
        await push(metadata, SECOND, "v1", "v2", by=NOBODY)
        events = await metadata.read_events(0, limit=100)
        first, second = len(FIRST.blobs), len(SECOND.blobs)
        blobs = [*events[:first], *events[first + 3 : first + 3 + second]]
        assert {(event.action, event.reference, event.size) for event in blobs} == {
            ("blob.pushed", "", 4)
        }
        assert [event.digest for event in blobs] == [
            Digest.of(blob) for blob in (*FIRST.blobs, *SECOND.blobs)
        ]
        created, pushed, tagged = events[first : first + 3]
        assert created == replace(
            blobs[0], id=created.id, action="repository.created", digest="", size=None
        )
        assert pushed == replace(
            created,
            id=created.id + 1,
            action="manifest.pushed",
            reference="v1",
            digest=ONE,
            media_type=FIRST.media_type,
            size=len(FIRST.manifest),
        )
        assert tagged == replace(pushed, id=pushed.id + 1, action="tag.set")
        assert (pushed.by, pushed.repository, pushed.time) == (ANN, "a", clock.now - 5)
        again, moved, added = events[-3:]
        assert (again.by, again.reference, again.details) == (NOBODY, "", {"tags": ["v1", "v2"]})
        assert again.time == clock.now
        assert (moved.reference, moved.details) == ("v1", {"before": ONE})
        assert (added.reference, added.details) == ("v2", {})

    async def test_a_push_of_the_same(self, metadata: MetadataStore, reader: Reader) -> None:
        """A manifest that is there is pushed again; its tag does not move."""
        await push(metadata, FIRST, "v1")
        await reader.read()
        await put(metadata, FIRST, "v1")
        assert await reader.read() == [("manifest.pushed", "v1", ONE, {})]

    async def test_blobs(self, metadata: MetadataStore, reader: Reader) -> None:
        """A large blob, a mount and the end of a link."""
        await commit(metadata, BLOB, QUICK + 1)
        await metadata.mount_blob(B, BLOB, A, size=QUICK + 1, by=ANN)
        await metadata.mount_blob(B, BLOB, None, size=QUICK + 1, by=ANN)
        await metadata.unlink_blob(A, BLOB, remove=lambda: None, by=ANN)
        assert await reader.read() == [
            ("blob.pushed", "", BLOB, {}),
            ("blob.mounted", "", BLOB, {"from": "a"}),
            ("blob.mounted", "", BLOB, {}),
            ("blob.deleted", "", BLOB, {}),
        ]
        found = (await metadata.list_events(limit=9)).items
        assert {event.by for event in found} == {ANN}
        assert [event.repository for event in found] == ["a", "b", "b", "a"]

    async def test_deletes(self, metadata: MetadataStore, reader: Reader) -> None:
        """A tag, a manifest behind its tags, a repository as a whole, and a purge."""
        await push(metadata, FIRST, "v2", "v1", "v3")
        await push(metadata, SECOND, "v4")
        await reader.read()
        await metadata.delete_tag(A, V1, by=ANN)
        await metadata.delete_manifest(A, ONE, by=ANN)
        assert await reader.read() == [
            ("tag.deleted", "v1", ONE, {}),
            ("tag.deleted", "v2", ONE, {}),
            ("tag.deleted", "v3", ONE, {}),
            ("manifest.deleted", "", ONE, {}),
        ]
        await metadata.delete_repository(A, by=ANN)
        assert await reader.read() == [("repository.deleted", "", "", {"manifests": 1, "tags": 1})]
        expired = await metadata.list_expired_manifests(LATER, limit=1)
        assert await metadata.purge_manifest(expired[0], LATER, by=ANN)
        assert await reader.read() == [("manifest.purged", "", expired[0].digest, {})]
        assert {event.by for event in (await metadata.list_events(limit=99)).items} == {ANN}

    async def test_restoring(self, metadata: MetadataStore, reader: Reader, clock: Clock) -> None:
        """Manifests before their tags; a repository as a whole; a tag that is pointed back."""
        await push(metadata, FIRST, "v1", "v2")
        await push(metadata, SECOND)
        clock.now += 1
        await metadata.delete_manifest(A, ONE, by=ANN)
        await reader.read()
        await metadata.restore_manifest(A, ONE, by=ANN)
        assert await reader.read() == [
            ("manifest.restored", "", ONE, {}),
            ("tag.restored", "v1", ONE, {}),
            ("tag.restored", "v2", ONE, {}),
        ]
        await metadata.delete_manifest(A, ONE, by=ANN)
        await put(metadata, SECOND, "v1")
        await reader.read()
        await metadata.restore_tag(A, V1, ONE, by=ANN)
        await metadata.restore_tag(A, V1, ONE, by=ANN)
        assert await reader.read() == [
            ("manifest.restored", "", ONE, {}),
            ("tag.restored", "v1", ONE, {"before": TWO}),
        ]
        clock.now += 1
        await metadata.delete_repository(A, by=ANN)
        await reader.read()
        await metadata.restore_repository(A, by=ANN)
        assert await reader.read() == [("repository.restored", "", "", {"manifests": 2, "tags": 1})]
        await metadata.delete_repository(A, by=ANN)
        await reader.read()
        await push(metadata, FIRST)
        assert [told[0] for told in await reader.read()][-2:] == [
            "repository.created",
            "manifest.pushed",
        ]
        assert {event.by for event in (await metadata.list_events(limit=99)).items} == {ANN}

    async def test_locks(self, metadata: CheckableStore, reader: Reader) -> None:
        """Each change of locks names what is locked after it; a request for none is no change."""
        await push(metadata, FIRST, "v1")
        await reader.read()
        both = LockChange(Lock.WRITE | Lock.DELETE)
        await metadata.change_repository(A, both, by=ANN)
        await metadata.change_tag(A, V1, both, by=ANN)
        await metadata.change_manifest(A, ONE, LockChange(unlock=Lock.WRITE), by=ANN)
        await metadata.change_repository(A, LockChange(), by=ANN)
        locked = {"locks": ["delete", "write"]}
        assert await reader.read() == [
            ("properties.changed", "", "", locked),
            ("properties.changed", "v1", ONE, locked),
            ("properties.changed", "", ONE, {"locks": []}),
        ]

    async def test_retention(self, metadata: MetadataStore, reader: Reader) -> None:
        """What the rules delete, and that they did."""
        await push(metadata, FIRST, "v1", "v2")
        await push(metadata, SECOND, "v3")
        await reader.read()
        content = await metadata.read_retained(A)
        manifests = [manifest for manifest in content.manifests if manifest.digest == TWO]
        removal = Removal([tag for tag in content.tags if tag.name != "v2"], manifests, {}, {})
        await metadata.remove_retained(A, removal, by=ANN)
        assert await reader.read() == [
            ("tag.deleted", "v1", ONE, {}),
            ("tag.deleted", "v3", TWO, {}),
            ("manifest.deleted", "", TWO, {}),
            ("retention.applied", "", "", {"manifests": 1, "tags": 2}),
        ]
        await metadata.remove_retained(A, removal, by=ANN)
        assert await reader.read() == []

    async def test_read_only(self, metadata: CheckableStore, reader: Reader) -> None:
        """Each change of the mode is, also the end of a copy; what changes nothing is not."""
        for read_only in (False, True, True, False, False):
            await metadata.set_read_only(read_only=read_only, by=ANN)
        assert await reader.read() == [
            ("read-only.set", "", "", {}),
            ("read-only.lifted", "", "", {}),
        ]
        for by in (None, ANN):
            await metadata.begin_copy("source")
            await metadata.end_copy("source", by=by)
        assert await reader.read() == [("read-only.lifted", "", "", {})]
        assert {event.by for event in (await metadata.list_events(limit=99)).items} == {ANN}

    async def test_repairs(self, shelf: Shelf, metadata: CheckableStore, reader: Reader) -> None:
        """What was dropped, restored or counted; a look that finds nothing to do is no change."""
        assert isinstance(metadata, Metadata)
        await push(metadata, FIRST)
        await commit(metadata, OTHER)
        await reader.read()

        def nothing() -> None:
            """Place and remove nothing."""

        drop = partial(metadata.drop_damaged_blob, confirm=nothing, remove=nothing, by=ANN)
        await drop(BLOB)
        await drop(BLOB, has_bytes=False)
        await drop(OTHER, has_bytes=False)
        restore = partial(metadata.restore_blob, repository="a", place=nothing, by=ANN)
        assert await restore(BLOB, 4)
        assert not await restore(OTHER, 4)
        for _ in range(2):
            await metadata.begin_grace("a", BLOB, by=ANN)
            await metadata.drop_unlinked_blob(OTHER, by=ANN)
        await metadata.replace_payload("a", ONE, FIRST.manifest, by=ANN)
        await metadata.replace_payload("a", TWO, SECOND.manifest, by=ANN)
        await metadata.recount("a", by=ANN)
        assert await reader.read() == [
            ("content.repaired", "", BLOB, {"change": "dropped"}),
            ("content.repaired", "", OTHER, {"change": "dropped"}),
            ("content.repaired", "", BLOB, {"change": "restored"}),
            ("content.repaired", "", ONE, {"change": "restored"}),
            ("content.repaired", "", "", {"change": "counted"}),
        ]
        await shelf.execute("DELETE FROM manifest_references")
        await shelf.execute("UPDATE repository_blobs SET unreferenced = NULL")
        await metadata.begin_grace("a", BLOB, by=ANN)
        await shelf.execute("DELETE FROM repository_blobs")
        await metadata.drop_unlinked_blob(BLOB, by=ANN)
        assert await reader.read() == [
            ("content.repaired", "", BLOB, {"change": "grace begun"}),
            ("content.repaired", "", BLOB, {"change": "dropped"}),
        ]
        found = (await metadata.list_events(limit=99)).items
        assert [event.repository for event in found[:7]] == ["", "a", "a", "a", "a", "", ""]
        assert {event.by for event in found} == {ANN}

    async def test_what_is_refused(self, metadata: MetadataStore, reader: Reader) -> None:
        """A change that is not made leaves no event."""
        await push(metadata, FIRST, "v1")
        await reader.read()

        def fail() -> None:
            raise RuntimeError

        refused: dict[Callable[[], Awaitable[object]], type[Exception]] = {
            partial(put, metadata, FIRST, "v1", condition=TagCondition(none_match=("*",))): (
                PreconditionFailed
            ),
            partial(put, metadata, index(SECOND)): RegistryError,
            partial(metadata.delete_tag, A, Tag("none")): RegistryError,
            partial(metadata.delete_repository, B): RegistryError,
            partial(metadata.unlink_blob, A, BLOB, remove=fail): RegistryError,
            partial(commit, metadata, Digest.of(b"new"), place=fail): RuntimeError,
        }
        for act, error in refused.items():
            with pytest.raises(error):
                await act()
        assert await reader.read() == []


class TestAccess:
    """What is recorded of each change of access control: no secret is."""

    async def test_identities(self, access: AccessStore, reader: Reader) -> None:
        """Users and tokens, what of them changed, and their end."""
        await access.add_scope_map(PULL, by=ANN)
        await access.add_identity(ALICE, by=ANN)
        await access.add_identity(ROBOT, by=ANN)
        await access.add_identity(ROBOT, by=ANN)
        await access.change_identity(
            "alice", ALICE.kind, lambda alice: replace(alice, enabled=False), by=ANN
        )
        changed = (ROBOT.passwords[0], replace(ROBOT.passwords[1], hash="third"))
        await access.change_identity(
            "robot",
            ROBOT.kind,
            lambda robot: replace(robot, expires=None, passwords=changed),
            by=ANN,
        )
        await access.remove_identity("alice", ALICE.kind, by=ANN)
        await access.remove_identity("robot", ROBOT.kind, by=ANN)
        await access.remove_identity("robot", ROBOT.kind, by=ANN)
        rules = {"other": sorted_actions(PULL.rules[0]), "team/*": sorted_actions(PULL.rules[1])}
        assert await reader.read() == [
            ("scope-map.added", "pull", "", {"rules": rules}),
            ("user.added", "alice", "", {}),
            ("token.added", "robot", "", {"scope_map": "pull", "expires": 99}),
            ("user.changed", "alice", "", {"enabled": False}),
            ("token.changed", "robot", "", {"expires": None, "passwords": [2]}),
            ("user.removed", "alice", "", {}),
            ("token.removed", "robot", "", {}),
        ]

    async def test_scope_maps_and_keys(
        self, metadata: MetadataStore, access: AccessStore, reader: Reader
    ) -> None:
        """The rules of a scope map after a change; keys by their ids."""
        await access.add_scope_map(PULL, by=ANN)
        await reader.read()
        await access.change_scope_map("pull", lambda found: replace(found, rules=()), by=ANN)
        await access.remove_scope_map("pull", by=ANN)
        await access.add_key(KEY, by=ANN)
        await access.add_key(NEXT_KEY, only_first=True, by=ANN)
        await access.add_key(NEXT_KEY, by=ANN)
        await access.remove_keys([KEY.id, "unknown"], by=ANN)
        assert await reader.read() == [
            ("scope-map.changed", "pull", "", {"rules": {}}),
            ("scope-map.removed", "pull", "", {}),
            ("key.added", KEY.id, "", {}),
            ("key.added", NEXT_KEY.id, "", {}),
            ("key.removed", KEY.id, "", {}),
        ]
        found = (await metadata.list_events(limit=99)).items
        assert {event.by for event in found} == {ANN}
        stored = repr(found)
        assert KEY.private not in stored


def sorted_actions(rule: access_store.ScopeRule) -> list[str]:
    """Return the actions of a rule as events list them."""
    return [str(action) for action in ordered(rule.actions)]


class TestLogins:
    """Failed logins: what a stranger can write is bounded."""

    async def fail(
        self,
        access: AccessStore,
        clock: Clock,
        source: str,
        name: str,
        *,
        is_known: bool = True,
    ) -> None:
        """Fail to log in, where 3 failures of a name and 5 of a source are the limits."""
        clock.now += 1
        await access.add_failure(
            source,
            name,
            forget_before=clock.now - 100,
            is_known=is_known,
            limits=FailureLimits(3, 5),
            by=Actor(address=source),
        )

    async def test_one_for_each_name(
        self, access: AccessStore, reader: Reader, clock: Clock
    ) -> None:
        """The first failure is recorded, and each limit that is reached; later, so is the next."""
        for _ in range(4):
            await self.fail(access, clock, "here", "alice")
        await self.fail(access, clock, "here", "bob")
        await self.fail(access, clock, "here", "bob")
        await self.fail(access, clock, "there", "alice")
        assert await reader.read() == [
            ("login.failed", "alice", "", {}),
            ("login.limited", "alice", "", {}),
            ("login.failed", "bob", "", {}),
            ("login.limited", "", "", {}),
            ("login.failed", "alice", "", {}),
        ]
        clock.now += 200
        await self.fail(access, clock, "here", "alice")
        assert await reader.read() == [("login.failed", "alice", "", {})]

    async def test_unknown_names(self, access: AccessStore, reader: Reader, clock: Clock) -> None:
        """They are counted and recorded one by one, and kept nowhere."""
        for name in ("my password", "my passwort", "my password", "my password"):
            await self.fail(access, clock, "here", name, is_known=False)
        assert await access.count_failures("here", "my password", 0) == 3
        assert await access.count_failures("here", "my passwort", 0) == 1
        unknown = {"name": "unknown"}
        assert await reader.read() == [
            ("login.failed", "", "", unknown),
            ("login.failed", "", "", unknown),
            ("login.limited", "", "", unknown),
        ]

    async def test_a_slow_attack(self, access: AccessStore, reader: Reader, clock: Clock) -> None:
        """Failures that never stop are recorded once in each window."""
        for _ in range(8):
            clock.now += 39
            await self.fail(access, clock, "here", "alice")
        told = [told[0] for told in await reader.read()]
        assert told.count("login.failed") == 3

    async def test_many_names(
        self,
        access: AccessStore,
        reader: Reader,
        clock: Clock,
    ) -> None:
        """More names than a few are not recorded, from however many sources."""
        most = access_store.MOST_RECORDED
        clock.now += 1000
        for number in range(0, most + 20, 20):
            await asyncio.gather(
                *(
                    access.add_failure(f"source {n}", "name", forget_before=0)
                    for n in range(number, number + 20)
                )
            )
        assert len(await reader.read()) == most

    async def test_read_only(
        self, metadata: CheckableStore, access: AccessStore, reader: Reader, clock: Clock
    ) -> None:
        """A registry that is read-only counts failures, and records nothing."""
        await metadata.set_read_only(read_only=True)
        for _ in range(3):
            await self.fail(access, clock, "here", "alice")
        assert await access.count_failures("here", "alice", 0) == 3
        assert await reader.read() == []


class TestReading:
    """Lists, and what is kept."""

    async def test_filters(self, metadata: MetadataStore, clock: Clock) -> None:
        """By time, identity, action and repository; newest first, page by page."""
        start = clock.now
        for number, name in enumerate(("a", "team/a", "team/b", "")):
            clock.now = start + number
            action = EventAction.TAG_SET if name else EventAction.USER_ADDED
            by = Actor(f"u{number}", f"request {number}")
            await metadata.record_event(NewEvent(action, name, str(number)), by)

        async def found(**wanted: Any) -> list[str]:
            page = await metadata.list_events(EventFilter(**wanted), limit=9)
            return [event.reference for event in page.items]

        assert await found() == ["3", "2", "1", "0"]
        assert await found(since=start + 1, until=start + 3) == ["2", "1"]
        assert await found(identity="u1") == await found(request="request 1") == ["1"]
        assert await found(identity="u1", request="request 2") == await found(request="\0") == []
        assert await found(action="user.added") == await found(action="user.*") == ["3"]
        assert await found(action="tag.*") == ["2", "1", "0"]
        assert await found(action="tag") == await found(action="tag.s") == []
        team, every = (RepositoryPattern(text).names for text in ("team/*", "*"))
        assert await found(names=[team]) == ["2", "1"]
        assert await found(names=[RepositoryPattern("a").names, team]) == ["2", "1", "0"]
        assert await found(names=[every]) == ["2", "1", "0"]
        assert await found(names=[]) == []
        assert await found(identity="\0") == await found(identity="u9") == []
        assert await found(since=-(10**30), until=10**30) == ["3", "2", "1", "0"]
        page = await metadata.list_events(limit=3)
        assert ([event.reference for event in page.items], page.more) == (["3", "2", "1"], True)
        page = await metadata.list_events(before=page.items[-1].id, limit=3)
        assert ([event.reference for event in page.items], page.more) == (["0"], False)

    async def test_trimming(self, metadata: MetadataStore, reader: Reader, clock: Clock) -> None:
        """The oldest go first, few at a time; the last one stays, and ids go on."""
        start = clock.now
        assert await metadata.last_event() == 0
        assert await metadata.trim_events(LATER, limit=9) == 0
        for number in range(5):
            clock.now = start + number
            await metadata.record_event(NOTED, NOBODY)
        last = await metadata.last_event()
        assert await metadata.trim_events(start + 2, limit=2) == 2
        assert await metadata.trim_events(start + 2, limit=2) == 1
        assert await metadata.trim_events(start + 2, limit=2) == 0
        assert len((await metadata.list_events(limit=9)).items) == 2
        assert await metadata.trim_events(LATER, limit=9) == 1
        await metadata.record_event(NOTED, NOBODY)
        assert [event.id for event in await metadata.read_events(0, limit=9)] == [last, last + 1]
        assert len(await reader.read()) == 2

    async def test_what_a_filter_matches(self, metadata: MetadataStore, clock: Clock) -> None:
        """A reader that filters by itself gets what a list has."""
        start = clock.now
        for number, name in enumerate(("a", "team/a", "")):
            clock.now = start + number
            action = EventAction.TAG_SET if name else EventAction.USER_ADDED
            by = Actor(f"u{number}", f"request {number}")
            await metadata.record_event(NewEvent(action, name, str(number)), by)
        events = await metadata.read_events(0, limit=9)
        for wanted in (
            EventFilter(),
            EventFilter(since=start + 1, until=start + 2),
            EventFilter(identity="u1"),
            EventFilter(request="request 1"),
            EventFilter(action="tag.*"),
            EventFilter(action="user.added"),
            EventFilter(names=[RepositoryPattern("*").names]),
            EventFilter(names=[RepositoryPattern("team/*").names]),
            EventFilter(names=[]),
        ):
            page = await metadata.list_events(wanted, limit=9)
            assert page.items == [event for event in events[::-1] if wanted.matches(event)]

    async def test_once(self, metadata: MetadataStore, shelf: Shelf) -> None:
        """Of several processes that see the same file, one records it; then its next version."""
        nodes = [shelf.metadata() for _ in range(3)]
        for digest in ("one", "one", "two", "one"):
            event = NewEvent(EventAction.RULES_RELOADED, reference="rules.toml", digest=digest)
            await asyncio.gather(*(node.record_event(event, NOBODY, once=True) for node in nodes))
        found = (await metadata.list_events(limit=9)).items
        assert [event.digest for event in found] == ["one", "two", "one"]

    async def test_texts_of_clients(self, metadata: MetadataStore) -> None:
        """What cannot be stored is replaced, and a long text is cut."""
        odd = Actor("ann", agent="a\0b\udcff" + "x" * 9999, host="\0")
        await metadata.record_event(NOTED, odd)
        (found,) = (await metadata.list_events(limit=9)).items
        assert (found.by.name, found.by.host) == ("ann", "")
        assert len(found.by.agent) <= LONGEST
        assert found.by.agent.startswith("ab?x")

    async def test_order_in_a_repository(self, shelf: Shelf, clock: Clock) -> None:
        """Of pushes by several nodes at once, the last event is of what the tag points to."""
        del clock
        nodes = [shelf.metadata() for _ in range(3)]
        for content in (FIRST, SECOND):
            await push(nodes[0], content)
        for _ in range(4):
            await asyncio.gather(
                *(
                    put(node, content, "v1")
                    for node, content in zip(nodes, (FIRST, SECOND, FIRST), strict=True)
                )
            )
            current = (await nodes[0].get_tag(A, V1)).digest
            events = await nodes[0].read_events(0, limit=999)
            moves = [event for event in events if event.action == "tag.set"]
            assert moves[-1].digest == current
            digests = [move.digest for move in moves]
            assert [move.details.get("before") for move in moves] == [None, *digests[:-1]]


class TestLateCommits:
    """Events of transactions that end in another order, in PostgreSQL."""

    @pytest.fixture
    @staticmethod
    async def opened(postgresql: Server, clock: Clock) -> PostgresShelf:
        """Make an empty database."""
        return await PostgresShelf.create(postgresql, clock)

    @staticmethod
    async def begin(shelf: PostgresShelf) -> tuple[asyncio.Future[bool], asyncio.Task[bool]]:
        """Record an event in a transaction that ends when a future says whether it commits."""
        ending: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        recorded = asyncio.Event()

        async def job(transaction: Transaction) -> bool:
            await record_events(transaction, NOBODY, [NOTED])
            recorded.set()
            if not await ending:
                raise RuntimeError
            return True

        task = asyncio.ensure_future(shelf.open().write(job))
        await recorded.wait()
        return ending, task

    @pytest.mark.parametrize("commits", [True, False])
    async def test_the_first_ends_last(self, opened: PostgresShelf, *, commits: bool) -> None:
        """A reader does not go past an event that may still come, and waits for no other one."""
        metadata: Metadata = opened.metadata()
        reader = Reader(metadata)
        await metadata.record_event(NOTED, NOBODY)
        assert len(await reader.read()) == 1
        first, ended = await self.begin(opened)
        await metadata.record_event(NOTED, NOBODY)
        for _ in range(2):
            assert await reader.read() == []
        # Whoever begins now gets a greater id, and delays nobody.
        last, never_mind = await self.begin(opened)
        first.set_result(commits)
        with nullcontext() if commits else pytest.raises(RuntimeError):
            await ended
        assert len(await reader.read()) == 1 + commits
        await metadata.record_event(NOTED, NOBODY)
        assert await reader.read() == []
        last.set_result(True)
        await never_mind
        assert len(await reader.read()) == 2
        assert reader.position == await metadata.last_event()
        await opened.close()
