"""Every metadata store measures what takes the space as somebody would who reads every row."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from obstore.store import MemoryStore

from portside.operations.collect import Collected, Collector
from portside.operations.grace import GracePeriod
from portside.spec.digests import Algorithm, Digest
from portside.spec.errors import ManifestUnknown, RegistryError
from portside.spec.locks import Lock, LockChange
from portside.spec.names import RepositoryName, Tag
from portside.spec.patterns import RepositoryPattern
from portside.spec.uploads import UploadId, UploadSession
from portside.stores.blobs.objects.store import ObjectBlobs
from portside.stores.interfaces import MetadataStore
from portside.stores.metadata import usage as measurements
from portside.stores.usage import ContentCounts, Freed, RepositoryUsage, Usage
from stores.conftest import CheckableStore, Clock, Shelf
from stores.test_metadata_contract import parsed
from support.content import OCI_CONFIG, OCI_LAYER, Content, artifact, descriptor, index

NAMES = [RepositoryName(name) for name in ("app", "team/a", "team/b", "teams")]
A, B = NAMES[1], NAMES[2]
PATTERNS = ["*", "team/*", "team/a", "app", "nobody/*"]
HOUR = 3_600_000_000
LATER = 10**16

LAYERS = [b"layer %d" % number for number in range(4)]


def _layered(name: str, *numbers: int, **fields: Any) -> Content:
    """Make an image of some of the layers, with a config of its own."""
    config, layers = name.encode(), [LAYERS[number] for number in numbers]
    made = artifact(
        name,
        config=descriptor(config, OCI_CONFIG),
        layers=[descriptor(layer, OCI_LAYER) for layer in layers],
        **fields,
    )
    return Content(made.manifest, made.media_type, [config, *layers])


ONE, TWO = _layered("one", 0, 1), _layered("two", 1, 2)
NAMING = _layered("naming", 3, annotations={"com.example.of": str(Digest.of(LAYERS[0]))})
BOTH, NESTED = index(ONE, TWO), index(index(ONE), NAMING)
SIGNATURE = _layered("signature", 3, subject=ONE.descriptor)
OF_INDEX = _layered("of index", 2, subject=BOTH.descriptor)
CONTENTS = [ONE, TWO, NAMING, BOTH, *NESTED.children[:1], NESTED, SIGNATURE, OF_INDEX]
BLOBS = sorted({blob for content in CONTENTS for blob in content.blobs})
SIZES = {Digest.of(blob): 1 << number for number, blob in enumerate(BLOBS)}
"""The size of each blob is a bit, so that a sum says which blobs it is the sum of."""


async def link(metadata: MetadataStore, repository: RepositoryName, blob: bytes) -> None:
    """Push a blob."""
    digest = Digest.of(blob)
    await metadata.commit_blob(repository, digest, SIZES[digest], session=None, place=lambda: None)


async def push(
    metadata: MetadataStore, repository: RepositoryName, content: Content, *tags: str
) -> None:
    """Push content whole."""
    for child in content.children:
        await push(metadata, repository, child)
    for blob in content.blobs:
        await link(metadata, repository, blob)
    await metadata.put_manifest(
        repository,
        parsed(content),
        tags=[Tag(tag) for tag in tags],
        condition=None,
        check_children=True,
    )


def size_of(blobs: Iterable[bytes]) -> int:
    """Return the bytes of some blobs."""
    return sum(SIZES[Digest.of(blob)] for blob in {*blobs})


class Manifest(NamedTuple):
    """A row of a manifest, with what it refers to."""

    repository: int
    digest: str
    subject: str | None
    deleted: int | None
    locks: int
    size: int
    is_tagged: bool
    references: set[str]


class Naive:
    """All rows, in memory."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.sizes: dict[str, int] = {}
        self.links: set[tuple[int, str]] = set()
        self.manifests: dict[int, Manifest] = {}
        self.tags: list[int] = []

    @classmethod
    async def read(cls, shelf: Shelf) -> Naive:
        """Read every row."""
        made = cls()
        made.names = dict(await shelf.read("SELECT id, name FROM repositories"))
        made.sizes = dict(await shelf.read("SELECT digest, size FROM blobs"))
        made.links = {
            (key, digest)
            for key, digest in await shelf.read("SELECT repository, digest FROM repository_blobs")
        }
        references = await shelf.read("SELECT manifest, digest FROM manifest_references")
        tags = await shelf.read("SELECT manifest FROM tags")
        tagged = [key for (key,) in tags]
        sql = "SELECT id, repository, digest, subject, deleted, locks, size FROM manifests"
        for key, owner, own, subject, deleted, locks, size in await shelf.read(sql):
            named = {digest for manifest, digest in references if manifest == key}
            made.manifests[key] = Manifest(
                owner, own, subject, deleted, locks, size, key in tagged, named
            )
        made.tags = [made.manifests[key].repository for key in tagged]
        return made

    def needed(self, *, deleted: bool, but: Iterable[int] = ()) -> set[tuple[int, str]]:
        """Return the links that manifests refer to: those in the trash, or the others."""
        return {
            (manifest.repository, digest)
            for key, manifest in self.manifests.items()
            if (manifest.deleted is not None) is deleted and key not in {*but}
            for digest in manifest.references
        } & self.links

    def sum(self, digests: Iterable[str]) -> int:
        """Return the bytes of some blobs."""
        return sum(self.sizes[digest] for digest in {*digests})

    def usage(self, keys: set[int]) -> Usage:
        """Return what some repositories take."""
        mine = {digest for key, digest in self.links if key in keys}
        others = {digest for key, digest in self.links if key not in keys}
        used, trashed = self.needed(deleted=False), self.needed(deleted=True)
        if len(keys) == 1:
            # Of one repository, what it has; of several, what the whole registry has.
            used = {link for link in used if link[0] in keys}
            trashed = {link for link in trashed if link[0] in keys}
        in_use, in_trash = {digest for _, digest in used}, {digest for _, digest in trashed}
        payloads, in_the_trash = self.payloads(keys)
        return Usage(
            manifests=sum(
                m.repository in keys and m.deleted is None for m in self.manifests.values()
            ),
            tags=sum(key in keys for key in self.tags),
            bytes=self.sum(mine) + payloads,
            exclusive=self.sum(mine - others) + payloads,
            deleted=self.sum(mine & in_trash - in_use) + in_the_trash,
            unreferenced=self.sum(mine - in_use - in_trash),
        )

    def total(self, keys: set[int]) -> Usage:
        """Return what some repositories take together; every link of a blob says what it is."""
        used = {digest for _, digest in self.needed(deleted=False)}
        trashed = {digest for _, digest in self.needed(deleted=True)}
        mine = {digest for key, digest in self.links if key in keys}
        return self.usage(keys)._replace(
            deleted=self.sum(mine & trashed - used) + self.payloads(keys)[1],
            unreferenced=self.sum(mine - used - trashed),
        )

    def payloads(self, keys: set[int]) -> tuple[int, int]:
        """Return the bytes of the manifests of some repositories, and of those in the trash."""
        mine = [manifest for manifest in self.manifests.values() if manifest.repository in keys]
        trashed = sum(manifest.size for manifest in mine if manifest.deleted is not None)
        return sum(manifest.size for manifest in mine), trashed

    def neighbours(self, key: int) -> tuple[set[int], set[int]]:
        """Return what a manifest keeps, and what keeps it."""
        one = self.manifests[key]
        kept, keepers = set(), set()
        for other, manifest in self.manifests.items():
            if manifest.deleted is not None or manifest.repository != one.repository:
                continue
            lists, is_listed = manifest.digest in one.references, one.digest in manifest.references
            refers, is_subject = manifest.subject == one.digest, one.subject == manifest.digest
            if lists or refers:
                kept.add(other)
            if is_listed or refers or is_subject:
                keepers.add(other)
        return kept, keepers

    def dependents(self, key: int) -> set[int]:
        """Try every manifest until nothing changes."""
        reached = {key}
        while (
            more := {
                kept
                for one in reached
                for kept in self.neighbours(one)[0]
                if not self.manifests[kept].is_tagged and not self.manifests[kept].locks & 3
            }
            - reached
        ):
            reached |= more
        while gone := {one for one in reached - {key} if not self.neighbours(one)[1] <= reached}:
            reached -= gone
        return reached - {key}

    def freed(self, key: int) -> Freed:
        """Return what is freed with a manifest."""
        dependents = self.dependents(key)

        def only(keys: set[int]) -> int:
            still = {digest for _, digest in self.needed(deleted=False, but=keys)}
            gone = {
                digest
                for one in keys
                for digest in self.manifests[one].references
                if (self.manifests[one].repository, digest) in self.links
            }
            return self.sum(gone - still)

        return Freed(only({key}), only({key} | dependents), len(dependents))


async def do_something(metadata: CheckableStore, chance: random.Random, clock: Clock) -> None:
    """Push, delete, lock or purge something; what cannot be done is not done."""
    name, content = chance.choice(NAMES), chance.choice(CONTENTS)
    clock.now += chance.choice([0, 1, HOUR])
    with suppress(RegistryError):
        match chance.randrange(12):
            case 0:
                await link(metadata, name, chance.choice(BLOBS))
            case 1 | 2 | 3:
                await push(metadata, name, content)
            case 4:
                await push(metadata, name, content, chance.choice(["v1", "v2"]))
            case 5 | 6 | 7:
                await metadata.delete_manifest(name, Digest(content.digest))
            case 8:
                await metadata.delete_tag(name, Tag("v1"))
            case 9:
                blob = Digest.of(chance.choice(BLOBS))
                await metadata.unlink_blob(name, blob, remove=lambda: None)
            case 10:
                await metadata.change_manifest(
                    name, Digest(content.digest), LockChange(Lock.DELETE, Lock(0))
                )
            case 11:
                if chance.randrange(4) == 0:
                    await metadata.delete_repository(name)


@pytest.mark.parametrize("seed", range(6))
async def test_random_histories(
    shelf: Shelf, clock: Clock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every figure is what somebody counts who reads every row, however many are read at once."""
    chance = random.Random(seed)
    clock.now = 100 * HOUR
    monkeypatch.setattr(measurements, "PAGE", 2)
    metadata = shelf.metadata()
    blobs = ObjectBlobs(MemoryStore(), hold_timeout=1, clock=clock)
    for _ in range(8):
        for _ in range(6):
            await do_something(metadata, chance, clock)
        naive = await Naive.read(shelf)
        for pattern in map(RepositoryPattern, PATTERNS):
            matched = {key for key, name in naive.names.items() if pattern.matches(name)}
            expected = [
                RepositoryUsage(naive.names[key], naive.usage({key}))
                for key in matched
                if naive.usage({key}) != Usage()
            ]
            expected.sort(key=lambda item: (-item.usage.bytes, item.name))
            for most in (0, 10):
                monkeypatch.setattr(measurements, "MOST", most)
                found = await metadata.measure_usage(pattern)
                assert found == (expected, naive.total(matched))
        for key, manifest in naive.manifests.items():
            if manifest.deleted is None:
                name = RepositoryName(naive.names[manifest.repository])
                freed = await metadata.measure_manifest(name, Digest(manifest.digest))
                assert freed == naive.freed(key)
        grace = GracePeriod(chance.choice([0, 0, HOUR, 3 * HOUR]), clock)
        keep = chance.choice([0, HOUR, 5 * HOUR])
        collector = Collector(metadata, blobs, grace=grace, keep_deleted=keep, tag_history=keep)
        planned = await collector.plan()
        assert await collector.collect() == planned
        assert await collector.plan() == Collected()
    blobs.close()


class TestKinds:
    """What random histories rarely come to."""

    async def test_a_blob_that_came_after_its_index(self, metadata: CheckableStore) -> None:
        """It is in use, although the collector has not looked at it yet."""
        late = index(ONE)
        await metadata.put_manifest(A, parsed(late), tags=[], condition=None, check_children=False)
        digest = Digest(ONE.digest)
        await metadata.commit_blob(A, digest, 7, session=None, place=lambda: None)
        found = await metadata.measure_usage(RepositoryPattern("*"))
        size = 7 + len(late.manifest)
        expected = Usage(manifests=1, bytes=size, exclusive=size)
        assert found == ([RepositoryUsage(A, expected)], expected)
        assert await metadata.measure_collectable(LATER, LATER, at_once=True) == (0, 0, 0, 0)
        await metadata.delete_manifest(A, Digest(late.digest))
        found = await metadata.measure_usage(RepositoryPattern("*"))
        expected = Usage(bytes=size, exclusive=size, deleted=size)
        assert found == ([RepositoryUsage(A, expected)], expected)
        assert await metadata.measure_collectable(0, LATER, at_once=True) == (0, 0, 0, 0)
        assert await metadata.measure_collectable(LATER, LATER, at_once=False) == (1, 1, 1, 7)

    async def test_a_blob_of_deleted_and_other_manifests(self, metadata: CheckableStore) -> None:
        """It is in use in the repository; in the total, wherever it is in use."""
        await push(metadata, A, ONE)
        await push(metadata, A, TWO)
        await push(metadata, B, ONE)
        await metadata.delete_manifest(A, Digest(ONE.digest))
        found = await metadata.measure_usage(RepositoryPattern("team/*"))
        manifest, of_one = len(ONE.manifest), size_of([ONE.blobs[0], LAYERS[0]])
        deleted = {item.name: item.usage.deleted for item in found.repositories}
        assert deleted == {A: of_one + manifest, B: 0}
        assert found.total.deleted == manifest

    async def test_what_a_purge_leaves(self, metadata: CheckableStore, clock: Clock) -> None:
        """Blobs of a purged manifest have their grace period, but for those a client deleted."""
        await push(metadata, A, ONE)
        await push(metadata, A, TWO)
        await metadata.delete_manifest(A, Digest(ONE.digest))
        first = clock.now
        clock.now += 5
        await metadata.delete_manifest(A, Digest(TWO.digest))
        assert await metadata.measure_collectable(first - 1, LATER, at_once=True) == (0, 0, 0, 0)
        only_one = size_of([*ONE.blobs[:1], LAYERS[0]])
        at_once = await metadata.measure_collectable(first, LATER, at_once=True)
        assert at_once == (1, 2, 2, only_one)
        assert await metadata.measure_collectable(first, LATER, at_once=False) == (1, 0, 0, 0)
        await metadata.unlink_blob(A, Digest.of(LAYERS[0]), remove=lambda: None)
        found = await metadata.measure_collectable(first, LATER, at_once=False)
        assert found == (1, 1, 1, size_of([LAYERS[0]]))

    async def test_a_plan_of_a_purge(self, metadata: CheckableStore, clock: Clock) -> None:
        """The plan knows that what is purged now is not collected now."""
        clock.now = 100 * HOUR
        blobs = ObjectBlobs(MemoryStore(), hold_timeout=1, clock=clock)
        await push(metadata, A, ONE)
        await metadata.delete_manifest(A, Digest(ONE.digest))
        await metadata.unlink_blob(A, Digest.of(LAYERS[0]), remove=lambda: None)
        grace = GracePeriod(HOUR, clock)
        collector = Collector(metadata, blobs, grace=grace, keep_deleted=0, tag_history=0)
        planned = await collector.plan()
        assert planned == Collected(1, 1, 1, size_of([LAYERS[0]]))
        assert await collector.collect() == planned
        blobs.close()

    async def test_unknown_manifest(self, metadata: CheckableStore) -> None:
        """Neither one that was never there, nor a deleted one, can be measured."""
        with pytest.raises(ManifestUnknown):
            await metadata.measure_manifest(A, Digest(ONE.digest))
        await push(metadata, A, ONE)
        assert await metadata.measure_manifest(A, Digest(ONE.digest)) == Freed(
            size_of(ONE.blobs), size_of(ONE.blobs), 0
        )
        await metadata.delete_manifest(A, Digest(ONE.digest))
        with pytest.raises(ManifestUnknown):
            await metadata.measure_manifest(A, Digest(ONE.digest))

    async def test_counts(self, metadata: CheckableStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every page is counted, what is shared once, and there is a pause after each page."""
        monkeypatch.setattr(measurements, "COUNTED", 2)
        pauses: list[None] = []

        async def pause() -> None:
            pauses.append(None)

        assert await metadata.count_content(pause) == ContentCounts()
        await push(metadata, A, ONE, "1", "latest")
        await push(metadata, B, ONE)
        await push(metadata, NAMES[0], TWO, "2")
        await metadata.delete_manifest(B, Digest(ONE.digest))
        session = UploadSession(UploadId.fresh(), A, Algorithm.SHA256, created=1, updated=1)
        await metadata.open_upload(session)
        blobs = {*ONE.blobs, *TWO.blobs}
        pauses.clear()
        assert await metadata.count_content(pause) == ContentCounts(
            repositories=3,
            manifests=2,
            tags=3,
            manifest_bytes=2 * len(ONE.manifest) + len(TWO.manifest),
            blobs=len(blobs),
            blob_bytes=size_of(blobs),
            uploads=1,
        )
        assert len(pauses) == 2 + 3
