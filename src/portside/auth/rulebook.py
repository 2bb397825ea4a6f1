"""The rulebook: what the settings and the files that they name say of who may do what."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, NamedTuple

from portside.auth.access_file import AccessFile, parse_access_file, parse_anonymous
from portside.auth.directory import Groups
from portside.auth.files import FileInvalid, WatchedFile
from portside.auth.htpasswd import Htpasswd, parse_htpasswd
from portside.auth.issuers import Issuer
from portside.auth.policy import Policy
from portside.auth.rules import Rule, Subjects
from portside.auth.tokens.foreign import read_key_file
from portside.spec.actions import ALL
from portside.spec.patterns import RepositoryPattern

ALL_TO_USERS = Rule("the default (no access file)", Subjects.USERS, "", RepositoryPattern("*"), ALL)
"""What holds where no access file says more: a small team shares everything."""

log = logging.getLogger(__name__)


class RuleBook:
    """The rules for anonymous callers, the access file and the htpasswd file, as they are now.

    Paths are empty where there is no such file. `version` changes when one of the files does.

    Raises FileInvalid for what cannot be used at the start.
    """

    def __init__(self, *, anonymous: tuple[str, ...], access_file: str, htpasswd: str) -> None:
        self._anonymous = parse_anonymous(anonymous)
        self._access: WatchedFile[AccessFile] | None = None
        self._htpasswd: WatchedFile[Htpasswd] | None = None
        if access_file:
            self._access = WatchedFile(access_file, partial(parse_access_file, name=access_file))
            for issuer in self._access.content.issuers:
                if issuer.jwks_file:
                    read_key_file(issuer)
        if htpasswd:
            self._htpasswd = WatchedFile(htpasswd, partial(self._parse_htpasswd, htpasswd))

    def _parse_htpasswd(self, name: str, text: str) -> Htpasswd:
        """Read the file; a line that cannot be used keeps a registry from starting only."""
        found = parse_htpasswd(text)
        if found.problems and self._htpasswd is None:
            raise FileInvalid(f"{name}: {'; '.join(found.problems)}")
        for problem in found.problems:
            log.error("%s: %s; nobody can log in with it", name, problem)
        return found

    @property
    def version(self) -> tuple[int, int]:
        """Changes when one of the files has changed; looking costs a `stat` for each."""
        if self._access is None and self._htpasswd is None:
            return (0, 0)
        return (_version(self._access), _version(self._htpasswd))

    def read(self) -> Rules:
        """Give what the files say now."""
        version = self.version
        access = self._access.content if self._access else None
        htpasswd = self._htpasswd.content if self._htpasswd else None
        return Rules(version, self._anonymous, access, htpasswd)


class Rules(NamedTuple):
    """What the rulebook says at one version."""

    version: tuple[int, int]
    anonymous: tuple[Rule, ...]
    access: AccessFile | None
    htpasswd: Htpasswd | None

    @property
    def policy(self) -> Policy:
        """All rules that hold for everybody's requests."""
        rules = self.access.rules if self.access is not None else (ALL_TO_USERS,)
        return Policy((*self.anonymous, *rules))

    @property
    def groups(self) -> Groups:
        """The groups of identities."""
        return self.access.groups if self.access is not None else {}

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        """The trusted issuers."""
        return self.access.issuers if self.access is not None else ()


def _version(file: WatchedFile[Any] | None) -> int:
    if file is None:
        return 0
    file.look()
    return file.version
