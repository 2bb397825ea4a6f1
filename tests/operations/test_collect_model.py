"""Random sequences of pushes within quotas, deletes, restores, retention and collections.

They set the clock. What retention deletes is what a naive oracle says of what the model knows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from operations.conftest import HOUR, MINUTE, Registry
from portside.operations.last_pulls import LATENESS
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
    QuotaExceeded,
    RegistryError,
    TagUnknown,
)
from portside.spec.locks import NOTHING, Lock, LockChange
from portside.spec.names import RepositoryName, Tag
from portside.spec.retention import RetainedContent, RetainedManifest, RetainedTag
from portside.spec.rules import RepositoryRules
from portside.stores.blobs.disk.store import DiskBlobs
from portside.stores.metadata.engine import Database
from spec.test_retention import removed, rule_sets, untagged
from spec.test_retention import rule as rule_of_tags
from stores.conftest import Clock, PostgresShelf
from support.blobs import listed
from support.content import Content, artifact, digest_of, image, index
from support.postgres import Server
from support.sqlite import open_database

IMAGES = [image(("model", number), layers=1, layer_size=50 + number) for number in range(2)]
SHARING = image(("model", 0), layers=2, layer_size=50)
INDEX = index(*IMAGES)
REFERRERS = [artifact(("model", of.digest), subject=of.descriptor) for of in (IMAGES[0], INDEX)]
MANIFESTS = [*IMAGES, SHARING, INDEX, *REFERRERS]
BY_DIGEST = {content.digest: content for content in MANIFESTS}
BLOBS = sorted({blob for content in MANIFESTS for blob in content.blobs})
SIZES = {digest_of(blob): len(blob) for blob in BLOBS}
TAGS = ["v1", "pr-1", "pr-2", IMAGES[1].digest.replace(":", "-") + ".sig"]
KEEP_DELETED = 2 * HOUR

NAMES = ("one", "two")
durations = st.none() | st.sampled_from([10 * MINUTE, 30 * MINUTE, HOUR])
# Most of the rules that the oracle is tested with keep all; these leave little.
strict = st.builds(
    lambda newest, pushed, pulled, after: RepositoryRules(
        retention=(rule_of_tags(newest=newest, pushed=pushed, pulled=pulled),),
        untagged=untagged(after),
    ),
    st.none() | st.integers(1, 2),
    durations,
    durations,
    st.sampled_from([0, 30 * MINUTE]),
)
rules_of_content = strict | rule_sets(10 * MINUTE)
# One repository lives for long, and the other one is deleted and restored.
names = st.sampled_from(["one", "one", "one", "two"])
short_lived = st.sampled_from(["two", "two", "two", "one"])
blobs = st.sampled_from(BLOBS)
manifests = st.sampled_from(MANIFESTS)
tags = st.sampled_from(TAGS)
# All images take about 3,600 bytes.
quotas = st.sampled_from([None, 1000, 2000, 3000])
pushes = st.lists(
    st.tuples(manifests, tags | st.none(), st.sampled_from([0, 1, 29, 31])), min_size=2, max_size=6
)


def one_of(stored: dict[str, Stored], content: Content) -> Content:
    """Return one of the stored manifests, or now and then one that need not be among them."""
    number = MANIFESTS.index(content)
    found = [stored[digest].content for digest in sorted(stored)]
    return [*found, content][number % (len(found) + 1)]


def what_counts(content: RetainedContent) -> tuple[set[RetainedTag], set[RetainedManifest]]:
    """Return what retention decides by, but for what manifests refer to."""
    return set(content.tags), {each._replace(children=()) for each in content.manifests}


class Link:
    """A blob of a repository: when a client was last told of it, and whether it was deleted."""

    def __init__(self, told: int) -> None:
        self.told = told
        self.is_hidden = False


class Stored:
    """A manifest of a repository: what the times are that retention looks at, and what it holds."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.pushed = 0
        self.untagged: int | None = None
        self.pulled: int | None = None
        self.deleted: int | None = None
        self.is_locked = False
        named = json.loads(content.manifest).get("subject")
        self.subject: str | None = named and named["digest"]
        self.children = [child.digest for child in content.children]


class Repository:
    """What the model knows of one repository."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.stored: dict[str, Stored] = {}
        self.tags: dict[str, tuple[str, int]] = {}
        # The last change of a tag at a time, and to which manifest it pointed before or after it.
        self.changes: dict[tuple[str, int], tuple[str, str]] = {}
        self.is_made = False
        self.deleted: int | None = None
        self.is_locked = False

    @property
    def exists(self) -> bool:
        """Whether clients can see it."""
        return self.is_made and self.deleted is None

    @property
    def live(self) -> dict[str, Stored]:
        """The manifests that clients can see."""
        return {digest: each for digest, each in self.stored.items() if each.deleted is None}

    @property
    def trash(self) -> dict[str, Stored]:
        """The deleted manifests."""
        return {digest: each for digest, each in self.stored.items() if each.deleted is not None}

    def sees(self, digest: str) -> bool:
        """Whether a client can see a blob."""
        return digest in self.links and not self.links[digest].is_hidden

    def refers(self, digest: str, *, trash: bool = True) -> bool:
        """Whether a manifest refers to a blob."""
        found = self.stored if trash else self.live
        return any(digest in map(digest_of, each.content.blobs) for each in found.values())

    @property
    def taken(self) -> int:
        """The bytes that count for a quota."""
        payloads = sum(len(each.content.manifest) for each in self.stored.values())
        return sum(SIZES[digest] for digest in self.links) + payloads

    def push(self, content: Content, now: int) -> None:
        """Note that a manifest was pushed."""
        if content.digest in self.trash:
            self.restore(content.digest, now)
        stored = self.stored.setdefault(content.digest, Stored(content))
        stored.pushed = now
        self.is_made, self.deleted = True, None

    def set_tag(self, name: str, digest: str, now: int, action: str = "set") -> None:
        """Note that a tag points to a manifest."""
        before = self.tags.get(name)
        if before is not None and before[0] != digest:
            self.stored[before[0]].untagged = now
        if before is None or before[0] != digest:
            self.changes[name, now] = action, digest
        self.tags[name] = digest, now

    def delete_tag(self, name: str, now: int) -> None:
        """Note that a tag was deleted."""
        digest, _ = self.tags.pop(name)
        self.stored[digest].untagged = now
        self.changes[name, now] = "deleted", digest

    def discard(self, digest: str, now: int) -> None:
        """Note that a manifest was deleted, with its tags."""
        for name in [name for name, (found, _) in self.tags.items() if found == digest]:
            del self.tags[name]
            self.changes[name, now] = "deleted", digest
        self.stored[digest].deleted = now

    def restore(self, digest: str, now: int) -> None:
        """Note that a manifest was restored, with its blobs and without its tags."""
        stored = self.stored[digest]
        stored.deleted, stored.untagged = None, now
        self.deleted = None
        for blob in stored.content.blobs:
            self.links[digest_of(blob)].is_hidden = False

    def deleted_with(self, found: list[str]) -> dict[str, int]:
        """Return what comes back with some manifests, and when it was deleted.

        That is what they list, and what was deleted together with its subject.
        """
        waiting = list(found)
        together: dict[str, int] = {}
        while waiting:
            digest = waiting.pop()
            if digest not in together and digest in self.trash:
                together[digest] = self.trash[digest].deleted or 0
                waiting += self.beside(digest)
        return together

    def beside(self, digest: str) -> list[str]:
        """Return what comes back directly with a deleted manifest."""
        stored = self.trash[digest]
        return [
            other
            for other, each in self.trash.items()
            if other in stored.children
            or (each.subject == digest and each.deleted == stored.deleted)
        ]

    def purge(self, digest: str, now: int) -> None:
        """Note that a manifest was purged, and before it the deleted ones that list it."""
        for parent in [other for other, each in self.trash.items() if digest in each.children]:
            self.purge(parent, now)
        stored = self.stored.pop(digest, None)
        for blob in map(digest_of, stored.content.blobs if stored else ()):
            if not self.refers(blob):
                self.links[blob].told = now

    def purge_image(self, digest: str, now: int) -> None:
        """Note that a manifest was purged with what comes back with it, and nothing else lists."""
        waiting = [digest]
        while waiting:
            digest = waiting.pop()
            others = self.beside(digest) if digest in self.trash else []
            self.purge(digest, now)
            listed = {child for each in self.stored.values() for child in each.children}
            waiting += [other for other in others if other not in listed]

    def is_whole(self, digests: set[str]) -> bool:
        """Whether all that manifests list is there, or comes back with them."""
        present = {*self.live, *digests}
        return all(child in present for each in digests for child in self.stored[each].children)

    def restore_with(self, found: dict[str, int], now: int) -> None:
        """Note that manifests were restored, with the tags that were deleted with them.

        Of several that had the same tag, that one gets it from which it was deleted last.
        """
        for digest in found:
            self.restore(digest, now)
        for (name, time), (action, digest) in sorted(self.changes.items(), reverse=True):
            is_due = action == "deleted" and digest in found and time >= found[digest]
            if is_due and name not in self.tags:
                self.set_tag(name, digest, now, "restored")

    def retained(self) -> RetainedContent:
        """Return what retention is to decide about."""
        return RetainedContent(
            [RetainedTag(name, digest, pushed) for name, (digest, pushed) in self.tags.items()],
            [
                RetainedManifest(
                    digest,
                    each.pushed,
                    each.untagged,
                    each.pulled,
                    each.subject,
                    tuple(each.children),
                    Lock.DELETE if each.is_locked else NOTHING,
                )
                for digest, each in self.live.items()
            ],
            Lock.WRITE if self.is_locked else NOTHING,
        )


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
        self.noted: dict[tuple[str, str], int] = {}

    def name(self, name: str) -> RepositoryName:
        """Name a repository of this example."""
        return RepositoryName(f"{name}-{Model.examples}")

    def fits(self, name: str, size: int) -> bool:
        """Whether a repository may take some bytes more."""
        quota = self.registry.quota
        return quota is None or self.model[name].taken + size <= quota

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

    @rule(minutes=st.sampled_from([1, 20, 30, 59, 60, 61, 121]), works=st.booleans())
    def wait(self, minutes: int, *, works: bool) -> None:
        """Let time pass, with or without what works in the background."""
        self.clock.now += minutes * MINUTE
        if works:
            for name in NAMES:
                self.retain(name)
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
        self.clock.now += first * MINUTE
        self.collect()
        for blob in content.blobs:
            self.head(name, blob)
        self.clock.now += second * MINUTE
        self.collect()
        self.push_manifest(name, content)

    @rule(name=names, blob=blobs)
    def push_blob(self, name: str, blob: bytes) -> None:
        known, digest = self.model[name], digest_of(blob)
        expected: type[RegistryError] | None = None
        if digest not in known.links and not self.fits(name, len(blob)):
            expected = QuotaExceeded
        elif known.is_locked:
            expected = OperationDisallowed
        work = self.registry.push.blob(self.name(name), Digest.of(blob), Chunk(sent(blob)))
        if self.outcome(work, expected):
            known.is_made = True
            known.links[digest] = Link(self.clock.now)

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
        if can_be and digest not in known.links and not self.fits(name, len(blob)):
            self.outcome(work, QuotaExceeded)
            return
        assert self.run(work) == can_be
        if can_be:
            known.is_made = True
            known.links[digest] = Link(self.clock.now)

    @rule(name=names, content=manifests, tag=st.none() | tags)
    def push_manifest(self, name: str, content: Content, tag: str | None = None) -> None:
        known = self.model[name]
        is_whole = all(known.sees(digest_of(blob)) for blob in content.blobs)
        is_whole &= all(child.digest in known.live for child in content.children)
        expected: type[RegistryError] | None = None if is_whole else ManifestBlobUnknown
        is_new = content.digest not in known.stored
        if is_new and not self.fits(name, len(content.manifest)):
            expected = QuotaExceeded
        work = self.registry.push.manifest(
            self.name(name),
            Digest(content.digest) if tag is None else Tag(tag),
            content.manifest,
            content_type=content.media_type,
        )
        # The repository is made by whatever is pushed to it first.
        if self.outcome(work, OperationDisallowed if known.is_locked else expected):
            known.push(content, self.clock.now)
            if tag is not None:
                known.set_tag(tag, content.digest, self.clock.now)

    @initialize(pushes=pushes, rules=strict, quota=quotas)
    def begin(
        self,
        pushes: list[tuple[Content, str | None, int]],
        rules: RepositoryRules,
        quota: int | None,
    ) -> None:
        self.registry.quota = None
        self.push_images(NAMES[0], pushes)
        self.registry.quota = quota
        self.in_force = rules

    @rule(name=names, pushes=pushes)
    def push_images(self, name: str, pushes: list[tuple[Content, str | None, int]]) -> None:
        """Push some images whole, with time between them."""
        for content, tag, minutes in pushes:
            self.push_image(name, content, tag)
            self.clock.now += minutes * MINUTE

    def push_image(self, name: str, content: Content, tag: str | None = None) -> None:
        for child in content.children:
            self.push_image(name, child)
        for blob in content.blobs:
            self.push_blob(name, blob)
        self.push_manifest(name, content, tag)

    @rule(name=names, content=manifests, tag=tags)
    def pull(self, name: str, content: Content, tag: str) -> None:
        """Pull by tag, or by digest if there is no such tag."""
        known, now = self.model[name], self.clock.now
        tagged = known.tags.get(tag)
        digest = content.digest if tagged is None else tagged[0]
        reference = Digest(digest) if tagged is None else Tag(tag)
        work = self.registry.pull.manifest(self.name(name), reference)
        if self.outcome(work, None if digest in known.live else ManifestUnknown):
            self.run(self.registry.last_pulls.store())
            # A manifest is noted once an hour.
            if now - self.noted.get((name, digest), 0) >= HOUR:
                self.noted[name, digest] = now
                known.stored[digest].pulled = now

    @rule(name=names, content=manifests)
    def delete_manifest(self, name: str, content: Content) -> None:
        known = self.model[name]
        digest = one_of(known.live, content).digest
        is_listed = any(digest in other.children for other in known.live.values())
        expected: type[RegistryError] | None = None
        if digest not in known.live:
            expected = ManifestUnknown
        elif known.is_locked or known.live[digest].is_locked:
            expected = OperationDisallowed
        elif is_listed:
            expected = ManifestInUse
        if self.outcome(self.registry.delete.manifest(self.name(name), Digest(digest)), expected):
            known.discard(digest, self.clock.now)

    @rule(name=names, tag=tags)
    def delete_tag(self, name: str, tag: str) -> None:
        known = self.model[name]
        tag = tag if tag in known.tags else min(known.tags, default=tag)
        expected: type[RegistryError] | None = None
        if tag not in known.tags:
            expected = ManifestUnknown
        elif known.is_locked:
            expected = OperationDisallowed
        if self.outcome(self.registry.delete.manifest(self.name(name), Tag(tag)), expected):
            known.delete_tag(tag, self.clock.now)

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

    @rule(name=short_lived)
    def delete_repository(self, name: str) -> None:
        known = self.model[name]
        expected: type[RegistryError] | None = None
        if not known.exists:
            expected = NameUnknown
        elif known.is_locked or any(each.is_locked for each in known.live.values()):
            expected = OperationDisallowed
        if self.outcome(self.registry.delete.repository(self.name(name)), expected):
            for digest in known.live:
                known.discard(digest, self.clock.now)
            known.deleted, known.is_locked = self.clock.now, False
            for link in known.links.values():
                link.is_hidden = True

    @rule(name=names, content=manifests)
    def restore_manifest(self, name: str, content: Content) -> None:
        known, since = self.model[name], self.clock.now - KEEP_DELETED
        content = one_of(known.trash, content)
        kept = known.trash.get(content.digest)
        found = known.deleted_with([content.digest])
        expected: type[RegistryError] | None = None
        if known.is_locked:
            expected = OperationDisallowed
        elif kept is None or (kept.deleted or 0) <= since or not known.is_whole({*found}):
            expected = ManifestUnknown
        work = self.registry.metadata.restore_manifest(
            self.name(name), Digest(content.digest), since=since
        )
        if self.outcome(work, expected):
            known.restore_with(found, self.clock.now)

    @rule(name=short_lived)
    def restore_repository(self, name: str) -> None:
        known, since = self.model[name], self.clock.now - KEEP_DELETED
        asked = [
            digest
            for digest, each in known.trash.items()
            if (each.deleted or 0) > since and known.deleted in {None, each.deleted}
        ]
        found = known.deleted_with(asked)
        expected: type[RegistryError] | None = None
        if not found:
            expected = NameUnknown
        elif known.is_locked:
            expected = OperationDisallowed
        elif not known.is_whole({*found}):
            expected = ManifestUnknown
        work = self.registry.metadata.restore_repository(self.name(name), since=since)
        if self.outcome(work, expected):
            known.restore_with(found, self.clock.now)

    @rule(name=names, tag=tags, content=manifests)
    def restore_tag(self, name: str, tag: str, content: Content) -> None:
        known, since = self.model[name], self.clock.now - KEEP_DELETED
        digest = one_of(known.stored, content).digest
        current, _ = known.tags.get(tag, (None, 0))
        kept = known.trash.get(digest)
        found = known.deleted_with([digest])
        is_kept = kept is None or ((kept.deleted or 0) > since and known.is_whole({*found}))
        expected: type[RegistryError] | None = None
        if known.is_locked:
            expected = OperationDisallowed
        elif digest not in known.stored or not is_kept:
            expected = ManifestUnknown
        work = self.registry.metadata.restore_tag(
            self.name(name), Tag(tag), Digest(digest), since=since
        )
        if self.outcome(work, expected) and current != digest:
            for each in found:
                known.restore(each, self.clock.now)
            known.set_tag(tag, digest, self.clock.now, "restored")

    @rule(name=names, content=manifests)
    def empty_trash(self, name: str, content: Content) -> None:
        known = self.model[name]
        digest = one_of(known.trash, content).digest
        work = self.registry.metadata.purge_image(self.name(name), Digest(digest))
        if self.outcome(work, None if digest in known.trash else ManifestUnknown):
            known.purge_image(digest, self.clock.now)

    @rule(rules=rules_of_content)
    def change_rules(self, rules: RepositoryRules) -> None:
        self.in_force = rules

    @rule(quota=quotas)
    def change_quota(self, quota: int | None) -> None:
        self.registry.quota = quota

    @rule(name=names)
    def retain(self, name: str) -> None:
        """Delete by rules; exactly what the oracle says goes, and nothing that a tag reaches."""
        known, now = self.model[name], self.clock.now
        content = known.retained()
        # The last pull may be later than the one that was noted.
        latest = [
            each._replace(pulled=each.pulled and each.pulled + LATENESS)
            for each in content.manifests
        ]
        expected = removed(content._replace(manifests=latest), self.in_force, now)
        plan = self.run(self.registry.retain.plan(self.name(name), self.in_force))
        deleted = self.run(self.registry.retain.carry_out(plan))
        assert set(deleted.tags) == expected.tags
        assert set(deleted.manifests) == expected.manifests
        for tag in expected.tags:
            known.delete_tag(tag, now)
        for digest in expected.manifests:
            known.discard(digest, now)
        self.look()
        for tag in known.tags:
            self.require_whole(name, Tag(tag))

    def require_whole(self, name: str, reference: Tag | Digest) -> None:
        """Read an image as a client does, with all that it lists."""
        repository = self.name(name)
        found = self.run(self.registry.metadata.get_manifest(repository, reference))
        for child in BY_DIGEST[found.digest].children:
            self.require_whole(name, Digest(child.digest))
        for blob in BY_DIGEST[found.digest].blobs:
            self.run(self.registry.metadata.get_blob(repository, Digest.of(blob)))

    @rule(name=names, lock=st.booleans())
    def lock(self, name: str, *, lock: bool) -> None:
        known = self.model[name]
        change = LockChange(Lock.WRITE, Lock(0)) if lock else LockChange(Lock(0), Lock.WRITE)
        work = self.registry.metadata.change_repository(self.name(name), change)
        if self.outcome(work, None if known.exists else NameUnknown):
            known.is_locked = lock

    @rule(name=names, content=manifests, lock=st.booleans())
    def lock_manifest(self, name: str, content: Content, *, lock: bool) -> None:
        known, digest = self.model[name], content.digest
        change = LockChange(Lock.DELETE, Lock(0)) if lock else LockChange(Lock(0), Lock.DELETE)
        work = self.registry.metadata.change_manifest(self.name(name), Digest(digest), change)
        if self.outcome(work, None if digest in known.live else ManifestUnknown):
            known.live[digest].is_locked = lock

    @rule()
    def collect(self) -> None:
        now = self.clock.now
        self.run(self.registry.collector.collect())
        for name, known in self.model.items():
            for digest, stored in known.trash.items():
                if (stored.deleted or 0) <= now - KEEP_DELETED:
                    known.purge(digest, now)
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
                of = Digest(content.digest)
                work = self.registry.metadata.get_manifest(self.name(name), of)
                self.outcome(work, None if content.digest in known.live else ManifestUnknown)
            for tag in TAGS:
                self.look_at_tag(name, tag)
            content = self.run(self.registry.metadata.read_retained(self.name(name)))
            assert what_counts(content) == what_counts(known.retained())
        taken = {str(self.name(name)): known.taken for name, known in self.model.items()}
        assert self.run(self.registry.metadata.measure_repositories(list(taken))) == taken
        held = {digest for known in self.model.values() for digest in known.links}
        assert set(map(str, self.run(self.registry.stored()))) == held

    def look_at_tag(self, name: str, tag: str) -> None:
        """Compare where a tag points to."""
        found = None
        with suppress(NameUnknown, TagUnknown):
            found = self.run(self.registry.metadata.get_tag(self.name(name), Tag(tag))).digest
        assert found == self.model[name].tags.get(tag, (None, 0))[0]

    def teardown(self) -> None:
        """Delete everything, and let every time pass: nothing is left."""
        self.look()
        assert self.run(listed(self.registry.metadata.integrity_problems())) == []
        assert self.run(listed(self.registry.metadata.uncollected_links())) == []
        for record in self.run(listed(self.registry.metadata.repository_records())):
            assert record.manifest_count == record.manifests
            assert record.tag_count == record.tags
            assert record.recorded_bytes == record.bytes
        for name in NAMES:
            self.lock(name, lock=False)
            for digest in self.model[name].live:
                self.lock_manifest(name, BY_DIGEST[digest], lock=False)
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
            local = runner.run(open_database(tmp_path, clock=clock))
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
            max_examples=20 if kind == "sqlite" else 5,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
