"""The rules file: retention, immutable tags and quotas by repository, in TOML.

[[repositories]]
match = "team/*"
immutable-tags = ["v*"]
quota = "50GiB"

[[repositories.retention]]
tags = "pr-*"
keep-newest = 10
keep-pushed-within = "30d"
keep-pulled-within = "14d"

[[repositories.untagged]]
delete-after = "7d"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from portside.files.tables import Step, TableFile
from portside.files.watched import LastGood, Note, WatchedFile
from portside.spec.patterns import PatternInvalid, RepositoryPattern, TagPattern
from portside.spec.quantities import QuantityInvalid, parse_duration, parse_size
from portside.spec.rules import NO_RULES, RetentionRule, Rules, RuleTable, UntaggedRule

NO_QUOTA = "none"

Parsed = TypeVar("Parsed")


class _Retention(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    tags: str
    keep_newest: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    keep_pushed_within: str | UnsetType = UNSET
    keep_pulled_within: str | UnsetType = UNSET


class _Untagged(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    delete_after: str


class _Repositories(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    match: str
    immutable_tags: list[str] | UnsetType = UNSET
    quota: str | UnsetType = UNSET
    retention: list[_Retention] | UnsetType = UNSET
    untagged: list[_Untagged] | UnsetType = UNSET


class _File(msgspec.Struct, forbid_unknown_fields=True):
    repositories: list[_Repositories] = []


def parse_rules_file(text: str, *, name: str) -> Rules:
    """Read a rules file; `name` is how messages call it.

    Raises FileInvalid.
    """
    return Rules(_RulesFile(text, _File, name=name).tables())


def watch_rules_file(
    path: str, last_good: LastGood | None = None, note: Note | None = None
) -> Callable[[], Rules]:
    """Return what returns the rules of a file as it is now; there is no file if the path is empty.

    Workers share `last_good`. `note` is told of each text that is used. Raises FileInvalid.
    """
    if not path:
        return lambda: NO_RULES
    file = WatchedFile(path, partial(parse_rules_file, name=path), last_good, note)
    return lambda: file.content


class _RulesFile(TableFile[_File]):
    """A rules file while it is read."""

    def tables(self) -> Iterator[RuleTable]:
        """Yield its tables; raises FileInvalid."""
        known: dict[str, int] = {}
        for index, table in enumerate(self.document.repositories):
            place = ("repositories", index)
            match = self._parse(RepositoryPattern.parse, table.match, *place, "match")
            if match in known:
                same = f"[[repositories]] {known[match]} has the same match; write one table"
                raise self.wrong(same, *place, "match")
            known[match] = index + 1
            yield RuleTable(
                match=match,
                immutable_tags=self._immutable_tags(table, *place),
                quota=self._quota(table, *place),
                retention=self._retention(table, *place),
                untagged=self._untagged(table, *place),
            )

    def _immutable_tags(self, table: _Repositories, *place: Step) -> tuple[TagPattern, ...] | None:
        if table.immutable_tags is UNSET:
            return None
        path = (*place, "immutable-tags")
        return tuple(self._parse(TagPattern.parse, tag, *path) for tag in table.immutable_tags)

    def _quota(self, table: _Repositories, *place: Step) -> int | None:
        if table.quota is UNSET:
            return None
        if table.quota == NO_QUOTA:
            return 0
        size = self._parse(parse_size, table.quota, *place, "quota")
        if not size:
            raise self.wrong(f'must be above 0, or "{NO_QUOTA}"', *place, "quota")
        return size

    def _retention(self, table: _Repositories, *place: Step) -> tuple[RetentionRule, ...] | None:
        if table.retention is UNSET:
            return None
        return tuple(
            self._retention_rule(rule, *place, "retention", index)
            for index, rule in enumerate(table.retention)
        )

    def _retention_rule(self, rule: _Retention, *place: Step) -> RetentionRule:
        found = RetentionRule(
            source=self.source(*place),
            tags=self._parse(TagPattern.parse, rule.tags, *place, "tags"),
            keep_newest=None if rule.keep_newest is UNSET else rule.keep_newest,
            keep_pushed_within=self._within(rule.keep_pushed_within, *place, "keep-pushed-within"),
            keep_pulled_within=self._within(rule.keep_pulled_within, *place, "keep-pulled-within"),
        )
        if found.keep_newest is found.keep_pushed_within is found.keep_pulled_within is None:
            nothing = (
                "the rule would delete every tag that it matches; set keep-newest,"
                " keep-pushed-within or keep-pulled-within"
            )
            raise self.wrong(nothing, *place)
        return found

    def _within(self, text: str | UnsetType, *place: Step) -> int | None:
        if text is UNSET:
            return None
        duration = self._parse(parse_duration, text, *place)
        if not duration:
            raise self.wrong("must be longer than 0", *place)
        return duration

    def _untagged(self, table: _Repositories, *place: Step) -> tuple[UntaggedRule, ...] | None:
        if table.untagged is UNSET:
            return None
        if len(table.untagged) > 1:
            second = "a table can have one [[repositories.untagged]] only"
            raise self.wrong(second, *place, "untagged", 1)
        return tuple(
            UntaggedRule(
                source=self.source(*place, "untagged", index),
                delete_after=self._parse(
                    parse_duration, rule.delete_after, *place, "untagged", index, "delete-after"
                ),
            )
            for index, rule in enumerate(table.untagged)
        )

    def _parse(self, parse: Callable[[str], Parsed], text: str, *place: Step) -> Parsed:
        """Return a parsed value; raises FileInvalid."""
        try:
            return parse(text)
        except (PatternInvalid, QuantityInvalid) as error:
            raise self.wrong(str(error), *place) from error
