"""The rules file, in TOML: retention, immutable tags and quotas by repository; and webhooks.

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

[[webhook]]
name = "deploy"
url = "https://deploy.example/hook"
secret-file = "deploy.secret"
actions = ["tag.set"]
repositories = ["team/*"]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from portside.config.addresses import is_url
from portside.files.tables import Step, TableFile
from portside.files.watched import LastGood, Note, WatchedFile
from portside.spec.patterns import PatternInvalid, RepositoryPattern, TagPattern
from portside.spec.quantities import QuantityInvalid, parse_duration, parse_size
from portside.spec.rules import NO_RULES, RetentionRule, Rules, RuleTable, UntaggedRule
from portside.spec.webhooks import EXPRESSED, Format, SecretSource, Webhook, covers
from portside.stores.events import ACTIONS, EventAction

NO_QUOTA = "none"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

URL_MOST = 2048
"""Characters of the URL of a receiver: what servers and proxies read for certain."""

SETTINGS = "PORTSIDE_"
"""What the variables of settings begin with; a server does not start with others of that kind."""

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


class _Webhook(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    name: str
    url: str
    secret_file: str | UnsetType = UNSET
    secret_env: str | UnsetType = UNSET
    actions: list[str] | UnsetType = UNSET
    repositories: list[str] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    format: str = Format.CLOUDEVENTS
    allow_private: bool = False


class _File(msgspec.Struct, forbid_unknown_fields=True):
    repositories: list[_Repositories] = []
    webhook: list[_Webhook] = []


def parse_rules_file(text: str, *, name: str) -> Rules:
    """Read a rules file; `name` is its path, and how messages call it.

    Raises FileInvalid.
    """
    file = _RulesFile(text, _File, name=name)
    return Rules(file.tables(), file.webhooks(Path(name).parent))


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

    def webhooks(self, directory: Path) -> Iterator[Webhook]:
        """Yield its webhooks, whose files are in a directory unless they have a whole path.

        Raises FileInvalid.
        """
        known: dict[str, int] = {}
        for index, table in enumerate(self.document.webhook):
            place = ("webhook", index)
            self._check_name(table.name, known, *place)
            known[table.name] = index + 1
            if not is_url(table.url, has_query=True) or len(table.url) > URL_MOST:
                # The URL of a receiver can hold a secret.
                shape = (
                    "must be a URL such as https://deploy.example/hook, in ASCII, without a user"
                    f" or fragment, and with at most {URL_MOST} characters"
                )
                raise self.wrong(shape, *place, "url")
            yield Webhook(
                name=table.name,
                url=table.url,
                secret=self._secret(table, directory, *place),
                actions=self._actions(table, *place),
                repositories=self._patterns(
                    RepositoryPattern.parse, table.repositories, *place, "repositories"
                ),
                tags=self._patterns(TagPattern.parse, table.tags, *place, "tags"),
                format=self._format(table, *place),
                allow_private=table.allow_private,
            )

    def _check_name(self, name: str, known: dict[str, int], *place: Step) -> None:
        if not _NAME.fullmatch(name):
            shape = "use up to 63 small letters, digits, dots, hyphens and underscores"
            raise self.wrong(f"invalid name {name[:80]!r}: {shape}", *place, "name")
        if name in known:
            same = f"[[webhook]] {known[name]} has the same name"
            raise self.wrong(same, *place, "name")

    def _secret(self, table: _Webhook, directory: Path, *place: Step) -> SecretSource:
        if table.secret_env is UNSET:
            file = table.secret_file
            if file is UNSET:
                return SecretSource()
            if not file:
                raise self.wrong("must be the path of a file", *place, "secret-file")
            return SecretSource(file=str(directory / file))
        if table.secret_file is not UNSET:
            raise self.wrong("set secret-file or secret-env, not both", *place, "secret-env")
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", table.secret_env):
            raise self.wrong("must be the name of an environment variable", *place, "secret-env")
        if table.secret_env.upper().startswith(SETTINGS):
            reserved = f"variables that begin with {SETTINGS} are settings; use another name"
            raise self.wrong(reserved, *place, "secret-env")
        return SecretSource(variable=table.secret_env)

    def _format(self, table: _Webhook, *place: Step) -> Format:
        if table.format not in set(Format):
            choices = ", ".join(f'"{choice}"' for choice in Format)
            raise self.wrong(f"must be one of {choices}", *place, "format")
        return Format(table.format)

    def _actions(self, table: _Webhook, *place: Step) -> frozenset[str]:
        if table.actions is UNSET:
            return frozenset()
        path = (*place, "actions")
        chosen = self._format(table, *place)
        if not table.actions:
            raise self.wrong("name an action, or remove the key to send all changes", *path)
        for action in table.actions:
            if action not in ACTIONS:
                known = "expected one such as tag.set, or tag.*"
                raise self.wrong(f"unknown action {action[:80]!r}: {known}", *path)
            if not any(covers(action, each) and chosen.expresses(each) for each in EventAction):
                sent = ", ".join(sorted(EXPRESSED[chosen]))
                raise self.wrong(f"the format {chosen} has no {action}, only {sent}", *path)
        return frozenset(table.actions)

    def _patterns(
        self, parse: Callable[[str], Parsed], texts: list[str] | UnsetType, *place: Step
    ) -> tuple[Parsed, ...]:
        if texts is UNSET:
            return ()
        if not texts:
            raise self.wrong("name one, or remove the key to send the events of all", *place)
        return tuple(self._parse(parse, text, *place) for text in texts)

    def _parse(self, parse: Callable[[str], Parsed], text: str, *place: Step) -> Parsed:
        """Return a parsed value; raises FileInvalid."""
        try:
            return parse(text)
        except (PatternInvalid, QuantityInvalid) as error:
            raise self.wrong(str(error), *place) from error
