"""The token server: Docker's token authentication, and ACR's two steps (`/oauth2`).

ACR's clients request a token before anything else, so it serves on an open registry as well. Any
credential is accepted there, and makes its bearer anonymous.
"""

from __future__ import annotations

import datetime as dt
from functools import partial

from starlette.responses import Response

from portside.api.actors import client_actor
from portside.api.auth import Gate
from portside.api.queries import Fields, FieldsExceeded
from portside.api.requests import Request
from portside.api.responses import json_response
from portside.auth.access_control import CredentialsInvalid, Snapshot
from portside.auth.credentials import (
    BasicCredentials,
    BearerCredentials,
    CredentialsMalformed,
    parse_authorization,
)
from portside.auth.grants import NOBODY, Caller, grant
from portside.auth.tokens.own import TokenInvalid
from portside.spec.dialects import AuthScheme
from portside.spec.errors import EndpointUnknown, FormTooLarge, GrantTypeUnsupported, Unauthorized
from portside.spec.scopes import parse_scopes

_NOT_STORED = {"cache_control": "no-store"}


class TokenServer:
    """The handlers of a registry's token server."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def get_token(self, request: Request) -> Response:
        """Issue an access token for Basic credentials, or an anonymous one ("token.md").

        `docker login` stores a refresh token in the place of the password, where clients that know
        only passwords do not find it.
        """
        snapshot = await self._snapshot()
        fields = request.fields
        caller = await self._from_header(snapshot, request)
        is_asked = fields.first("offline_token").lower() in ("true", "1")
        is_offline = is_asked and self._gate.control.terms.login_refresh_tokens
        return self._answer(snapshot, caller, fields, is_offline=is_offline)

    async def post_token(self, request: Request) -> Response:
        """Issue an access token for a password or a refresh token ("oauth.md", RFC 6749)."""
        snapshot = await self._snapshot()
        fields = await _form(request)
        match fields.first("grant_type"):
            case "password":
                caller = await self._from_password(snapshot, request, fields)
            case "refresh_token":
                caller = await self._from_token(snapshot, request, fields.first("refresh_token"))
            case other:
                known = "use password or refresh_token"
                raise GrantTypeUnsupported(f"{other[:40]!r}; {known}")
        is_offline = fields.first("access_type") == "offline"
        return self._answer(snapshot, caller, fields, is_offline=is_offline)

    async def post_exchange(self, request: Request) -> Response:
        """Issue a refresh token for another credential, as ACR does for a token of Entra.

        The parameter `access_token` (or `refresh_token`) holds a token of a trusted issuer, a
        refresh token, or NAME:PASSWORD.
        """
        snapshot = await self._snapshot()
        fields = await _form(request)
        kind = fields.first("grant_type")
        if kind not in ("access_token", "access_token_refresh_token", "refresh_token"):
            known = "use access_token, access_token_refresh_token or refresh_token"
            raise GrantTypeUnsupported(f"{kind[:40]!r}; {known}")
        given = fields.first("access_token") or fields.first("refresh_token")
        name, colon, password = given.partition(":")
        if colon:
            caller = await self._basic(snapshot, request, BasicCredentials(name, password))
        else:
            caller = await self._from_token(snapshot, request, given)
        token = self._gate.control.refresh_token(snapshot, caller)
        return json_response(200, {"refresh_token": token}, **_NOT_STORED)

    async def get_keys(self, request: Request) -> Response:
        """Publish the keys that verify access tokens (RFC 7517)."""
        del request
        snapshot = await self._gate.control.snapshot()
        return json_response(200, snapshot.jwks, cache_control="max-age=300")

    async def _snapshot(self) -> Snapshot:
        """Return the snapshot; raises EndpointUnknown if challenges do not lead here."""
        if self._gate.scheme is AuthScheme.BASIC:
            raise EndpointUnknown("this registry issues no tokens")
        return await self._gate.control.snapshot()

    async def _from_header(self, snapshot: Snapshot, request: Request) -> Caller:
        """Read the Authorization header, which an open registry does not look at."""
        if not snapshot.closed:
            return NOBODY
        try:
            given = parse_authorization(request.header(b"authorization"))
        except CredentialsMalformed as error:
            raise self._refusal(str(error)) from error
        if given is None:
            return NOBODY
        if isinstance(given, BearerCredentials):
            return await self._from_token(snapshot, request, given.token)
        return await self._basic(snapshot, request, given)

    async def _from_password(self, snapshot: Snapshot, request: Request, fields: Fields) -> Caller:
        """Read a name and a password; Microsoft's anonymous client sends neither."""
        name, password = fields.first("username"), fields.first("password")
        if not name and not password:
            return await self._from_header(snapshot, request)
        return await self._basic(snapshot, request, BasicCredentials(name, password))

    async def _basic(self, snapshot: Snapshot, request: Request, given: BasicCredentials) -> Caller:
        addresses, scope = self._gate.addresses, request.scope
        client = partial(client_actor, addresses, scope)
        try:
            caller = await self._gate.control.authenticate_basic(
                snapshot, given, addresses.client(scope), client
            )
        except CredentialsInvalid as error:
            raise self._refusal(str(error)) from error
        request.record.identity = caller.identity
        return caller

    async def _from_token(self, snapshot: Snapshot, request: Request, token: str) -> Caller:
        try:
            caller = await self._gate.control.exchange(snapshot, token)
        except TokenInvalid as error:
            raise self._refusal(str(error)) from error
        request.record.identity = caller.identity
        return caller

    def _refusal(self, reason: str) -> Unauthorized:
        return Unauthorized(f'Basic realm="{self._gate.service}"', reason)

    def _answer(
        self, snapshot: Snapshot, caller: Caller, fields: Fields, *, is_offline: bool
    ) -> Response:
        """Issue a token for what is both requested and allowed, which may be nothing."""
        control = self._gate.control
        grants = grant(snapshot.policy, caller, parse_scopes(fields.all("scope")))
        token, life = control.access_token(snapshot, caller, grants)
        document = {
            "token": token,
            "access_token": token,
            "token_type": "Bearer",
            "scope": grants.scope,
            "expires_in": life,
            "issued_at": _written(control.clock()),
        }
        if is_offline and not caller.identity.is_anonymous:
            document["refresh_token"] = control.refresh_token(snapshot, caller)
        return json_response(200, document, **_NOT_STORED)


async def _form(request: Request) -> Fields:
    """Read a form (application/x-www-form-urlencoded)."""
    text = (await request.form_payload()).decode("utf-8", "replace")
    try:
        return Fields.parse(text, limit=request.registry.limits.max_fields)
    except FieldsExceeded as error:
        raise FormTooLarge(str(error)) from error


def _written(now: int) -> str:
    """Return a time in microseconds since 1970 in the form of RFC 3339."""
    moment = dt.datetime.fromtimestamp(now // 1_000_000, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
