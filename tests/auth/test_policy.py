"""The policy: the most specific rule decides, and nothing but rules gives anything."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from portside.auth import policy as policy_module
from portside.auth.grants import EVERY_REPOSITORY, Caller, Grants, grant
from portside.auth.identities import ANONYMOUS, Identity
from portside.auth.policy import Policy, Rule, Subjects, scope_map_rules
from portside.spec.actions import ALL, REPOSITORY_ACTIONS, Action, Actions
from portside.spec.errors import NameInvalid
from portside.spec.names import RepositoryName
from portside.spec.patterns import RepositoryPattern
from portside.spec.scopes import CATALOG_SCOPE, REPOSITORY, Scope
from portside.stores.access import IdentityKind, ScopeMap, ScopeRule

NAMES = ("a", "a/b", "a/b/c", "a/bc", "ab", "b", "team/app", "team/app2")
PATTERNS = tuple(
    sorted({*NAMES, "*", *(name[:length] + "*" for name in NAMES for length in range(1, 7))})
)
PEOPLE = ("ann", "bob", "ci:robot")
GROUPS = ("devs", "ops")

subjects = st.one_of(
    st.just((Subjects.EVERYONE, "")),
    st.just((Subjects.USERS, "")),
    st.tuples(st.just(Subjects.GROUP), st.sampled_from(GROUPS)),
    st.tuples(st.just(Subjects.IDENTITY), st.sampled_from(PEOPLE)),
)
some_actions: st.SearchStrategy[Actions] = st.frozensets(
    st.sampled_from(REPOSITORY_ACTIONS), min_size=1
)
patterns = st.sampled_from(PATTERNS).map(RepositoryPattern.parse)


def rule(
    who: tuple[Subjects, str], pattern: str, actions: Actions = ALL, *, allows: bool = True
) -> Rule:
    """Make a rule."""
    return Rule("test", who[0], who[1], RepositoryPattern(pattern), actions, allows)


def scope_map(found: list[ScopeRule]) -> ScopeMap:
    """Make a scope map of rules."""
    return ScopeMap("test", 1, rules=tuple(found))


rules = st.builds(rule, subjects, patterns, some_actions, allows=st.booleans())
rule_lists = st.lists(rules, max_size=8)
tokens = st.builds(
    lambda groups, found: Identity("ann", IdentityKind.TOKEN, groups, scope_map(found)),
    st.frozensets(st.sampled_from(GROUPS)),
    st.lists(st.builds(ScopeRule, patterns, some_actions), max_size=3),
)
identities = st.one_of(
    st.just(ANONYMOUS),
    tokens,
    st.builds(
        Identity,
        st.sampled_from(PEOPLE),
        st.sampled_from([IdentityKind.USER, IdentityKind.FOREIGN]),
        st.frozensets(st.sampled_from(GROUPS)),
    ),
)
actions_ = st.sampled_from(REPOSITORY_ACTIONS)
scopes = st.one_of(
    st.just(CATALOG_SCOPE),
    st.builds(
        Scope,
        st.just(REPOSITORY),
        st.sampled_from([*NAMES, EVERY_REPOSITORY, "Not/A/Name", "a//b"]),
        some_actions,
    ),
)
limits = st.one_of(
    st.none(),
    st.builds(
        Grants,
        st.dictionaries(st.sampled_from([*NAMES, EVERY_REPOSITORY]), some_actions, max_size=3),
        st.booleans(),
    ),
)


def everything(policy: Policy, identity: Identity) -> dict[tuple[str, Action], bool]:
    """Ask for every decision about an identity."""
    return {
        (name, action): policy.decide(identity, action, name).allowed
        for name in NAMES
        for action in REPOSITORY_ACTIONS
    }


def concerns(found: Rule, identity: Identity) -> bool:
    """Say again, in other words, whom a rule is about."""
    if found.subjects is Subjects.EVERYONE:
        return True
    if identity.kind is IdentityKind.ANONYMOUS:
        return False
    if found.subjects is Subjects.USERS:
        return identity.kind is IdentityKind.USER or not found.allows
    return found.who in ({identity.name} if found.subjects is Subjects.IDENTITY else GROUPS) and (
        found.subjects is Subjects.IDENTITY or found.who in identity.groups
    )


class TestDecisions:
    """Which rule decides."""

    @given(rule_lists, identities, actions_, st.sampled_from(NAMES))
    def test_model(self, found: list[Rule], identity: Identity, action: Action, name: str) -> None:
        """Decisions are those of the sentence: longest pattern, then nearest subject, then no."""
        best: tuple[int, int, int] | None = None
        for candidate in (*found, *scope_map_rules(identity)):
            text = str(candidate.pattern)
            start = text.removesuffix("*")
            meant = name == text if start == text else name != start and name.startswith(start)
            if meant and action in candidate.actions and concerns(candidate, identity):
                length = 1000 if start == text else len(text)
                key = (length, int(candidate.subjects), int(not candidate.allows))
                best = max(best or key, key)
        expected = best is not None and best[2] == 0
        assert Policy(found).decide(identity, action, name).allowed is expected

    @given(rule_lists, identities, subjects, some_actions, st.booleans(), st.sampled_from(NAMES))
    def test_one_exact_rule_more(
        self,
        found: list[Rule],
        identity: Identity,
        who: tuple[Subjects, str],
        actions: Actions,
        allows: bool,
        name: str,
    ) -> None:
        """A rule for one repository changes no decision about another one."""
        before = everything(Policy(found), identity)
        more = [*found, rule(who, name, actions, allows=allows)]
        after = everything(Policy(more), identity)
        changed = {key[0] for key, allowed in before.items() if after[key] is not allowed}
        assert changed <= {name}

    @given(rule_lists, identities, st.randoms(use_true_random=False))
    def test_order(self, found: list[Rule], identity: Identity, random: st.DataObject) -> None:
        """The order of the rules means nothing."""
        shuffled = list(found)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert everything(Policy(shuffled), identity) == everything(Policy(found), identity)

    @given(
        rule_lists,
        identities.filter(lambda identity: identity.kind is not IdentityKind.USER),
        patterns,
        some_actions,
    )
    def test_tokens_and_every_user(
        self, found: list[Rule], token: Identity, pattern: RepositoryPattern, actions: Actions
    ) -> None:
        """What every user may, no token may, own or foreign; what no user may, none may either."""
        before = everything(Policy(found), token)
        may = rule((Subjects.USERS, ""), pattern, actions)
        assert everything(Policy([*found, may]), token) == before
        may_not = rule((Subjects.USERS, ""), pattern, actions, allows=False)
        after = everything(Policy([*found, may_not]), token)
        assert all(before[key] for key, allowed in after.items() if allowed)

    @given(rule_lists, identities, subjects, patterns, some_actions)
    def test_a_denial_gives_nothing(
        self,
        found: list[Rule],
        identity: Identity,
        who: tuple[Subjects, str],
        pattern: RepositoryPattern,
        actions: Actions,
    ) -> None:
        """A rule that denies never allows anything that was not."""
        before = everything(Policy(found), identity)
        denied = [*found, rule(who, pattern, actions, allows=False)]
        after = everything(Policy(denied), identity)
        assert all(before[key] for key, allowed in after.items() if allowed)

    @given(rules, identities)
    def test_equal_rank(self, found: Rule, whoever: Identity) -> None:
        """Where one rule allows what another of the same rank denies, it is denied."""
        identity = replace(whoever, scope_map=None)
        opposite = rule(
            (found.subjects, found.who), found.pattern, found.actions, allows=not found.allows
        )
        decisions = everything(Policy([found, opposite]), identity)
        about = {
            key: allowed
            for key, allowed in decisions.items()
            if found.pattern.matches(key[0]) and key[1] in found.actions
        }
        assert not any(about.values())

    @given(st.sampled_from(PATTERNS), st.sampled_from(PATTERNS), subjects, subjects, st.booleans())
    def test_nested(
        self,
        one: str,
        other: str,
        who: tuple[Subjects, str],
        whom: tuple[Subjects, str],
        allows: bool,
    ) -> None:
        """Of two patterns that match a name the longer one decides, whomever it names."""
        short, long = (one, other) if len(one) < len(other) else (other, one)
        assume(len(short) < len(long) and "*" in short)
        identity = Identity("ann", IdentityKind.USER, frozenset(GROUPS))
        policy = Policy([rule(who, short, allows=not allows), rule(whom, long, allows=allows)])
        about = concerns(rule(whom, long, allows=allows), identity)
        for name in filter(RepositoryPattern(long).matches, NAMES):
            if about:
                assert policy.decide(identity, Action.PULL, name).allowed is allows

    def test_exact_before_longest(self) -> None:
        """A name decides before the start of one, however long that is."""
        policy = Policy(
            [
                rule((Subjects.EVERYONE, ""), "a/b", allows=False),
                rule((Subjects.IDENTITY, "ann"), "a/*"),
            ]
        )
        ann = Identity("ann", IdentityKind.USER)
        assert not policy.allows(ann, Action.PULL, "a/b")
        assert policy.allows(ann, Action.PULL, "a/bc")

    def test_nothing(self) -> None:
        """What no rule is about is denied, and no rule is blamed."""
        decision = Policy([]).decide(Identity("ann", IdentityKind.USER), Action.PULL, "a")
        assert (decision.allowed, decision.rule, decision.others) == (False, None, ())

    def test_explanation(self) -> None:
        """A decision names its rule first, and all the others that were about the same."""
        broad = rule((Subjects.USERS, ""), "*")
        narrow = rule((Subjects.GROUP, "devs"), "a/*", frozenset({Action.PUSH}), allows=False)
        elsewhere = rule((Subjects.USERS, ""), "b")
        ann = Identity("ann", IdentityKind.USER, frozenset({"devs"}))
        decision = Policy([broad, narrow, elsewhere]).decide(ann, Action.PUSH, "a/b")
        assert (decision.allowed, decision.rule, decision.others) == (False, narrow, (broad,))
        assert str(narrow) == "test denies group devs push in a/*"

    def test_anonymous_has_no_name(self) -> None:
        """A rule for an identity whose name is empty is not about those who send nothing."""
        for who in ((Subjects.IDENTITY, ""), (Subjects.USERS, ""), (Subjects.GROUP, "")):
            assert not Policy([rule(who, "*")]).allows(ANONYMOUS, Action.PULL, "a")

    @given(rule_lists, st.lists(st.tuples(identities, actions_, st.sampled_from(NAMES))))
    def test_remembering(
        self, found: list[Rule], questions: list[tuple[Identity, Action, str]]
    ) -> None:
        """What is remembered of decisions is what was decided, also when memory is full."""
        policy = Policy(found)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(policy_module, "MAX_REMEMBERED", 2)
            for question in [*questions, *questions]:
                assert policy.allows(*question) is policy.decide(*question).allowed

    @given(rule_lists, identities, st.sampled_from(NAMES))
    def test_sight(self, found: list[Rule], identity: Identity, name: str) -> None:
        """A repository is shown to those who may read its content or its metadata."""
        policy = Policy(found)
        decisions = everything(policy, identity)
        seen = decisions[name, Action.PULL] or decisions[name, Action.METADATA_READ]
        shown = policy.shown_to(identity)
        assert any(part.start <= name < part.stop for part in shown) is seen
        assert all(before.stop < after.start for before, after in itertools.pairwise(shown))

    @pytest.mark.parametrize("action", REPOSITORY_ACTIONS)
    def test_sight_of_a_token(self, action: Action) -> None:
        """A token is shown what its scope map lets it read, where no rule names it."""
        found = ScopeRule(RepositoryPattern("team/*"), frozenset({action}))
        robot = Identity("robot", IdentityKind.TOKEN, scope_map=scope_map([found]))
        reads = action in (Action.PULL, Action.METADATA_READ)
        shown = Policy([]).shown_to(robot)
        assert shown == ((found.pattern.names,) if reads else ())

    @given(rule_lists)
    def test_admits_anonymous(self, found: list[Rule]) -> None:
        """A policy that does not know the anonymous allows them nothing."""
        policy = Policy(found)
        if not policy.admits_anonymous:
            assert not any(everything(policy, ANONYMOUS).values())


component = st.from_regex(r"[a-z0-9]{1,5}([._-][a-z0-9]{1,5})?", fullmatch=True)
repository_names = st.lists(component, min_size=1, max_size=4).map("/".join)
SPELLINGS = (
    str.upper,
    str.title,
    lambda name: f"/{name}",
    lambda name: f"{name}/",
    lambda name: f"./{name}",
    lambda name: f"x/../{name}",
    lambda name: f"{name}/.",
    lambda name: f"{name}/..",
    lambda name: f" {name}",
    lambda name: f"{name}\n",
    lambda name: f"{name}\0",
    lambda name: f"{name}%00",
    lambda name: f"{name};a",
    lambda name: f"{name}?a",
    lambda name: f"{name}#a",
    lambda name: name.replace("/", "//"),
    lambda name: name.replace("/", "\\"),
    lambda name: name.replace("/", "%2f"),
    lambda name: name.replace("/", "%252F"),
    lambda name: name.replace("/", "\u2215"),
    lambda name: name.replace("/", "/./"),
    lambda name: "".join(f"%{ord(letter):02x}" for letter in name),
    lambda name: "".join(chr(ord(letter) + 0xFEE0) for letter in name),
    lambda name: name[0] + "\u0301" + name[1:],
    lambda name: name[0] + "\u200b" + name[1:],
)


class TestSpelling:
    """One repository has one spelling."""

    @given(repository_names, st.sampled_from(SPELLINGS))
    @example("team/secret", str.upper)
    def test_other_spellings(self, name: str, spell: object) -> None:
        """What could be taken for another spelling of a name is that name or none at all."""
        assert callable(spell)
        text = spell(name)
        try:
            parsed = RepositoryName.parse(text)
        except NameInvalid:
            return
        assert parsed == text == name

    @given(st.text(max_size=20))
    def test_nothing_is_changed(self, text: str) -> None:
        """A name is decided on as it was written: reading one changes no character."""
        try:
            assert RepositoryName.parse(text) == text
        except NameInvalid:
            return

    @given(rule_lists, identities, actions_, st.sampled_from(NAMES), st.sampled_from(SPELLINGS))
    def test_denied_stays_denied(
        self, found: list[Rule], identity: Identity, action: Action, name: str, spell: object
    ) -> None:
        """An action that is denied is denied in every spelling that is accepted."""
        policy = Policy(found)
        assume(not policy.allows(identity, action, name))
        assert callable(spell)
        try:
            spelled = RepositoryName.parse(spell(name))
        except NameInvalid:
            return
        assert not policy.allows(identity, action, spelled)


class TestGranting:
    """What goes into a token."""

    @given(rule_lists, identities, limits, st.lists(scopes, max_size=4))
    def test_never_more(
        self, found: list[Rule], identity: Identity, limit: Grants | None, asked: list[Scope]
    ) -> None:
        """A token never gives more than is asked for, allowed, or covered by the credentials."""
        policy = Policy(found)
        grants = grant(policy, Caller(identity, limit), asked)
        wanted = Grants.from_claim(
            [
                {"type": scope.type, "name": scope.name, "actions": list(scope.actions)}
                for scope in asked
            ]
        )
        for name, action in itertools.product(NAMES, REPOSITORY_ACTIONS):
            if grants.cover(action, name):
                assert wanted.cover(action, name)
                assert limit is None or limit.cover(action, name)
        for name, actions in grants.repositories.items():
            assert name == EVERY_REPOSITORY or name in NAMES
            for action in actions:
                assert policy.allows(identity, action, name)
                rules = (*found, *scope_map_rules(identity))
                wide = [rule for rule in rules if rule.allows and rule.pattern == "*"]
                assert name != EVERY_REPOSITORY or any(action in rule.actions for rule in wide)
        if grants.catalog:
            assert CATALOG_SCOPE in asked
            assert limit is None or limit.catalog
            assert identity != ANONYMOUS or policy.admits_anonymous

    @given(rule_lists, identities, st.lists(scopes, max_size=4))
    def test_never_less(self, found: list[Rule], identity: Identity, asked: list[Scope]) -> None:
        """What is asked for and allowed is given."""
        policy = Policy(found)
        grants = grant(policy, Caller(identity), asked)
        for scope in asked:
            if scope.name in NAMES:
                for action in scope.actions:
                    covered = grants.cover(action, scope.name)
                    assert covered or not policy.allows(identity, action, scope.name)

    @given(rule_lists, identities, limits, st.lists(scopes, max_size=4))
    def test_again(
        self, found: list[Rule], identity: Identity, limit: Grants | None, asked: list[Scope]
    ) -> None:
        """With a token nobody gets a better one."""
        policy = Policy(found)
        first = grant(policy, Caller(identity, limit), asked)
        everywhere = [Scope(REPOSITORY, name, ALL) for name in (*NAMES, EVERY_REPOSITORY)]
        second = grant(policy, Caller(identity, first), [*everywhere, CATALOG_SCOPE])
        for name, action in itertools.product(NAMES, REPOSITORY_ACTIONS):
            assert first.cover(action, name) or not second.cover(action, name)
        assert first.catalog or not second.catalog

    @given(limits)
    def test_claim(self, grants: Grants | None) -> None:
        """Grants are read from a token as they were written."""
        if grants is not None:
            assert Grants.from_claim(grants.claim()) == grants

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.sampled_from(["type", "repository", "registry", "catalog", "*", "pull", "a"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["type", "name", "actions"]), inner, max_size=3)
            ),
        )
    )
    def test_any_claim(self, claim: object) -> None:
        """A claim of any shape is read, and gives nothing but what it says."""
        grants = Grants.from_claim(claim)
        for name in (*NAMES, "zzz"):
            if any(grants.cover(action, name) for action in REPOSITORY_ACTIONS):
                assert isinstance(claim, list)


@pytest.mark.parametrize("allows", [True, False])
@pytest.mark.parametrize("kind", IdentityKind)
def test_whom_a_rule_for_every_user_concerns(kind: IdentityKind, *, allows: bool) -> None:
    """Such a rule allows something to users alone, and denies it to all but anonymous clients."""
    rule = Rule("rule", Subjects.USERS, "", RepositoryPattern("*"), ALL, allows)
    identity = Identity("" if kind is IdentityKind.ANONYMOUS else "x", kind)
    users = {IdentityKind.USER}
    denied = users | {IdentityKind.TOKEN, IdentityKind.FOREIGN}
    assert rule.concerns(identity) is (kind in (users if allows else denied))
