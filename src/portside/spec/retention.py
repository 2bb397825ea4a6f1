"""Retention: which tags and manifests of a repository its rules delete, and why.

Each tag is judged by itself first. It stays if it is locked or immutable, if no retention rule
matches it, or if one of those that match keeps it. What is kept then, with all that it reaches:

- the tags that stay;
- manifests that are locked;
- manifests without tags that no rule deletes, or not yet.

A manifest reaches the manifests that it refers to, those that have it as their subject, and its own
subject. Tags can name a subject as well: those of the referrers tag schema of the distribution-spec
(`sha256-HEX`), and cosign's (`sha256-HEX.sig`, `.att`, `.sbom`). While the manifest that such a tag
names is in the repository, the tag belongs to it, and no retention rule matches it.

Of the rest, manifests without tags are deleted by the rule about them, and what has them as its
subject with them. Nothing else is deleted. Times are in microseconds since 1970.
"""

from __future__ import annotations

import enum
import re
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from portside.spec.locks import NOTHING, ON_DELETE, Lock
from portside.spec.rules import RepositoryRules, RetentionRule

# The distribution-spec, "Referrers Tag Schema": the algorithm, a hyphen, and at most 64 characters
# of the encoded part. Cosign adds the kind of what the tag points to.
_SUBJECT_TAG = re.compile(r"(sha256|sha512)-([a-f0-9]{64})(?:\.(?:sig|att|sbom))?")

_SHORTENED = len("sha512:") + 64
"""Characters of a digest that a tag of the schema keeps."""


class RetainedTag(NamedTuple):
    """A tag, as far as it matters for retention; `pushed` is when it was last pushed."""

    name: str
    digest: str
    pushed: int
    locks: Lock = NOTHING


class RetainedManifest(NamedTuple):
    """A manifest, as far as it matters for retention; `pushed` is when it was last pushed.

    `untagged` is when it lost its last tag, if that is known, and `pulled` when it was last pulled,
    if it was. `children` are the digests that it refers to, manifests or not.
    """

    digest: str
    pushed: int
    untagged: int | None = None
    pulled: int | None = None
    subject: str | None = None
    children: tuple[str, ...] = ()
    locks: Lock = NOTHING


class RetainedContent(NamedTuple):
    """The tags and manifests of a repository at one moment; each tag's manifest is among them."""

    tags: Sequence[RetainedTag]
    manifests: Sequence[RetainedManifest]
    locks: Lock = NOTHING


class Reason(enum.Enum):
    """Why something stays or goes; the value is a sentence that names what decides."""

    REPOSITORY_LOCKED = "the repository is locked"
    LOCKED = "it is locked"
    MANIFEST_LOCKED = "its manifest is locked"
    IMMUTABLE = "immutable tag: {}"
    NO_RULE = "no rule deletes it"
    NEWEST = "one of the newest: {}"
    PUSHED = "pushed recently: {}"
    PULLED = "pulled recently: {}"
    NOT_YET = "not untagged for long enough: {}"
    TAGGED = "tag {} stays"
    CHILD = "{}, which refers to it, stays"
    REFERRER = "its subject {} stays"
    SUBJECT = "its referrer {} stays"
    EXPIRED = "not kept by any rule that matches: {}"
    UNTAGGED = "untagged for long enough: {}"
    SUBJECT_GOES = "its subject {} goes"


_GOING = frozenset({Reason.EXPIRED, Reason.UNTAGGED, Reason.SUBJECT_GOES})


class Verdict(NamedTuple):
    """Whether a tag or a manifest goes, and why; `by` is what decides: a rule, tag or digest."""

    reason: Reason
    by: str = ""

    @property
    def goes(self) -> bool:
        """Whether it is deleted."""
        return self.reason in _GOING

    def __str__(self) -> str:
        return self.reason.value.format(self.by)


_UNCOVERED = Verdict(Reason.NO_RULE)


class Verdicts(NamedTuple):
    """The verdict on each tag by its name, and on each manifest by its digest."""

    tags: dict[str, Verdict]
    manifests: dict[str, Verdict]


def decide(
    content: RetainedContent, rules: RepositoryRules, now: int, *, lateness: int = 0
) -> Verdicts:
    """Return what the rules delete of a repository at a time, and what stays, with the reasons.

    A manifest may have been pulled later than is known, by up to `lateness`.
    """
    if content.locks & ON_DELETE:
        locked = Verdict(Reason.REPOSITORY_LOCKED)
        return Verdicts(
            {tag.name: locked for tag in content.tags},
            {manifest.digest: locked for manifest in content.manifests},
        )
    return _Decision(content, rules, now, lateness).decide()


class _Decision:
    """What stays and what goes, as far as it is decided."""

    def __init__(
        self, content: RetainedContent, rules: RepositoryRules, now: int, lateness: int
    ) -> None:
        self._rules = rules
        self._now = now
        self._lateness = lateness
        self._tags = {tag.name: tag for tag in content.tags}
        self._manifests = {manifest.digest: manifest for manifest in content.manifests}
        self._kept = Verdicts({}, {})
        self._going = Verdicts({}, {})
        self._reached: deque[str] = deque()
        self._subject_tags = dict(self._find_subject_tags())
        self._tags_about: dict[str, list[str]] = defaultdict(list)
        self._referrers: dict[str, list[str]] = defaultdict(list)
        for name, subject in self._subject_tags.items():
            self._tags_about[subject].append(name)
            self._referrers[subject].append(self._tags[name].digest)
        for manifest in content.manifests:
            if manifest.subject is not None and manifest.subject in self._manifests:
                self._referrers[manifest.subject].append(manifest.digest)

    def _find_subject_tags(self) -> Iterator[tuple[str, str]]:
        """Yield each tag that names another manifest of the repository, and that manifest."""
        longer = (digest for digest in self._manifests if len(digest) > _SHORTENED)
        shortened = {digest[:_SHORTENED]: digest for digest in longer}
        for tag in self._tags.values():
            if found := _SUBJECT_TAG.fullmatch(tag.name):
                named = f"{found[1]}:{found[2]}"
                subject = shortened.get(named, named)
                if subject in self._manifests and subject != tag.digest:
                    yield tag.name, subject

    def decide(self) -> Verdicts:
        """Keep what stays by itself and what that reaches, and let go what a rule deletes."""
        expired = self._judge_tags()
        for manifest in self._manifests.values():
            if manifest.locks & ON_DELETE:
                self._keep(manifest.digest, Verdict(Reason.LOCKED))
        self._spread()
        due = self._judge_manifests({self._tags[name].digest for name in expired})
        self._spread()
        self._let_go(due)
        # The rest are manifests that are each other's subjects, as only tags can make them: no rule
        # deletes the first, and so all stay.
        for digest in set(self._manifests).difference(self._kept.manifests, self._going.manifests):
            self._keep(digest, _UNCOVERED)
        self._spread()
        return Verdicts(
            {**expired, **self._going.tags, **self._kept.tags},
            {**self._going.manifests, **self._kept.manifests},
        )

    def _judge_tags(self) -> dict[str, Verdict]:
        """Keep each tag that stays by itself; return the verdicts on those that expired."""
        expired: dict[str, Verdict] = {}
        newest = [self._newest(rule) for rule in self._rules.retention]
        for tag in self._tags.values():
            verdict = self._judge_tag(tag, newest)
            if verdict is not None and verdict.goes:
                expired[tag.name] = verdict
            elif verdict is not None:
                self._keep_tag(tag.name, verdict)
        return expired

    def _judge_tag(self, tag: RetainedTag, newest: Sequence[Collection[str]]) -> Verdict | None:
        """Return the verdict on a tag by itself; None if it follows what it names."""
        if tag.locks & ON_DELETE:
            return Verdict(Reason.LOCKED)
        if self._manifests[tag.digest].locks & ON_DELETE:
            return Verdict(Reason.MANIFEST_LOCKED)
        for pattern in self._rules.immutable_tags:
            if pattern.matches(tag.name):
                return Verdict(Reason.IMMUTABLE, pattern)
        return None if tag.name in self._subject_tags else self._judge_by_rules(tag, newest)

    def _judge_by_rules(self, tag: RetainedTag, newest: Sequence[Collection[str]]) -> Verdict:
        pulled = self._manifests[tag.digest].pulled
        last_pull = None if pulled is None else pulled + self._lateness
        matching: list[str] = []
        for rule, latest in zip(self._rules.retention, newest, strict=True):
            if rule.tags.matches(tag.name):
                matching.append(rule.source)
                if tag.name in latest:
                    return Verdict(Reason.NEWEST, rule.source)
                if self._is_within(tag.pushed, rule.keep_pushed_within):
                    return Verdict(Reason.PUSHED, rule.source)
                if self._is_within(last_pull, rule.keep_pulled_within):
                    return Verdict(Reason.PULLED, rule.source)
        return Verdict(Reason.EXPIRED, "; ".join(matching)) if matching else _UNCOVERED

    def _newest(self, rule: RetentionRule) -> frozenset[str]:
        """Return the tags that a rule keeps as the newest; of equal times, by name."""
        matching = [
            tag
            for tag in self._tags.values()
            if rule.keep_newest and tag.name not in self._subject_tags
            if rule.tags.matches(tag.name)
        ]
        matching.sort(key=lambda tag: (tag.pushed, tag.name), reverse=True)
        return frozenset(tag.name for tag in matching[: rule.keep_newest])

    def _is_within(self, time: int | None, duration: int | None) -> bool:
        return time is not None and duration is not None and self._now - time < duration

    def _judge_manifests(self, losing: Collection[str]) -> dict[str, Verdict]:
        """Keep manifests without tags that stay by themselves; return the verdicts on the others.

        Those that are `losing` a tag have none from now on. What has a subject follows it.
        """
        due: dict[str, Verdict] = {}
        following = {digest for found in self._referrers.values() for digest in found}
        for manifest in self._manifests.values():
            if manifest.digest in self._kept.manifests or manifest.digest in following:
                continue
            verdict = self._judge_untagged(manifest, is_losing=manifest.digest in losing)
            if verdict.goes:
                due[manifest.digest] = verdict
            else:
                self._keep(manifest.digest, verdict)
        return due

    def _judge_untagged(self, manifest: RetainedManifest, *, is_losing: bool) -> Verdict:
        rule = self._rules.untagged
        if rule is None:
            return _UNCOVERED
        since = manifest.pushed
        if not rule.since_push:
            since = self._now if is_losing else max(since, manifest.untagged or 0)
        is_due = self._now - since >= rule.delete_after
        return Verdict(Reason.UNTAGGED if is_due else Reason.NOT_YET, rule.source)

    def _keep_tag(self, name: str, verdict: Verdict) -> None:
        if name in self._kept.tags:
            return
        self._kept.tags[name] = verdict
        self._keep(self._tags[name].digest, Verdict(Reason.TAGGED, name))
        if subject := self._subject_tags.get(name):
            self._keep(subject, Verdict(Reason.SUBJECT, name))

    def _keep(self, digest: str, verdict: Verdict) -> None:
        if digest in self._manifests and digest not in self._kept.manifests:
            self._kept.manifests[digest] = verdict
            self._reached.append(digest)

    def _spread(self) -> None:
        """Keep all that is reached by what is kept."""
        while self._reached:
            digest = self._reached.popleft()
            manifest = self._manifests[digest]
            for child in manifest.children:
                self._keep(child, Verdict(Reason.CHILD, digest))
            for name in self._tags_about.get(digest, ()):
                self._keep_tag(name, Verdict(Reason.REFERRER, digest))
            for referrer in self._referrers.get(digest, ()):
                self._keep(referrer, Verdict(Reason.REFERRER, digest))
            if manifest.subject is not None:
                self._keep(manifest.subject, Verdict(Reason.SUBJECT, digest))

    def _let_go(self, due: dict[str, Verdict]) -> None:
        """Mark what is due and not kept, and what has it as its subject."""
        tags, manifests = self._going
        waiting = deque(due.items())
        while waiting:
            digest, verdict = waiting.popleft()
            if digest in self._kept.manifests or digest in manifests:
                continue
            manifests[digest] = verdict
            follows = Verdict(Reason.SUBJECT_GOES, digest)
            tags.update((name, follows) for name in self._tags_about.get(digest, ()))
            waiting.extend((referrer, follows) for referrer in self._referrers.get(digest, ()))


class Removal(NamedTuple):
    """What goes together, or not at all, after what comes before it: tags, manifests, or both.

    A manifest goes only once the manifests that refer to it are gone, and what has a subject only
    once that is. `subjects` names those by tag or digest. `pulls` has the last pulls of manifests
    whose tags stay if there is another one.
    """

    tags: Sequence[RetainedTag]
    manifests: Sequence[RetainedManifest]
    subjects: dict[str, str]
    pulls: dict[str, int | None]


def removals(
    content: RetainedContent, verdicts: Verdicts, rules: RepositoryRules, size: int
) -> Iterator[Removal]:
    """Yield what the rules delete in an order in which it can go, about `size` items at a time.

    A tag goes with its manifest if that goes as well, so that both are restored together.
    """
    pulled = {manifest.digest: manifest.pulled for manifest in content.manifests}

    def pulls(tags: Iterable[RetainedTag]) -> dict[str, int | None]:
        expired = [tag for tag in tags if verdicts.tags[tag.name].reason is Reason.EXPIRED]
        return {tag.digest: pulled[tag.digest] for tag in expired if rules.heed_pulls(tag.name)}

    alone: list[RetainedTag] = []
    tags_with: dict[str, list[RetainedTag]] = defaultdict(list)
    for tag in content.tags:
        verdict, of_manifest = verdicts.tags[tag.name], verdicts.manifests[tag.digest]
        if not verdict.goes:
            continue
        if of_manifest.goes and (verdict.reason is Reason.EXPIRED or verdict == of_manifest):
            tags_with[tag.digest].append(tag)
        elif verdict.reason is Reason.SUBJECT_GOES:
            tags_with[verdict.by].append(tag)
        else:
            alone.append(tag)
    for start in range(0, len(alone), size):
        batch = alone[start : start + size]
        yield Removal(batch, (), {}, pulls(batch))
    for manifests in _batches(_ordered(content, verdicts.manifests), tags_with, size):
        tags = [tag for manifest in manifests for tag in tags_with.get(manifest.digest, ())]
        found = {tag.name: verdicts.tags[tag.name] for tag in tags}
        found |= {each.digest: verdicts.manifests[each.digest] for each in manifests}
        subjects = {
            name: verdict.by
            for name, verdict in found.items()
            if verdict.reason is Reason.SUBJECT_GOES
        }
        yield Removal(tags, manifests, subjects, pulls(tags))


def _batches(
    manifests: Iterable[RetainedManifest], tags: dict[str, list[RetainedTag]], size: int
) -> Iterator[list[RetainedManifest]]:
    """Yield manifests that have about `size` items together with the tags that go with them."""
    batch: list[RetainedManifest] = []
    items = 0
    for manifest in manifests:
        batch.append(manifest)
        items += 1 + len(tags.get(manifest.digest, ()))
        if items >= size:
            yield batch
            batch, items = [], 0
    if batch:
        yield batch


def _ordered(content: RetainedContent, verdicts: dict[str, Verdict]) -> Iterator[RetainedManifest]:
    """Yield the manifests that go: each behind those that refer to it, and behind its subject."""
    going = {each.digest: each for each in content.manifests if verdicts[each.digest].goes}
    behind: dict[str, list[str]] = defaultdict(list)
    for digest, manifest in going.items():
        behind[digest] += [child for child in manifest.children if child in going]
        if verdicts[digest].reason is Reason.SUBJECT_GOES:
            behind[verdicts[digest].by].append(digest)
    awaited = Counter(digest for found in behind.values() for digest in found)
    # An index can list its own subject; what waits for each other in this way comes last.
    ready = deque(digest for digest in going if not awaited[digest])
    waiting = [digest for digest in going if awaited[digest]]
    while ready:
        digest = ready.popleft()
        yield going[digest]
        for other in behind[digest]:
            awaited[other] -= 1
            if not awaited[other]:
                ready.append(other)
    yield from (going[digest] for digest in waiting if awaited[digest])
