"""What the settings and the files that they name say about access.

The access file holds groups, rules and trusted issuers, in TOML:

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

The htpasswd file is Apache's, with bcrypt hashes (`htpasswd -B`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import msgspec

from portside.auth.issuers import Issuer, IssuerInvalid, check_issuers
from portside.auth.passwords import MOST_COST, cost_of, highest_cost
from portside.auth.policy import Policy, Rule, Subjects
from portside.files.tables import Step, TableFile
from portside.files.text import FileInvalid
from portside.files.watched import LastGood, Note, WatchedFile
from portside.spec.actions import ALL, ActionInvalid, parse_actions
from portside.spec.patterns import PatternInvalid, RepositoryPattern

EVERY_USER = "*"

ALL_TO_USERS = Rule("the default (no access file)", Subjects.USERS, "", RepositoryPattern("*"), ALL)
"""The only rule where there is no access file: a small team shares everything."""

Groups = dict[str, frozenset[str]]

log = logging.getLogger(__name__)


class _Access(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[access]]` table; `identities = ["*"]` means every user."""

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
    """The content of an access file; `groups` maps the name of an identity to its groups."""

    rules: tuple[Rule, ...]
    groups: Groups
    issuers: tuple[Issuer, ...]


def parse_access_file(text: str, *, name: str) -> AccessFile:
    """Read an access file; `name` is how messages call it.

    Raises FileInvalid.
    """
    file = TableFile(text, _File, name=name)
    document = file.document
    rules = tuple(_rules(file))
    try:
        check_issuers(document.issuer)
    except IssuerInvalid as error:
        raise file.wrong(error.reason, "issuer", error.index, error.field) from error
    members: dict[str, set[str]] = {}
    for group, identities in document.groups.items():
        for identity in identities:
            members.setdefault(identity, set()).add(group)
    groups = {identity: frozenset(found) for identity, found in members.items()}
    return AccessFile(rules, groups, tuple(document.issuer))


def _rules(file: TableFile[_File]) -> Iterator[Rule]:
    for index, access in enumerate(file.document.access):
        place = ("access", index)
        _require_parts(file, access, *place)
        try:
            actions = parse_actions(",".join(access.actions))
        except ActionInvalid as error:
            raise file.wrong(str(error), *place, "actions") from error
        try:
            patterns = [RepositoryPattern.parse(repository) for repository in access.repositories]
        except PatternInvalid as error:
            raise file.wrong(str(error), *place, "repositories") from error
        source = file.source(*place)
        for pattern in patterns:
            for subjects, who in _subjects(access):
                yield Rule(source, subjects, who, pattern, actions, access.effect == "allow")


def _require_parts(file: TableFile[_File], access: _Access, *place: Step) -> None:
    """Refuse a rule that lacks something, or names an unknown group; raises FileInvalid."""
    groups = file.document.groups
    for group in access.groups:
        if group not in groups and ":" not in group:
            known = ", ".join(sorted(groups)) or "none"
            unknown = f"there is no group {group[:80]!r} in [groups] (there: {known})"
            raise file.wrong(unknown, *place, "groups")
    if not access.identities and not access.groups:
        raise file.wrong("the rule names neither identities nor groups", *place, "identities")
    if not access.actions:
        raise file.wrong("the rule needs at least one action", *place, "actions")
    if not access.repositories:
        raise file.wrong("the rule needs at least one repository", *place, "repositories")


def _subjects(access: _Access) -> Iterator[tuple[Subjects, str]]:
    for identity in access.identities:
        yield (Subjects.USERS, "") if identity == EVERY_USER else (Subjects.IDENTITY, identity)
    for group in access.groups:
        yield Subjects.GROUP, group


def parse_anonymous(texts: tuple[str, ...]) -> tuple[Rule, ...]:
    """Read rules such as `public/*:pull`, for requests without credentials, and so for everyone.

    Raises FileInvalid.
    """
    found = []
    for text in texts:
        pattern, colon, actions = text.rpartition(":")
        if not colon:
            shape = "expected PATTERN:ACTIONS, such as public/*:pull"
            raise FileInvalid(f"anonymous: invalid rule {text!r}: {shape}")
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


class Htpasswd(NamedTuple):
    """The hashes of an htpasswd file by name, and a sentence for each line that cannot be used."""

    hashes: dict[str, str]
    problems: list[str]

    @property
    def cost(self) -> int:
        """The greatest cost of all hashes; 0 if there are none."""
        return highest_cost(self.hashes.values())


def parse_htpasswd(text: str) -> Htpasswd:
    """Read an htpasswd file; of two lines with one name the first counts, as it does for Apache."""
    found = Htpasswd({}, [])
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, colon, hashed = entry.partition(":")
        if not colon or not name:
            found.problems.append(f"line {number}: expected NAME:HASH")
        elif cost_of(hashed) is None:
            found.problems.append(f"line {number}: {_explain(hashed)}")
        else:
            found.hashes.setdefault(name, hashed)
    return found


_FORMATS = {"{SHA}": "SHA-1", "$apr1$": "MD5", "$5$": "SHA-256", "$6$": "SHA-512", "$2": "bcrypt"}


def _explain(hashed: str) -> str:
    """Return what is wrong with a hash, without the hash."""
    known = next((name for start, name in _FORMATS.items() if hashed.startswith(start)), None)
    if known == "bcrypt":
        return f"malformed bcrypt hash, or a cost above {MOST_COST}"
    problem = f"{known} hashes are not accepted" if known else "unknown hash format"
    return f"{problem}; create a bcrypt hash with `htpasswd -B`"


class AccessRules(NamedTuple):
    """What the settings and the files say at one version."""

    version: tuple[int, int]
    anonymous: tuple[Rule, ...]
    access: AccessFile | None
    htpasswd: Htpasswd | None

    @property
    def policy(self) -> Policy:
        """The rules that apply to the requests of everyone."""
        rules = self.access.rules if self.access is not None else (ALL_TO_USERS,)
        return Policy((*self.anonymous, *rules))

    @property
    def groups(self) -> Groups:
        """The groups of each identity."""
        return self.access.groups if self.access is not None else {}

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        """The trusted issuers."""
        return self.access.issuers if self.access is not None else ()


class LastGoodFiles(NamedTuple):
    """What all workers of a node use of a file while it is broken."""

    access: LastGood
    htpasswd: LastGood

    @classmethod
    def make(cls) -> LastGoodFiles:
        """Make them before the workers are forked."""
        return cls(LastGood(), LastGood())


class AccessFiles:
    """The anonymous rules, the access file and the htpasswd file; files are read when they change.

    A path is empty if there is no such file. Workers share `last_good`. `note` is told of each text
    that is used.

    Raises FileInvalid for a file that cannot be used at the start.
    """

    def __init__(
        self,
        *,
        anonymous: tuple[str, ...],
        access_file: str,
        htpasswd: str,
        last_good: LastGoodFiles | None = None,
        note: Note | None = None,
    ) -> None:
        good_access, good_htpasswd = last_good or (None, None)
        self._anonymous = parse_anonymous(anonymous)
        self._access: WatchedFile[AccessFile] | None = None
        self._htpasswd: WatchedFile[Htpasswd] | None = None
        if access_file:
            self._access = WatchedFile(
                access_file, partial(parse_access_file, name=access_file), good_access, note
            )
            _require_key_files(self._access.content.issuers)
        if htpasswd:
            self._htpasswd = WatchedFile(
                htpasswd, partial(self._parse_htpasswd, htpasswd), good_htpasswd, note
            )

    def _parse_htpasswd(self, name: str, text: str) -> Htpasswd:
        """Read the file; a line that cannot be used is an error only at the start."""
        found = parse_htpasswd(text)
        if found.problems and self._htpasswd is None:
            raise FileInvalid(f"{name}: {'; '.join(found.problems)}")
        for problem in found.problems:
            log.error("%s: %s; the line is ignored", name, problem)
        return found

    @property
    def version(self) -> tuple[int, int]:
        """Changes when one of the files changes; costs one `stat` for each file."""
        if self._access is None and self._htpasswd is None:
            return (0, 0)
        return (_version(self._access), _version(self._htpasswd))

    def read(self) -> AccessRules:
        """Return what the files say now."""
        version = self.version
        access = self._access.content if self._access else None
        htpasswd = self._htpasswd.content if self._htpasswd else None
        return AccessRules(version, self._anonymous, access, htpasswd)


def _require_key_files(issuers: Iterable[Issuer]) -> None:
    """Refuse an issuer whose key file cannot be used; raises FileInvalid."""
    named = [issuer for issuer in issuers if issuer.jwks_file]
    if named:
        # Commands that only show what is configured need not wait for a library of tokens.
        from portside.auth.tokens.foreign import read_key_file  # noqa: PLC0415

        for issuer in named:
            read_key_file(issuer)


def _version(file: WatchedFile[Any] | None) -> int:
    if file is None:
        return 0
    file.look()
    return file.version
