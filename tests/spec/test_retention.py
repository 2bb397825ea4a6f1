"""What retention deletes: case by case, and against a naive oracle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from portside.spec.locks import NOTHING, Lock
from portside.spec.patterns import TagPattern
from portside.spec.retention import (
    Reason,
    RetainedContent,
    RetainedManifest,
    RetainedTag,
    Verdict,
    Verdicts,
    decide,
)
from portside.spec.rules import RepositoryRules, RetentionRule, UntaggedRule

NOW = 1000
"""The time of all decisions here, in days; any unit does."""


def sha(letter: str, algorithm: str = "sha256") -> str:
    """Return the digest of one letter over and over."""
    return f"{algorithm}:{letter * (64 if algorithm == 'sha256' else 128)}"


A, B, C, D, E, F = map(sha, "abcdef")


def rule(
    tags: str = "*",
    *,
    newest: int | None = None,
    pushed: int | None = None,
    pulled: int | None = None,
    name: str = "r",
) -> RetentionRule:
    """Return a rule about tags."""
    return RetentionRule(
        source=name,
        tags=TagPattern.parse(tags),
        keep_newest=newest,
        keep_pushed_within=pushed,
        keep_pulled_within=pulled,
    )


def untagged(after: int, *, since_push: bool = False) -> UntaggedRule:
    """Return a rule about manifests without tags."""
    return UntaggedRule(source="u", delete_after=after, since_push=since_push)


def tag(name: str, digest: str, age: int = 0, locks: Lock = NOTHING) -> RetainedTag:
    """Return a tag that was pushed so long ago."""
    return RetainedTag(name, digest, NOW - age, locks)


def manifest(
    digest: str,
    age: int = 0,
    *,
    untagged: int | None = None,
    pulled: int | None = None,
    subject: str | None = None,
    children: Iterable[str] = (),
    locks: Lock = NOTHING,
) -> RetainedManifest:
    """Return a manifest that was pushed, lost its last tag and was pulled so long ago."""
    return RetainedManifest(
        digest,
        NOW - age,
        None if untagged is None else NOW - untagged,
        None if pulled is None else NOW - pulled,
        subject,
        tuple(children),
        locks,
    )


def verdicts(
    *content: tuple[Any, ...],
    retention: Iterable[RetentionRule] = (),
    untagged: UntaggedRule | None = None,
    immutable: Iterable[str] = (),
    locks: Lock = NOTHING,
) -> Verdicts:
    """Decide; manifests that only tags are given of are new."""
    tags = [item for item in content if isinstance(item, RetainedTag)]
    manifests = {item.digest: item for item in content if isinstance(item, RetainedManifest)}
    for item in tags:
        manifests.setdefault(item.digest, manifest(item.digest))
    rules = RepositoryRules(
        immutable_tags=tuple(map(TagPattern.parse, immutable)),
        retention=tuple(retention),
        untagged=untagged,
    )
    return decide(RetainedContent(tags, tuple(manifests.values()), locks), rules, NOW)


def going(found: Verdicts) -> set[str]:
    """Return the tags and manifests that go."""
    return {name for part in found for name, verdict in part.items() if verdict.goes}


class TestTags:
    """Tags by themselves."""

    def test_no_rule(self) -> None:
        """A tag that no rule matches stays, however old it is."""
        found = verdicts(tag("a", A, 999), retention=[rule("b*", newest=1)])
        assert found.tags == {"a": Verdict(Reason.NO_RULE)}
        assert found.manifests == {A: Verdict(Reason.TAGGED, "a")}

    def test_newest(self) -> None:
        """The tags that were pushed last stay; of two at the same time, the later name."""
        tags = [tag("pr-1", A, 3), tag("pr-2", A, 1), tag("pr-3", B, 2), tag("pr-4", B, 2)]
        found = verdicts(*tags, tag("x", C, 9), retention=[rule("pr-*", newest=2, name="two")])
        assert going(found) == {"pr-1", "pr-3"}
        assert found.tags["pr-2"] == Verdict(Reason.NEWEST, "two")
        assert found.tags["pr-1"] == Verdict(Reason.EXPIRED, "two")

    def test_pushed(self) -> None:
        """A tag stays for as long as the rule says after it was pushed, and not a moment longer."""
        found = verdicts(tag("a", A, 9), tag("b", A, 10), retention=[rule(pushed=10)])
        assert going(found) == {"b"}
        assert found.tags["a"] == Verdict(Reason.PUSHED, "r")

    def test_pulled(self) -> None:
        """A tag stays for as long as the rule says after its manifest was pulled."""
        content = [tag("a", A, 99), tag("b", B, 99), tag("c", C, 99)]
        pulled = [manifest(A, 99, pulled=9), manifest(B, 99, pulled=10), manifest(C, 99)]
        found = verdicts(*content, *pulled, retention=[rule(pulled=10)])
        assert going(found) == {"b", "c"}
        assert found.tags["a"] == Verdict(Reason.PULLED, "r")

    def test_several_rules(self) -> None:
        """A tag stays if any keep of any rule that matches it holds."""
        content = [tag("pr-1", A, 5), tag("pr-2", A, 50), tag("x", A, 1)]
        rules = [rule("*", newest=1, name="one"), rule("pr-*", pushed=10, name="two")]
        found = verdicts(*content, retention=rules)
        assert found.tags == {
            "pr-1": Verdict(Reason.PUSHED, "two"),
            "pr-2": Verdict(Reason.EXPIRED, "one; two"),
            "x": Verdict(Reason.NEWEST, "one"),
        }

    @pytest.mark.parametrize("lock", [Lock.DELETE, Lock.WRITE])
    def test_locked(self, lock: Lock) -> None:
        """A locked tag stays, and so do the tags of a locked manifest."""
        content = [tag("a", A, 99, lock), tag("b", A, 99), tag("c", B, 99), manifest(B, locks=lock)]
        found = verdicts(*content, retention=[rule(pushed=1)])
        assert going(found) == {"b"}
        assert found.tags["a"].reason is Reason.LOCKED
        assert found.tags["c"].reason is Reason.MANIFEST_LOCKED

    def test_other_locks(self) -> None:
        """What is locked against lists or pulls alone can go."""
        hidden = Lock.LIST | Lock.READ
        found = verdicts(tag("a", A, 99, hidden), retention=[rule(pushed=1)], locks=hidden)
        assert going(found) == {"a"}

    @pytest.mark.parametrize("lock", [Lock.DELETE, Lock.WRITE])
    def test_locked_repository(self, lock: Lock) -> None:
        """Nothing goes from a locked repository."""
        found = verdicts(
            tag("a", A, 99),
            manifest(B, 99),
            retention=[rule(pushed=1)],
            untagged=untagged(1),
            locks=lock,
        )
        assert set(found.tags.values()) == {Verdict(Reason.REPOSITORY_LOCKED)}
        assert not going(found)

    def test_immutable(self) -> None:
        """An immutable tag stays, and counts among the newest."""
        content = [tag("v1", A, 1), tag("v2", A, 9), tag("w", A, 5)]
        found = verdicts(*content, retention=[rule(newest=1)], immutable=["v*"])
        assert found.tags["v2"] == Verdict(Reason.IMMUTABLE, "v*")
        assert going(found) == {"w"}


class TestUntagged:
    """Manifests without tags."""

    def test_no_rule(self) -> None:
        """Without a rule about them, they stay."""
        assert verdicts(manifest(A, 999)).manifests == {A: Verdict(Reason.NO_RULE)}

    def test_never_tagged(self) -> None:
        """The time counts from the last push of a manifest that never had a tag."""
        found = verdicts(manifest(A, 7), manifest(B, 6), untagged=untagged(7))
        assert found.manifests == {
            A: Verdict(Reason.UNTAGGED, "u"),
            B: Verdict(Reason.NOT_YET, "u"),
        }

    def test_lost_its_tag(self) -> None:
        """The time counts from the loss of the last tag, or from a later push."""
        content = [
            manifest(A, 99, untagged=7),
            manifest(B, 99, untagged=6),
            manifest(C, 6, untagged=99),
        ]
        assert going(verdicts(*content, untagged=untagged(7))) == {A}

    def test_loses_its_tag_now(self) -> None:
        """A manifest whose last tag goes is untagged from now on."""
        content = [tag("a", A, 99), manifest(A, 99, untagged=99)]
        rules = [rule(pushed=1)]
        assert going(verdicts(*content, retention=rules, untagged=untagged(1))) == {"a"}
        assert going(verdicts(*content, retention=rules, untagged=untagged(0))) == {"a", A}

    def test_since_push(self) -> None:
        """A purge counts from the push, so that a manifest can go with its last tag."""
        content = [tag("a", A, 99), manifest(A, 99), tag("b", B, 99), manifest(B, 9)]
        since_push = untagged(10, since_push=True)
        assert going(verdicts(*content, retention=[rule(pushed=1)], untagged=since_push)) == {
            "a",
            "b",
            A,
        }

    def test_tagged(self) -> None:
        """A manifest with a tag that stays is not untagged."""
        content = [tag("a", A, 99), tag("b", A), manifest(A, 99, untagged=50)]
        found = verdicts(*content, retention=[rule(pushed=1)], untagged=untagged(1))
        assert going(found) == {"a"}
        assert found.manifests[A] == Verdict(Reason.TAGGED, "b")

    def test_locked(self) -> None:
        """A locked manifest stays, and what it refers to."""
        content = [manifest(A, 99, children=[B], locks=Lock.DELETE), manifest(B, 99)]
        found = verdicts(*content, untagged=untagged(1))
        assert found.manifests == {A: Verdict(Reason.LOCKED), B: Verdict(Reason.CHILD, A)}


class TestReach:
    """Children, subjects and referrers."""

    def test_children(self) -> None:
        """What a kept index lists stays, at any depth; what a deleted one lists goes by itself."""
        content = [
            tag("a", A),
            manifest(A, 99, children=[B]),
            manifest(B, 99, children=[C]),
            manifest(C, 99),
            manifest(D, 99, children=[C, E, F]),
            manifest(E, 99),
            manifest(F, 1),
        ]
        found = verdicts(*content, untagged=untagged(7))
        assert going(found) == {D, E}
        assert found.manifests[C] == Verdict(Reason.CHILD, B)

    def test_children_of_an_index_that_waits(self) -> None:
        """The manifests of an index without tags stay for as long as the index."""
        content = [manifest(A, 99, untagged=1, children=[B]), manifest(B, 99)]
        assert not going(verdicts(*content, untagged=untagged(7)))

    def test_referrers(self) -> None:
        """Referrers of a kept subject stay, and go with one that goes, however new they are."""
        content = [
            tag("a", A),
            manifest(B, 99, subject=A),
            manifest(C, 99, subject=B),
            manifest(D, 99),
            manifest(E, 0, subject=D),
            manifest(F, 0, subject=E),
        ]
        found = verdicts(*content, untagged=untagged(7))
        assert going(found) == {D, E, F}
        assert found.manifests[C] == Verdict(Reason.REFERRER, B)
        assert found.manifests[F] == Verdict(Reason.SUBJECT_GOES, E)

    def test_referrer_of_a_child(self) -> None:
        """What refers to a manifest of a kept index stays."""
        index = [tag("a", A), manifest(A, children=[B]), manifest(B, 99)]
        content = [*index, manifest(C, 99, subject=B)]
        assert not going(verdicts(*content, untagged=untagged(7)))

    def test_missing_subject(self) -> None:
        """A referrer of what the repository does not have is a manifest like any other."""
        content = [manifest(A, 99, subject=F), manifest(B, 1, subject=F)]
        assert going(verdicts(*content, untagged=untagged(7))) == {A}

    def test_tagged_referrer(self) -> None:
        """A referrer with a tag of its own stays, with its subject and that one's children."""
        content = [
            tag("sbom", B),
            manifest(A, 99, children=[C]),
            manifest(B, 99, subject=A),
            manifest(C, 99),
            manifest(D, 99, subject=A),
        ]
        found = verdicts(*content, untagged=untagged(7))
        assert not going(found)
        assert found.manifests[A] == Verdict(Reason.SUBJECT, B)

    @pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_tags_of_subjects(self, suffix: str, algorithm: str) -> None:
        """Tags that name a subject follow it, whatever the rules say, and with what they list."""
        name = f"{algorithm}-{'a' * 64}{suffix}"
        subject = sha("a", algorithm)
        content = [tag(name, B, 99), manifest(B, 99, children=[C]), manifest(C, 99)]
        rules = [rule(pushed=7, name="old")]
        kept = verdicts(*content, tag("x", subject), retention=rules, untagged=untagged(7))
        assert not going(kept)
        assert kept.tags[name] == Verdict(Reason.REFERRER, subject)
        gone = verdicts(*content, manifest(subject, 99), retention=rules, untagged=untagged(7))
        assert going(gone) == {subject, name, B, C}
        assert gone.tags[name] == Verdict(Reason.SUBJECT_GOES, subject)

    def test_tag_of_a_missing_subject(self) -> None:
        """Without its subject, such a tag is one like any other."""
        name = f"sha256-{'a' * 64}.sig"
        found = verdicts(tag(name, B, 99), retention=[rule(pushed=7)])
        assert found.tags[name] == Verdict(Reason.EXPIRED, "r")
        assert verdicts(tag(name, B, 99), untagged=untagged(7)).tags[name].reason is Reason.NO_RULE

    @pytest.mark.parametrize("name", ["sha256-" + "a" * 63, "sha256-" + "a" * 64 + ".txt"])
    def test_other_names(self, name: str) -> None:
        """Tags that only look similar follow nothing."""
        found = verdicts(tag(name, B, 99), manifest(A), retention=[rule(pushed=7)])
        assert going(found) == {name}

    def test_signatures_are_not_counted(self) -> None:
        """Signatures take no place among the newest."""
        content = [tag("1", A, 9), tag(f"sha256-{'a' * 64}.sig", B, 1), tag("2", C, 10)]
        assert going(verdicts(*content, retention=[rule(newest=1)])) == {"2"}

    def test_locked_signature(self) -> None:
        """A locked signature stays, with what it is about."""
        content = [tag(f"sha256-{'a' * 64}.sig", B, 9, Lock.DELETE), manifest(A, 99)]
        assert not going(verdicts(*content, untagged=untagged(7)))

    def test_circle(self) -> None:
        """Manifests that are each other's subjects stay: no rule deletes the first of them."""
        content = [
            tag(f"sha256-{'a' * 64}", B, 99),
            tag(f"sha256-{'b' * 64}", A, 99),
            manifest(A, 99),
            manifest(B, 99, children=[C]),
            manifest(C, 99),
        ]
        assert not going(verdicts(*content, retention=[rule(pushed=7)], untagged=untagged(7)))

    def test_own_name(self) -> None:
        """A tag that names its own manifest is a tag like any other."""
        content = [tag(f"sha256-{'a' * 64}", A, 99), manifest(A, 99)]
        rules = [rule(pushed=7)]
        assert going(verdicts(*content, retention=rules, untagged=untagged(0))) == {
            f"sha256-{'a' * 64}",
            A,
        }


def test_sentences() -> None:
    """Each verdict is a sentence that names what decides."""
    assert str(Verdict(Reason.TAGGED, "v1")) == "tag v1 stays"
    assert all(str(Verdict(reason, "X")) for reason in Reason)


# The oracle: sets of names that grow until nothing changes, without any order or index.


class Removed(NamedTuple):
    """What goes."""

    tags: frozenset[str]
    manifests: frozenset[str]


SUFFIXES = ("", ".sig", ".att", ".sbom")


def named_subject(item: RetainedTag, content: RetainedContent) -> str | None:
    """Return the manifest that a tag names, if the repository has it, and it is another one."""
    for found in content.manifests:
        algorithm, _, encoded = found.digest.partition(":")
        names = {f"{algorithm}-{encoded[:64]}{suffix}" for suffix in SUFFIXES}
        if item.name in names and found.digest != item.digest:
            return found.digest
    return None


def stays_alone(
    item: RetainedTag, content: RetainedContent, rules: RepositoryRules, now: int
) -> bool:
    """Whether a tag stays by its locks, or by the rules if it names no subject."""
    (own,) = (found for found in content.manifests if found.digest == item.digest)
    if (item.locks | own.locks) & (Lock.DELETE | Lock.WRITE) or rules.is_immutable(item.name):
        return True
    if named_subject(item, content):
        return False
    matching = [each for each in rules.retention if each.tags.matches(item.name)]
    for each in matching:
        rivals = [
            other
            for other in content.tags
            if each.tags.matches(other.name)
            and named_subject(other, content) is None
            and (other.pushed, other.name) > (item.pushed, item.name)
        ]
        if each.keep_newest is not None and len(rivals) < each.keep_newest:
            return True
        if each.keep_pushed_within and item.pushed > now - each.keep_pushed_within:
            return True
        if each.keep_pulled_within and (own.pulled or 0) > now - each.keep_pulled_within:
            return True
    return not matching


def removed(content: RetainedContent, rules: RepositoryRules, now: int = NOW) -> Removed:
    """Return what goes, by the words of the documentation."""
    if content.locks & (Lock.DELETE | Lock.WRITE):
        return Removed(frozenset(), frozenset())
    names = {item.digest: item for item in content.manifests}
    subjects = {item.name: named_subject(item, content) for item in content.tags}
    about: set[tuple[str, str]] = {
        (item.digest, item.subject) for item in content.manifests if item.subject in names
    }
    about |= {(item.digest, named) for item in content.tags if (named := subjects[item.name])}
    alone = {item.name for item in content.tags if stays_alone(item, content, rules, now)}
    expired = {
        item.name for item in content.tags if not subjects[item.name] and item.name not in alone
    }
    reach = {(subject, referrer) for referrer, subject in about}
    reach |= {(item.digest, item.subject or "") for item in content.manifests}
    reach |= {(item.digest, child) for item in content.manifests for child in item.children}
    roots = {item.digest for item in content.tags if item.name in alone}
    roots |= {subjects[name] or "" for name in alone}
    roots |= {item.digest for item in content.manifests if item.locks & (Lock.DELETE | Lock.WRITE)}

    def closed(kept: set[str]) -> set[str]:
        while more := {to for start, to in reach if start in kept and to in names} - kept:
            kept = kept | more
        return kept

    def due(item: RetainedManifest) -> bool:
        if rules.untagged is None:
            return False
        times = [item.pushed]
        if not rules.untagged.since_push:
            times.append(item.untagged or 0)
            lost = [it for it in content.tags if it.name in expired and it.digest == item.digest]
            times += [now for _ in lost]
        return now - max(times) >= rules.untagged.delete_after

    kept = closed(roots & set(names))
    referrers = {referrer for referrer, _ in about}
    kept = closed(kept | {name for name in names if name not in referrers and not due(names[name])})
    while True:
        gone = {name for name in names if name not in referrers} - kept
        while more := {r for r, s in about if s in gone} - gone - kept:
            gone |= more
        if gone | kept == set(names):
            break
        kept = closed(kept | (set(names) - gone))
    return Removed(
        frozenset(expired | {name for name, named in subjects.items() if named in gone}),
        frozenset(gone),
    )


LETTERS = "abcdef"
DIGESTS = [*map(sha, LETTERS), sha("9", "sha512")]
NAMES = [
    *("pr-1", "pr-2", "pr-3", "v1", "v2", "latest"),
    *(f"sha256-{letter * 64}{suffix}" for letter in "abc" for suffix in ("", ".sig")),
    f"sha512-{'9' * 64}",
]

locks = st.sampled_from([NOTHING] * 12 + [Lock.DELETE, Lock.WRITE, Lock.LIST, Lock.READ])
times = st.integers(NOW - 12, NOW)


@st.composite
def contents(draw: st.DrawFn) -> RetainedContent:
    """Return a repository; a manifest refers only to later ones, as digests make it so."""
    present = draw(st.lists(st.sampled_from(DIGESTS), unique=True))
    manifests = [
        RetainedManifest(
            digest,
            draw(times),
            draw(st.none() | times),
            draw(st.none() | times),
            draw(st.none() | st.sampled_from([*present[index + 1 :], sha("0")])),
            tuple(draw(st.lists(st.sampled_from([*present[index + 1 :], sha("1")]), max_size=2))),
            draw(locks),
        )
        for index, digest in enumerate(present)
    ]
    names = draw(st.lists(st.sampled_from(NAMES), unique=True)) if present else []
    tags = [
        RetainedTag(name, draw(st.sampled_from(present)), draw(times), draw(locks))
        for name in names
    ]
    return RetainedContent(tags, manifests, draw(st.sampled_from([NOTHING] * 20 + [Lock.WRITE])))


@st.composite
def rule_sets(draw: st.DrawFn, unit: int = 1) -> RepositoryRules:
    """Return rules of a repository, whose durations are up to twelve times a `unit`."""
    durations = st.none() | st.integers(1, 12).map(lambda number: number * unit)
    patterns = st.sampled_from(["*", "pr-*", "v*", "v1", "sha256-*"]).map(TagPattern.parse)
    count = draw(st.integers(0, 3))
    retention = tuple(
        RetentionRule(
            source=f"rule {number}",
            tags=draw(patterns),
            keep_newest=draw(st.none() | st.integers(1, 3)),
            keep_pushed_within=draw(durations),
            keep_pulled_within=draw(durations),
        )
        for number in range(count)
    )
    after = draw(st.just(0) | durations)
    return RepositoryRules(
        immutable_tags=tuple(draw(st.lists(patterns, max_size=1))) if draw(st.booleans()) else (),
        retention=retention,
        untagged=None if after is None else untagged(after, since_push=draw(st.booleans())),
    )


@settings(max_examples=300, deadline=None)
@given(contents(), rule_sets())
def test_oracle(content: RetainedContent, rules: RepositoryRules) -> None:
    """The decision is what the documentation says, worked out in the most naive way."""
    found = decide(content, rules, NOW)
    assert found.tags.keys() == {item.name for item in content.tags}
    assert found.manifests.keys() == {item.digest for item in content.manifests}
    expected = removed(content, rules)
    event(f"tags go: {min(len(expected.tags), 3)}, manifests: {min(len(expected.manifests), 3)}")
    assert {name for name, verdict in found.tags.items() if verdict.goes} == expected.tags
    assert {name for name, verdict in found.manifests.items() if verdict.goes} == expected.manifests


@settings(max_examples=300, deadline=None)
@given(contents(), rule_sets())
def test_nothing_reachable_goes(content: RetainedContent, rules: RepositoryRules) -> None:
    """Nothing that a tag or a lock which stays reaches is removed."""
    found = decide(content, rules, NOW)
    manifests = {item.digest: item for item in content.manifests}
    reached = [item.digest for item in content.tags if not found.tags[item.name].goes]
    reached += [item.digest for item in content.manifests if item.locks & Lock.DELETE]
    seen: set[str] = set()
    while reached:
        digest = reached.pop()
        if digest not in manifests or digest in seen:
            continue
        seen.add(digest)
        assert not found.manifests[digest].goes
        reached += manifests[digest].children
        reached += [item.digest for item in content.manifests if item.subject == digest]
        reached += [item.subject for item in [manifests[digest]] if item.subject]
        for item in content.tags:
            if named_subject(item, content) == digest:
                assert not found.tags[item.name].goes
                reached.append(item.digest)
    for kept in content.manifests:
        if not found.manifests[kept.digest].goes:
            known = [child for child in kept.children if child in manifests]
            assert not any(found.manifests[child].goes for child in known)
