"""Trusted issuers: others whose tokens are accepted, as the access file names them."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from portside.auth.identities import Identity
from portside.stores.access import IdentityKind

Claims = dict[str, Any]

_FORMATTER = string.Formatter()

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class IssuerInvalid(ValueError):
    """An `[[issuer]]` table that cannot be used; the reason is for the person who wrote it.

    `index` is that of the table, 0 for the first.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.index = 0


class ClaimMissing(Exception):
    """A token of a trusted issuer lacks a claim that names the identity."""


class Issuer(msgspec.Struct, forbid_unknown_fields=True, frozen=True, rename="kebab"):
    """One `[[issuer]]` table.

    `identity` is a template of claims, such as `{sub}` or `{repository}/{environment}`. The result
    is prefixed with `name` and a colon, which no user's name can contain, so that nobody can be
    mistaken for a user of the registry. `groups_claim` names a claim with a list of groups, which
    get the same prefix. `jwks_refresh` is in seconds.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}\Z")]
    issuer: str
    audience: str
    jwks_file: str = ""
    jwks_url: str = ""
    jwks_refresh: Annotated[int, Meta(ge=10)] = 300
    identity: str = "{sub}"
    groups_claim: str = ""

    def check(self) -> None:
        """Refuse settings that could let anybody in; raises IssuerInvalid with the field."""
        for field, text in (("issuer", self.issuer), ("audience", self.audience)):
            if not text:
                raise IssuerInvalid(field, "must not be empty")
        if bool(self.jwks_file) == bool(self.jwks_url):
            raise IssuerInvalid("jwks-url", "set either jwks-file or jwks-url")
        if self.jwks_url and not _is_safe(self.jwks_url):
            raise IssuerInvalid("jwks-url", "must begin with https:// (http:// for loopback)")
        try:
            parsed = _FORMATTER.parse(self.identity)
            fields = [field for _, field, _, _ in parsed if field is not None]
        except ValueError as error:
            raise IssuerInvalid("identity", f"{self.identity!r}: {error}") from error
        if not fields or not all(field.replace("_", "a").isalnum() for field in fields):
            raise IssuerInvalid("identity", "must contain claims in braces, such as {sub}")

    def identify(self, claims: Claims) -> Identity:
        """Return the identity that verified claims name; raises ClaimMissing."""
        pieces: list[str] = []
        for literal, field, _, _ in _FORMATTER.parse(self.identity):
            pieces.append(literal)
            if field is not None:
                pieces.append(self._claim(claims, field))
        groups = claims.get(self.groups_claim, []) if self.groups_claim else []
        if not isinstance(groups, list):
            groups = [groups]
        return Identity(
            name=f"{self.name}:{''.join(pieces)}",
            kind=IdentityKind.FOREIGN,
            groups=frozenset(f"{self.name}:{group}" for group in groups if _is_text(group)),
        )

    def _claim(self, claims: Claims, name: str) -> str:
        value = claims.get(name)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number and (value == "" or not _is_text(value)):
            raise ClaimMissing(f"the token of {self.name} has no text in the claim {name!r}")
        return str(value)


def check_issuers(issuers: Iterable[Issuer]) -> None:
    """Refuse invalid issuers, and two that could be confused; raises IssuerInvalid."""
    names: set[str] = set()
    urls: set[str] = set()
    for index, issuer in enumerate(issuers):
        try:
            issuer.check()
            if issuer.name in names:
                raise IssuerInvalid("name", "another issuer has the same name")
            if issuer.issuer in urls:
                raise IssuerInvalid("issuer", "another issuer has the same URL")
        except IssuerInvalid as error:
            error.index = index
            raise
        names.add(issuer.name)
        urls.add(issuer.issuer)


def _is_text(value: object) -> bool:
    """Whether a claim is text that can be stored; JSON can hold NUL and lone surrogates."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode("utf-8")
    except UnicodeEncodeError:
        return False


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    return is_local or (parts.scheme == "https" and bool(parts.hostname))
