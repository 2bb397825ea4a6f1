"""Retention over a real store: what is decided is deleted, and nothing that a kept tag reaches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portside.operations import retain
from portside.operations.last_pulls import LATENESS
from portside.operations.retain import Retain
from portside.spec.digests import Digest
from portside.spec.locks import Lock, LockChange
from portside.spec.manifests import parse_manifest
from portside.spec.names import RepositoryName, Tag
from portside.spec.patterns import TagPattern
from portside.spec.retention import Reason, RetainedContent, Verdict, decide, removals
from portside.spec.rules import RepositoryRules, RetentionRule, UntaggedRule
from portside.stores.actors import Actor
from portside.stores.interfaces import LastPull
from portside.stores.metadata.sqlite.database import SqliteDatabase
from portside.stores.metadata.store import Metadata
from spec.test_retention import NOW, contents, rule_sets
from stores.conftest import Clock
from support.content import Content, artifact, image, index
from support.sqlite import open_database

A = RepositoryName("team/a")
OLD = RetentionRule(source="old", tags=TagPattern("*"), keep_pushed_within=10)
AT_ONCE = UntaggedRule(source="untagged", delete_after=0)
RULES = RepositoryRules(retention=(OLD,), untagged=AT_ONCE)

IMAGES = [image(number) for number in range(4)]
POOL = [
    *IMAGES,
    index(IMAGES[0], IMAGES[1]),
    index(IMAGES[1], IMAGES[2], subject=IMAGES[1].descriptor),
    artifact("of 0", subject=IMAGES[0].descriptor),
    artifact("of 3", subject=IMAGES[3].descriptor),
]
POOL += [
    index(POOL[4], IMAGES[3]),
    artifact("of the index", subject=POOL[4].descriptor),
    artifact("of the artifact", subject=POOL[6].descriptor),
]
TAGS = ["1", "2", "v1", *(IMAGES[number].digest.replace(":", "-") + ".sig" for number in (0, 3))]


class Repository:
    """A repository in a database of its own."""

    def __init__(self, database: SqliteDatabase, clock: Clock) -> None:
        self.metadata = Metadata(database)
        self.clock = clock
        self.retain = Retain(self.metadata, clock=clock, by=Actor("retention"))

    async def push(self, content: Content, *tags: str) -> None:
        """Push a manifest with what it needs."""
        for child in content.children:
            await self.push(child)
        for blob in content.blobs:
            digest = Digest.of(blob)
            await self.metadata.commit_blob(A, digest, 4, session=None, place=lambda: None)
        await self.metadata.put_manifest(
            A,
            parse_manifest(content.manifest, content_type=content.media_type),
            tags=[Tag(tag) for tag in tags],
            condition=None,
            check_children=True,
        )

    async def apply(self, rules: RepositoryRules = RULES) -> tuple[set[str], set[str]]:
        """Apply rules; return what was deleted."""
        deleted = await self.retain.carry_out(await self.retain.plan(A, rules))
        return set(deleted.tags), set(deleted.manifests)


class Ticking(Clock):
    """A clock that moves whenever it is read."""

    def __call__(self) -> int:
        """Return the time."""
        self.now += 1
        return self.now


async def opened(path: Path, clock: Clock | None = None) -> AsyncIterator[Repository]:
    """Open an empty repository."""
    clock = clock or Clock()
    database = await open_database(path, clock=clock)
    yield Repository(database, clock)
    database.close()


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[Repository]:
    """Open an empty repository."""
    async for made in opened(tmp_path):
        yield made


async def test_an_image_with_all_that_belongs_to_it(repository: Repository) -> None:
    """Index, images, signature and SBOM go together, whatever the size of a transaction is."""
    both = index(IMAGES[0], IMAGES[1])
    await repository.push(both, "1")
    signature = artifact("signature")
    await repository.push(signature, both.digest.replace(":", "-") + ".sig")
    sbom = artifact("sbom", subject=IMAGES[0].descriptor)
    await repository.push(sbom)
    assert await repository.apply() == (set(), set())
    repository.clock.now += 10
    tags, manifests = await repository.apply()
    assert tags == {"1", both.digest.replace(":", "-") + ".sig"}
    expected = [both, IMAGES[0], IMAGES[1], signature, sbom]
    assert manifests == {content.digest for content in expected}


async def test_each_repository(repository: Repository) -> None:
    """Repositories that no rule is about, or that hold nothing, are not read."""
    await repository.push(IMAGES[0], "1")
    asked: list[str] = []

    def rules_of(name: str) -> RepositoryRules:
        asked.append(name)
        return RULES if name.startswith("team/") else RepositoryRules()

    await repository.metadata.commit_blob(
        RepositoryName("team/blobs"), Digest.of(b"x"), 4, session=None, place=lambda: None
    )
    await repository.metadata.commit_blob(
        RepositoryName("b"), Digest.of(b"x"), 4, session=None, place=lambda: None
    )
    plans = [plan async for plan in repository.retain.plan_each(rules_of)]
    assert [plan.repository for plan in plans] == [A]
    assert "team/blobs" not in [plan.repository for plan in plans]


async def test_pushed_between(repository: Repository) -> None:
    """What is pushed between the decision and the deletion stays, with all that it needs."""
    both = index(IMAGES[0], IMAGES[1])
    await repository.push(both, "1")
    await repository.push(IMAGES[2], "2")
    repository.clock.now += 20
    plan = await repository.retain.plan(A, RULES)
    await repository.push(index(both, IMAGES[3]), "new")
    deleted = await repository.retain.carry_out(plan)
    assert deleted.tags == ["1", "2"]
    assert deleted.manifests == [IMAGES[2].digest]


@pytest.mark.parametrize("heeds", [True, False])
async def test_pulled_between(repository: Repository, *, heeds: bool) -> None:
    """A tag whose manifest is pulled after the decision stays, if a rule keeps it for that."""
    await repository.push(IMAGES[0], "1", "2")
    await repository.push(IMAGES[1], "3")
    pulled = RetentionRule(
        source="pulled", tags=TagPattern("*"), keep_pulled_within=10 if heeds else None
    )
    rules = RepositoryRules(retention=(OLD, pulled), untagged=AT_ONCE)
    repository.clock.now += 20 + LATENESS
    plan = await repository.retain.plan(A, rules)
    pull = LastPull(A, Digest(IMAGES[0].digest), repository.clock.now)
    await repository.metadata.note_pulls([pull])
    deleted = await repository.retain.carry_out(plan)
    assert deleted.tags == (["3"] if heeds else ["1", "2", "3"])


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, list[str], Lock]]:
    """Return what is pushed in which order, with its tags, and the lock that it gets."""
    locks = st.sampled_from([Lock(0)] * 6 + [Lock.DELETE])
    tags = st.lists(st.sampled_from(TAGS), max_size=2, unique=True)
    pushes = st.tuples(st.integers(0, len(POOL) - 1), tags, locks)
    return draw(st.lists(pushes, min_size=1, max_size=8))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=histories(), rules=rule_sets(), batch=st.integers(1, 4), passed=st.integers(0, 12))
def test_what_is_decided_is_deleted(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    history: list[tuple[int, list[str], Lock]],
    rules: RepositoryRules,
    batch: int,
    passed: int,
) -> None:
    """In whatever batches, exactly what was decided goes, if nothing changes meanwhile."""
    monkeypatch.setattr(retain, "BATCH", batch)

    async def run() -> None:
        async for repository in opened(tmp_path_factory.mktemp("database")):
            for number, tags, lock in history:
                await repository.push(POOL[number], *tags)
                if lock:
                    digest = Digest(POOL[number].digest)
                    await repository.metadata.change_manifest(A, digest, LockChange(lock=lock))
                repository.clock.now += 1
            repository.clock.now += passed
            plan = await repository.retain.plan(A, rules)
            before = plan.content
            deleted = await repository.retain.carry_out(plan)
            expected = {tag.name for tag in plan.tags}, {each.digest for each in plan.manifests}
            after = await repository.metadata.read_retained(A)
            left = {tag.name for tag in after.tags}, {each.digest for each in after.manifests}
            # Manifests that need each other can be in different transactions, and stay.
            is_whole = batch >= len(before.tags) + len(before.manifests)
            if is_whole or not _waits(plan.verdicts.manifests.values()):
                assert (set(deleted.tags), set(deleted.manifests)) == expected
            assert set(deleted.tags) <= expected[0]
            assert set(deleted.manifests) <= expected[1]
            assert left[0] == {tag.name for tag in before.tags} - set(deleted.tags)
            assert left[1] == {each.digest for each in before.manifests} - set(deleted.manifests)
            for each in after.manifests:
                wanted = {*each.children} & {found.digest for found in before.manifests}
                assert wanted <= left[1]

    asyncio.run(run())


def _waits(verdicts: Iterable[Verdict]) -> bool:
    return any(verdict.reason is Reason.SUBJECT_GOES for verdict in verdicts)


@settings(max_examples=300, deadline=None)
@given(contents(), rule_sets(), st.integers(1, 3))
def test_order(content: RetainedContent, rules: RepositoryRules, size: int) -> None:
    """Each tag and manifest that goes is in one removal."""
    verdicts = decide(content, rules, NOW)
    found = list(removals(content, verdicts, rules, size))
    tags = [tag.name for removal in found for tag in removal.tags]
    manifests = [each.digest for removal in found for each in removal.manifests]
    assert sorted(tags) == sorted(name for name, each in verdicts.tags.items() if each.goes)
    assert sorted(manifests) == sorted(
        digest for digest, each in verdicts.manifests.items() if each.goes
    )


@pytest.mark.parametrize("batch", [1, 50])
async def test_what_went_together_comes_back_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Manifests have all their tags again once the repository is restored."""
    monkeypatch.setattr(retain, "BATCH", batch)
    async for repository in opened(tmp_path, Ticking()):
        await _undo(repository)


async def _undo(repository: Repository) -> None:
    signature = artifact("signature")
    await repository.push(index(IMAGES[0], IMAGES[1]), "1", "2")
    await repository.push(IMAGES[2], "3")
    await repository.push(signature, IMAGES[2].digest.replace(":", "-") + ".sig")
    before = await repository.metadata.read_retained(A)
    repository.clock.now += 1000
    tags, manifests = await repository.apply()
    assert (len(tags), len(manifests)) == (4, 5)
    restored = await repository.metadata.restore_repository(A)
    assert set(restored.tags) == tags
    assert set(restored.manifests) == manifests
    after = await repository.metadata.read_retained(A)
    assert {(tag.name, tag.digest) for tag in after.tags} == {
        (tag.name, tag.digest) for tag in before.tags
    }


async def test_pulled_since_it_was_noted(repository: Repository) -> None:
    """A manifest that is pulled again within the hour is not noted, and may be stored late."""
    week = 7 * 24 * 3600 * 1_000_000
    rule = RetentionRule(source="pulled", tags=TagPattern("*"), keep_pulled_within=week)
    await repository.push(IMAGES[0], "1")
    await repository.push(IMAGES[1], "never")
    pull = LastPull(A, Digest(IMAGES[0].digest), repository.clock.now)
    await repository.metadata.note_pulls([pull])
    repository.clock.now += week + LATENESS - 1
    assert await repository.apply(RepositoryRules(retention=(rule,))) == ({"never"}, set())
    repository.clock.now += 1
    assert await repository.apply(RepositoryRules(retention=(rule,))) == ({"1"}, set())
