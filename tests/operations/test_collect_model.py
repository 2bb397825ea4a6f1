"""Random sequences of pushes, deletes, restores and collections, with a clock that they set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from operations.conftest import HOUR, MINUTE, Registry
from portside.operations.push import Chunk
from portside.spec.digests import Digest
from portside.spec.errors import (
    BlobInUse,
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestInUse,
    ManifestUnknown,
    NameUnknown,
    OperationDisallowed,
    RegistryError,
)
from portside.spec.locks import Lock, LockChange
from portside.spec.names import RepositoryName
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.engine import Database
from portside.stores.metadata.sqlite.database import SqliteDatabase
from stores.conftest import Clock, PostgresShelf
from support.blobs import listed
from support.content import Content, digest_of, image, index
from support.postgres import Server

IMAGES = [image(("model", number), layers=1, layer_size=50 + number) for number in range(2)]
SHARING = image(("model", 0), layers=2, layer_size=50)
MANIFESTS = [*IMAGES, SHARING, index(*IMAGES)]
BLOBS = sorted({blob for content in MANIFESTS for blob in content.blobs})
KEEP_DELETED = 2 * HOUR

NAMES = ("one", "two")
names = st.sampled_from(NAMES)
blobs = st.sampled_from(BLOBS)
manifests = st.sampled_from(MANIFESTS)


class Link:
    """A blob of a repository: when a client was last told of it, and whether it was deleted."""

    def __init__(self, told: int) -> None:
        self.told = told
        self.is_hidden = False


class Repository:
    """What the model knows of one repository."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.live: dict[str, Content] = {}
        self.trash: dict[str, tuple[Content, int]] = {}
        self.is_made = False
        self.deleted: int | None = None
        self.is_locked = False

    @property
    def exists(self) -> bool:
        """Whether clients can see it."""
        return self.is_made and self.deleted is None

    def sees(self, digest: str) -> bool:
        """Whether a client can see a blob."""
        return digest in self.links and not self.links[digest].is_hidden

    def refers(self, digest: str, *, trash: bool = True) -> bool:
        """Whether a manifest refers to a blob."""
        contents = [*self.live.values()]
        contents += [content for content, _ in self.trash.values()] if trash else []
        return any(digest in map(digest_of, content.blobs) for content in contents)

    def restore(self, content: Content) -> None:
        """Note that a manifest is there, with its blobs."""
        self.trash.pop(content.digest, None)
        self.live[content.digest] = content
        self.deleted = None
        for blob in content.blobs:
            self.links[digest_of(blob)].is_hidden = False


class Model(RuleBasedStateMachine):
    """Each rule does one thing, and says what comes of it."""

    registry: Registry
    clock: Clock
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    examples = 0

    def __init__(self) -> None:
        super().__init__()
        Model.examples += 1
        self.model = {name: Repository() for name in NAMES}

    def name(self, name: str) -> RepositoryName:
        """Name a repository of this example."""
        return RepositoryName(f"{name}-{Model.examples}")

    def outcome(
        self, work: Coroutine[Any, Any, Any], *expected: type[RegistryError] | None
    ) -> bool:
        """Do something; return whether it succeeded, and fail if that was not to be expected."""
        found = None
        try:
            self.run(work)
        except RegistryError as error:
            found = type(error)
        assert found in expected
        return found is None

    @rule(minutes=st.sampled_from([1, 20, 30, 59, 60, 61, 121]), collects=st.booleans())
    def wait(self, minutes: int, *, collects: bool) -> None:
        self.clock.now += minutes * MINUTE
        if collects:
            self.collect()

    @rule(
        name=names,
        content=st.sampled_from(IMAGES),
        first=st.sampled_from([1, 30, 59]),
        second=st.sampled_from([1, 30, 59]),
    )
    def push_slowly(self, name: str, content: Content, first: int, second: int) -> None:
        """Push the blobs, ask for them later, and push the manifest within a grace period."""
        for blob in content.blobs:
            self.push_blob(name, blob)
        self.wait(first, collects=True)
        for blob in content.blobs:
            self.head(name, blob)
        self.wait(second, collects=True)
        self.push_manifest(name, content)

    @rule(name=names, blob=blobs)
    def push_blob(self, name: str, blob: bytes) -> None:
        known = self.model[name]
        expected = OperationDisallowed if known.is_locked else None
        work = self.registry.push.blob(self.name(name), Digest.of(blob), Chunk(sent(blob)))
        if self.outcome(work, expected):
            known.is_made = True
            known.links[digest_of(blob)] = Link(self.clock.now)

    @rule(name=names, blob=blobs)
    def head(self, name: str, blob: bytes) -> None:
        known = self.model[name]
        expected = None if known.sees(digest_of(blob)) else BlobUnknown
        work = self.registry.pull.stat_blob(self.name(name), Digest.of(blob))
        if self.outcome(work, expected):
            known.links[digest_of(blob)].told = self.clock.now

    @rule(name=names, source=names, blob=blobs)
    def mount(self, name: str, source: str, blob: bytes) -> None:
        known, digest = self.model[name], digest_of(blob)
        can_be = self.model[source].sees(digest)
        work = self.registry.mount.blob(self.name(name), Digest.of(blob), self.name(source))
        if can_be and known.is_locked:
            self.outcome(work, OperationDisallowed)
            return
        assert self.run(work) == can_be
        if can_be:
            known.is_made = True
            known.links[digest] = Link(self.clock.now)

    @rule(name=names, content=manifests)
    def push_manifest(self, name: str, content: Content) -> None:
        known = self.model[name]
        is_whole = all(known.sees(digest_of(blob)) for blob in content.blobs)
        is_whole &= all(child.digest in known.live for child in content.children)
        expected = None if is_whole else ManifestBlobUnknown
        digest = Digest(content.digest)
        work = self.registry.push.manifest(
            self.name(name), digest, content.manifest, content_type=None
        )
        # The repository is made by whatever is pushed to it first.
        if self.outcome(work, OperationDisallowed if known.is_locked else expected):
            known.is_made = True
            known.restore(content)

    @rule(name=names, content=manifests)
    def push_image(self, name: str, content: Content) -> None:
        for child in content.children:
            self.push_image(name, child)
        for blob in content.blobs:
            self.push_blob(name, blob)
        self.push_manifest(name, content)

    @rule(name=names, content=manifests)
    def delete_manifest(self, name: str, content: Content) -> None:
        known, digest = self.model[name], content.digest
        is_listed = any(content in other.children for other in known.live.values())
        expected: type[RegistryError] | None = None
        if digest not in known.live:
            expected = ManifestUnknown
        elif known.is_locked:
            expected = OperationDisallowed
        elif is_listed:
            expected = ManifestInUse
        if self.outcome(self.registry.delete.manifest(self.name(name), Digest(digest)), expected):
            known.trash[digest] = known.live.pop(digest), self.clock.now

    @rule(name=names, blob=blobs)
    def delete_blob(self, name: str, blob: bytes) -> None:
        known, digest = self.model[name], digest_of(blob)
        expected: type[RegistryError] | None = None
        if known.is_locked:
            expected = OperationDisallowed
        elif known.refers(digest, trash=False):
            expected = BlobInUse
        elif not known.sees(digest):
            expected = BlobUnknown
        work = self.registry.delete.blob(self.name(name), Digest.of(blob))
        if self.outcome(work, expected):
            if known.refers(digest):
                known.links[digest].is_hidden = True
            else:
                del known.links[digest]

    @rule(name=names)
    def delete_repository(self, name: str) -> None:
        known = self.model[name]
        expected: type[RegistryError] | None = None
        if not known.exists:
            expected = NameUnknown
        elif known.is_locked:
            expected = OperationDisallowed
        if self.outcome(self.registry.delete.repository(self.name(name)), expected):
            now = self.clock.now
            known.trash |= {digest: (content, now) for digest, content in known.live.items()}
            known.live.clear()
            known.deleted, known.is_locked = now, False
            for link in known.links.values():
                link.is_hidden = True

    def can_restore(self, known: Repository, contents: list[Content]) -> bool:
        """Whether everything that manifests list is there, or can be restored with them."""
        wanted = {content.digest for content in contents}
        return all(
            child.digest in {*known.live, *known.trash, *wanted}
            for content in contents
            for child in content.children
        )

    def note_restored(self, known: Repository, contents: list[Content]) -> None:
        """Note that manifests were restored, with what they list."""
        for content in contents:
            for child in content.children:
                known.restore(child)
            known.restore(content)

    @rule(name=names, content=manifests)
    def restore_manifest(self, name: str, content: Content) -> None:
        known, since = self.model[name], self.clock.now - KEEP_DELETED
        kept = known.trash.get(content.digest)
        expected: type[RegistryError] | None = None
        if known.is_locked:
            expected = OperationDisallowed
        elif kept is None or kept[1] <= since or not self.can_restore(known, [content]):
            expected = ManifestUnknown
        work = self.registry.metadata.restore_manifest(
            self.name(name), Digest(content.digest), since=since
        )
        if self.outcome(work, expected):
            self.note_restored(known, [content])

    @rule(name=names)
    def restore_repository(self, name: str) -> None:
        known, since = self.model[name], self.clock.now - KEEP_DELETED
        found = [
            content
            for content, deleted in known.trash.values()
            if deleted > since and known.deleted in {None, deleted}
        ]
        expected: type[RegistryError] | None = None
        if not found:
            expected = NameUnknown
        elif known.is_locked:
            expected = OperationDisallowed
        elif not self.can_restore(known, found):
            expected = ManifestUnknown
        work = self.registry.metadata.restore_repository(self.name(name), since=since)
        if self.outcome(work, expected):
            self.note_restored(known, found)

    @rule(name=names, lock=st.booleans())
    def lock(self, name: str, *, lock: bool) -> None:
        known = self.model[name]
        change = LockChange(Lock.WRITE, Lock(0)) if lock else LockChange(Lock(0), Lock.WRITE)
        work = self.registry.metadata.change_repository(self.name(name), change)
        if self.outcome(work, None if known.exists else NameUnknown):
            known.is_locked = lock

    @rule()
    def collect(self) -> None:
        now = self.clock.now
        self.run(self.registry.collector.collect())
        for name, known in self.model.items():
            for digest, (content, deleted) in list(known.trash.items()):
                if deleted <= now - KEEP_DELETED:
                    del known.trash[digest]
                    for blob in map(digest_of, content.blobs):
                        if not known.refers(blob):
                            known.links[blob].told = now
            for digest, link in list(known.links.items()):
                if not known.refers(digest) and self.is_collected(name, digest, link):
                    del known.links[digest]
        self.look()

    def is_collected(self, name: str, digest: str, link: Link) -> bool:
        """Whether a blob to which nothing refers has to be gone after a round, or is."""
        if link.is_hidden or link.told <= self.clock.now - HOUR - MINUTE:
            return True
        if link.told > self.clock.now - HOUR:
            return False
        # Times are stored coarsely.
        try:
            self.run(self.registry.metadata.get_blob(self.name(name), Digest(digest)))
        except BlobUnknown:
            return True
        return False

    @rule()
    def look(self) -> None:
        """Compare everything, without telling any client."""
        for name, known in self.model.items():
            for blob in BLOBS:
                found = True
                try:
                    self.run(self.registry.metadata.get_blob(self.name(name), Digest.of(blob)))
                except BlobUnknown:
                    found = False
                assert found == known.sees(digest_of(blob))
            for content in MANIFESTS:
                work = self.registry.pull.manifest(self.name(name), Digest(content.digest))
                expected = None if content.digest in known.live else ManifestUnknown
                self.outcome(work, expected)
        held = {digest for known in self.model.values() for digest in known.links}
        assert set(map(str, self.run(self.registry.stored()))) == held

    def teardown(self) -> None:
        """Delete everything, and let every time pass: nothing is left."""
        assert self.run(listed(self.registry.metadata.integrity_problems())) == []
        assert self.run(listed(self.registry.metadata.uncollected_links())) == []
        for name in NAMES:
            self.lock(name, lock=False)
            self.delete_repository(name)
        for _ in range(2):
            self.clock.now += 3 * HOUR
            self.run(self.registry.collector.collect())
        assert self.run(self.registry.stored()) == set()


async def sent(content: bytes) -> Any:
    """Send a body in one piece."""
    yield content


@pytest.fixture(params=["sqlite", "postgresql"])
def modelled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[type[Model]]:
    """Connect the model to a registry over each database."""
    clock = Clock()
    clock.now = 100 * HOUR
    blobs = DiskBlobs(tmp_path, hold_timeout=1)
    blobs.create()
    with asyncio.Runner() as runner:
        close: Callable[[], None]
        database: Database
        if request.param == "sqlite":
            local = SqliteDatabase(tmp_path, clock=clock)
            runner.run(local.migrate())
            database, close = local, local.close
        else:
            server: Server = request.getfixturevalue("postgresql")
            shelf = runner.run(PostgresShelf.create(server, clock))
            database, close = shelf.open(), lambda: runner.run(shelf.close())
        registry = Registry(database, blobs, clock)
        made = {"registry": registry, "clock": clock, "run": staticmethod(runner.run)}
        yield type("Modelled", (Model,), made)
        close()
    blobs.close()


@pytest.mark.long
def test_the_collector_behaves_like_the_model(
    modelled: type[Model], request: pytest.FixtureRequest
) -> None:
    """Nothing goes too early, and nothing stays for too long."""
    kind = request.node.callspec.params["modelled"]
    run_state_machine_as_test(
        modelled,
        settings=settings(
            max_examples=25 if kind == "sqlite" else 5,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
