"""The policy: of all rules that are about a request, the most specific one decides.

What is compared first is the repository (a name before the start of one, a longer start before a
shorter one), then the identity (one that is named, then a group, then every user, then everyone);
where both are equal, denial wins. The order of the rules means nothing. What no rule is about is
denied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portside.auth.identities import Identity, Kind
from portside.auth.rules import Rule, Subjects, may_use
from portside.spec.actions import Action

MAX_REMEMBERED = 20_000
"""Decisions. Each costs about 300 bytes; all are forgotten when there are more."""

SIGHT = (Action.PULL, Action.METADATA_READ)
"""Whoever may do one of these in a repository may know that it is there."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, by which rule, and which other rules were about it too."""

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

    @property
    def knows_anonymous(self) -> bool:
        """Tell whether anything at all is allowed to those who send no credentials."""
        return any(rule.subjects is Subjects.EVERYONE and rule.allows for rule in self.rules)

    def allows(self, identity: Identity, action: Action, repository: str) -> bool:
        """Decide, and remember; the rules never change, so that the decision does not either."""
        key = (identity, action, repository)
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = self.decide(identity, action, repository).allowed
        return found

    def decide(self, identity: Identity, action: Action, repository: str) -> Decision:
        """Find the rule that decides, and all that were about the same."""
        candidates = (
            *self._exact.get(repository, ()),
            *self._prefixed,
            *identity.rules,
        )
        matching = sorted(
            (
                rule
                for rule in candidates
                if may_use(rule, action, repository) and _is_about(rule, identity)
            ),
            key=lambda rule: rule.rank,
            reverse=True,
        )
        if not matching:
            return Decision(allowed=False, rule=None)
        return Decision(matching[0].allows, matching[0], tuple(matching[1:]))

    def shows(self, identity: Identity, repository: str) -> bool:
        """Tell whether an identity may know that a repository is there."""
        return any(self.allows(identity, action, repository) for action in SIGHT)


def _is_about(rule: Rule, identity: Identity) -> bool:
    match rule.subjects:
        case Subjects.EVERYONE:
            return True
        case Subjects.USERS:
            # What every user may is meant for people of this registry: a token may do what its
            # scope map lists, and whoever a trusted issuer vouches for what names him.
            return identity.kind is Kind.USER or not (rule.allows or identity.is_anonymous)
        case Subjects.GROUP:
            return rule.who in identity.groups
        case Subjects.IDENTITY:
            return not identity.is_anonymous and rule.who == identity.name
