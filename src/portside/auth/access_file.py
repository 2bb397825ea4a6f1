"""The access file: groups, rules and trusted issuers, in TOML.

[groups]
developers = ["alice", "bob"]

[[access]]
groups = ["developers"]
repositories = ["team/*"]
actions = ["pull", "push"]

[[issuer]]
name = "ci"
issuer = "https://ci.example"
audience = "registry.example"
jwks-url = "https://ci.example/.well-known/jwks.json"
identity = "{repository}"
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from portside.auth.files import FileInvalid
from portside.auth.issuers import Issuer, IssuerInvalid, check_issuers
from portside.auth.rules import Rule, Subjects
from portside.spec.actions import ActionInvalid, Actions, parse_actions
from portside.spec.patterns import PatternInvalid, RepositoryPattern

EVERY_USER = "*"


class _Access(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[access]]` table; `identities = ["*"]` stands for every user."""

    repositories: list[str]
    actions: list[str]
    identities: list[str] = []
    groups: list[str] = []
    effect: Literal["allow", "deny"] = "allow"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    groups: dict[str, list[str]] = {}
    access: list[_Access] = []
    issuer: list[Issuer] = []


class AccessFile(NamedTuple):
    """What an access file says; `groups` maps an identity's name to its groups."""

    rules: tuple[Rule, ...]
    groups: dict[str, frozenset[str]]
    issuers: tuple[Issuer, ...]


def parse_access_file(text: str, *, name: str) -> AccessFile:
    """Read a file; `name` is how messages call it.

    Raises FileInvalid.
    """
    try:
        document = msgspec.convert(tomllib.loads(text), _File)
        rules = tuple(_rules(document, name))
        check_issuers(document.issuer)
    except tomllib.TOMLDecodeError as error:
        raise FileInvalid(f"{name} is not valid TOML: {error}") from error
    except (msgspec.ValidationError, ActionInvalid, PatternInvalid, IssuerInvalid) as error:
        raise FileInvalid(f"{name}: {error}") from error
    members: dict[str, set[str]] = {}
    for group, identities in document.groups.items():
        for identity in identities:
            members.setdefault(identity, set()).add(group)
    groups = {identity: frozenset(found) for identity, found in members.items()}
    return AccessFile(rules, groups, tuple(document.issuer))


def _rules(document: _File, name: str) -> Iterator[Rule]:
    for number, access in enumerate(document.access, 1):
        source = f"{name}, [[access]] {number}"
        if not access.identities and not access.groups:
            nobody = f"{source} names neither identities nor groups"
            raise FileInvalid(nobody)
        actions = _actions(access, source)
        for repository in access.repositories:
            pattern = RepositoryPattern.parse(repository)
            for subjects, who in _subjects(access):
                yield Rule(source, subjects, who, pattern, actions, access.effect == "allow")


def _actions(access: _Access, source: str) -> Actions:
    if not access.actions or not access.repositories:
        nothing = f"{source} needs at least one repository and one action"
        raise FileInvalid(nothing)
    return parse_actions(",".join(access.actions))


def _subjects(access: _Access) -> Iterator[tuple[Subjects, str]]:
    for identity in access.identities:
        yield (Subjects.USERS, "") if identity == EVERY_USER else (Subjects.IDENTITY, identity)
    for group in access.groups:
        yield Subjects.GROUP, group


def parse_anonymous(texts: tuple[str, ...]) -> tuple[Rule, ...]:
    """Read rules such as `public/*:pull`, for those who send no credentials, and so for everyone.

    Raises FileInvalid.
    """
    found = []
    for text in texts:
        pattern, colon, actions = text.rpartition(":")
        if not colon:
            shape = f"anonymous: {text!r} is not of the form PATTERN:ACTIONS, such as public/*:pull"
            raise FileInvalid(shape)
        try:
            rule = Rule(
                f"--anonymous {text}",
                Subjects.EVERYONE,
                "",
                RepositoryPattern.parse(pattern),
                parse_actions(actions),
            )
        except (ActionInvalid, PatternInvalid) as error:
            raise FileInvalid(f"anonymous: {error}") from error
        found.append(rule)
    return tuple(found)
