"""Rules: one sentence each of who may do what where."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from portside.spec.actions import Action, Actions, ordered
from portside.spec.patterns import RepositoryPattern


class Subjects(enum.IntEnum):
    """Whom a rule is about; a larger number is more specific."""

    EVERYONE = 0
    USERS = 1
    GROUP = 2
    IDENTITY = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """Some actions that somebody is allowed, or denied, in some repositories.

    `source` tells a person where the rule stands. `who` names the group or the identity.
    """

    source: str
    subjects: Subjects
    who: str
    pattern: RepositoryPattern
    actions: Actions
    allows: bool = True

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Order rules that match: the repository counts first, then the identity, then denial."""
        return (self.pattern.specificity, self.subjects, not self.allows)

    def __str__(self) -> str:
        """Write the rule as a sentence."""
        whom = {
            Subjects.EVERYONE: "everyone",
            Subjects.USERS: "every user",
            Subjects.GROUP: f"group {self.who}",
            Subjects.IDENTITY: self.who,
        }[self.subjects]
        verb = "allows" if self.allows else "denies"
        actions = ", ".join(ordered(self.actions))
        return f"{self.source} {verb} {whom} {actions} in {self.pattern}"


def may_use(rule: Rule, action: Action, repository: str) -> bool:
    """Tell whether a rule speaks of an action in a repository, whoever asks."""
    return action in rule.actions and rule.pattern.matches(repository)
