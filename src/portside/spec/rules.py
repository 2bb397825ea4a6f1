"""Rules of content: how long a repository keeps what, and what cannot change in it.

A registry has a table of rules for each pattern of repositories. Each of its parts (immutable tags,
quota, retention, untagged manifests) is decided by itself: by the most specific table that matches
the repository and has that part. Times are in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from portside.spec.patterns import RepositoryPattern, TagPattern
from portside.spec.webhooks import Webhook

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """Which of the tags that a pattern matches stay; the others are deleted.

    A tag stays if it is one of the `keep_newest` that were pushed last, or was pushed or pulled
    within a time. What is None keeps nothing. `source` tells a person where the rule was written.
    """

    source: str
    tags: TagPattern
    keep_newest: int | None = None
    keep_pushed_within: int | None = None
    keep_pulled_within: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UntaggedRule:
    """When a manifest without tags is deleted: `delete_after` it lost its last tag.

    With `since_push`, the time counts from its last push instead.
    """

    source: str
    delete_after: int
    since_push: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRules:
    """The rules of one repository; `quota` is in bytes, and None if there is none.

    Without an `untagged` rule, manifests without tags stay.
    """

    immutable_tags: tuple[TagPattern, ...] = ()
    quota: int | None = None
    retention: tuple[RetentionRule, ...] = ()
    untagged: UntaggedRule | None = None

    def is_immutable(self, tag: str) -> bool:
        """Whether a tag can be neither moved nor deleted."""
        return any(pattern.matches(tag) for pattern in self.immutable_tags)

    def heed_pulls(self, tag: str) -> bool:
        """Whether a tag may stay because its manifest was pulled."""
        return any(
            rule.keep_pulled_within is not None and rule.tags.matches(tag)
            for rule in self.retention
        )

    @property
    def deletes(self) -> bool:
        """Whether anything can be deleted by the rules."""
        return bool(self.retention or self.untagged)


_NOTHING = RepositoryRules()
"""The rules of a repository that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTable:
    """One `[[repositories]]` table; a part that is None is left to less specific tables.

    `quota` is 0 where the table says that there is none; `untagged` is empty where it says that
    manifests without tags stay.
    """

    match: RepositoryPattern
    immutable_tags: tuple[TagPattern, ...] | None = None
    quota: int | None = None
    retention: tuple[RetentionRule, ...] | None = None
    untagged: tuple[UntaggedRule, ...] | None = None


class Rules:
    """The rules of all repositories, and the webhooks, which are told of what happens in them."""

    def __init__(self, tables: Iterable[RuleTable] = (), webhooks: Iterable[Webhook] = ()) -> None:
        self.tables = tuple(sorted(tables, key=lambda table: table.match.specificity, reverse=True))
        self.webhooks = tuple(webhooks)

    def of(self, repository: str) -> RepositoryRules:
        """Return the rules of a repository."""
        if not self.tables:
            return _NOTHING
        found = [table for table in self.tables if table.match.matches(repository)]
        untagged = _first(table.untagged for table in found)
        return RepositoryRules(
            immutable_tags=_first(table.immutable_tags for table in found) or (),
            quota=_first(table.quota for table in found) or None,
            retention=_first(table.retention for table in found) or (),
            untagged=untagged[0] if untagged else None,
        )

    @property
    def delete(self) -> bool:
        """Whether the rules of any repository delete anything."""
        return any(table.retention or table.untagged for table in self.tables)

    @property
    def heed_pulls(self) -> bool:
        """Whether any rule keeps tags because their manifests were pulled."""
        rules = [rule for table in self.tables for rule in table.retention or ()]
        return any(rule.keep_pulled_within is not None for rule in rules)


NO_RULES = Rules()
"""Where there is no rules file, everything stays and everything can change."""


def _first(parts: Iterable[Part | None]) -> Part | None:
    """Return the part of the most specific table that has it."""
    return next((part for part in parts if part is not None), None)
