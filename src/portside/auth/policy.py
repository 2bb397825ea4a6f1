"""The policy: of all rules that match a request, the most specific one decides.

The repository is compared first (a name before a prefix, a longer prefix before a shorter one),
then the identity (a named one, then a group, then every user, then everyone). If both are equal, a
rule that denies wins. The order of the rules has no meaning. A request that no rule matches is
denied.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from portside.auth.identities import Identity
from portside.spec.actions import ALL, Action, Actions, ordered
from portside.spec.patterns import NameRange, RepositoryPattern
from portside.stores.access import IdentityKind

MAX_REMEMBERED = 20_000
"""Decisions. Each takes about 300 bytes; when there are more, all are forgotten."""

READ_ACTIONS = (Action.PULL, Action.METADATA_READ)
"""An identity that may do one of these in a repository may know that the repository exists."""


class Subjects(enum.IntEnum):
    """Whom a rule applies to; a larger number is more specific."""

    EVERYONE = 0
    USERS = 1
    GROUP = 2
    IDENTITY = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows or denies some actions in some repositories to some identities.

    `source` tells a person where the rule was written. `who` names the group or the identity.
    """

    source: str
    subjects: Subjects
    who: str
    pattern: RepositoryPattern
    actions: Actions
    allows: bool = True

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Order of matching rules: the repository first, then the identity, then denial."""
        return (self.pattern.specificity, self.subjects, not self.allows)

    def matches(self, identity: Identity, action: Action, repository: str) -> bool:
        """Whether the rule applies to an identity, an action and a repository."""
        return (
            action in self.actions and self.pattern.matches(repository) and self.concerns(identity)
        )

    def concerns(self, identity: Identity) -> bool:
        """Whether the rule applies to an identity in some repository."""
        match self.subjects:
            case Subjects.EVERYONE:
                return True
            case Subjects.USERS:
                # What every user may do is meant for people of this registry. A token may do what
                # its scope map lists; an identity of a trusted issuer has to be named.
                is_user = identity.kind is IdentityKind.USER
                return is_user or not (self.allows or identity.is_anonymous)
            case Subjects.GROUP:
                return self.who in identity.groups
            case Subjects.IDENTITY:
                return not identity.is_anonymous and self.who == identity.name

    def __str__(self) -> str:
        """Return the rule as a sentence."""
        whom = {
            Subjects.EVERYONE: "everyone",
            Subjects.USERS: "every user",
            Subjects.GROUP: f"group {self.who}",
            Subjects.IDENTITY: self.who,
        }[self.subjects]
        verb = "allows" if self.allows else "denies"
        actions = ", ".join(ordered(self.actions))
        return f"{self.source} {verb} {whom} {actions} in {self.pattern}"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is allowed, the rule that decides, and the other rules that match."""

    allowed: bool
    rule: Rule | None
    others: tuple[Rule, ...] = ()


class Policy:
    """A set of rules, looked up by repository."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._exact: dict[str, list[Rule]] = {}
        self._prefixed: list[Rule] = []
        for rule in self.rules:
            if rule.pattern.is_exact:
                self._exact.setdefault(str(rule.pattern), []).append(rule)
            else:
                self._prefixed.append(rule)
        self._remembered: dict[tuple[Identity, Action, str], bool] = {}
        self._shown: dict[Identity, tuple[NameRange, ...]] = {}

    @property
    def admits_anonymous(self) -> bool:
        """Whether any rule allows something to requests without credentials."""
        return any(rule.subjects is Subjects.EVERYONE and rule.allows for rule in self.rules)

    def allows(self, identity: Identity, action: Action, repository: str) -> bool:
        """Whether an action is allowed; decisions are remembered, as the rules never change."""
        key = (identity, action, repository)
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = self.decide(identity, action, repository).allowed
        return found

    def decide(self, identity: Identity, action: Action, repository: str) -> Decision:
        """Return the decision on an action, with all rules that match."""
        candidates = (
            *self._exact.get(repository, ()),
            *self._prefixed,
            *scope_map_rules(identity),
        )
        matching = sorted(
            (rule for rule in candidates if rule.matches(identity, action, repository)),
            key=lambda rule: rule.rank,
            reverse=True,
        )
        if not matching:
            return Decision(allowed=False, rule=None)
        return Decision(matching[0].allows, matching[0], tuple(matching[1:]))

    def shown_to(self, identity: Identity) -> tuple[NameRange, ...]:
        """Return the names that an identity may know of, as ranges in order that do not touch."""
        found = self._shown.get(identity)
        if found is None:
            if len(self._shown) >= MAX_REMEMBERED:
                self._shown.clear()
            found = self._shown[identity] = tuple(self._find_shown(identity))
        return found

    def _find_shown(self, identity: Identity) -> Iterator[NameRange]:
        """Go through the names at which the rules that match change."""
        begin: dict[str, list[Rule]] = {}
        end: dict[str, list[Rule]] = {}
        for rule in (*self.rules, *scope_map_rules(identity)):
            if rule.concerns(identity):
                begin.setdefault(rule.pattern.names.start, []).append(rule)
                end.setdefault(rule.pattern.names.stop, []).append(rule)
        matching: set[Rule] = set()
        start: str | None = None
        for name in sorted({*begin, *end}):
            matching.difference_update(end.get(name, ()))
            matching.update(begin.get(name, ()))
            is_shown = any(_allow(matching, action) for action in READ_ACTIONS)
            if is_shown and start is None:
                start = name
            elif start is not None and not is_shown:
                yield NameRange(start, name)
                start = None


def _allow(matching: Iterable[Rule], action: Action) -> bool:
    """Whether the most specific of the rules that match a repository allows an action there."""
    concerned = (rule for rule in matching if action in rule.actions)
    decisive = max(concerned, key=lambda rule: rule.rank, default=None)
    return decisive is not None and decisive.allows


def scope_map_rules(identity: Identity) -> tuple[Rule, ...]:
    """Return the rules of an identity's scope map, which apply to that identity alone."""
    scope_map = identity.scope_map
    if scope_map is None:
        return ()
    source = f"scope map {scope_map.name}"
    return tuple(
        Rule(source, Subjects.IDENTITY, identity.name, rule.pattern, rule.actions)
        for rule in scope_map.rules
    )


OPEN_POLICY = Policy(
    [Rule("the open registry", Subjects.EVERYONE, "", RepositoryPattern("*"), ALL)]
)
"""The policy of a registry without access control."""
