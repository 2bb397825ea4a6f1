"""Every endpoint, every kind of identity, both schemes: the status is the one the policy gives.

What an identity may do is compared with what the same request is answered by a registry that is
open: a request that is let through gets the same status there. So a new row in the table of
endpoints is tested as soon as it has a request here, and the suite fails until it has one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from portside.auth.grants import Grants
from portside.auth.identities import ANONYMOUS, Identity
from portside.auth.tokens.keys import KeyRing, make_key
from portside.auth.tokens.own import TokenFactory
from portside.config import Settings
from portside.spec.actions import ALL, Actions
from portside.spec.dialects import AuthScheme
from portside.spec.endpoints import ENDPOINTS, Endpoint
from portside.stores.access import IdentityKind
from support.identities import (
    ASKING,
    NOTHING,
    PASSWORD,
    REPOSITORY,
    STORED,
    Who,
    basic,
    is_allowed,
    seed_identities,
)
from support.server import running_registry
from support.wire import connect

DIGEST = f"sha256:{'a' * 64}"

VARIABLES: dict[str, dict[str, str]] = {
    "ping": {},
    "get_blob": {"digest": DIGEST},
    "head_blob": {"digest": DIGEST},
    "delete_blob": {"digest": DIGEST},
    "get_manifest": {"reference": "absent"},
    "head_manifest": {"reference": DIGEST},
    "put_manifest": {"reference": "absent"},
    "delete_manifest": {"reference": "absent"},
    "start_upload": {},
    "append_upload": {"session": "0" * 32},
    "finish_upload": {"session": "0" * 32},
    "get_upload": {"session": "0" * 32},
    "cancel_upload": {"session": "0" * 32},
    "list_tags": {},
    "list_referrers": {"digest": DIGEST},
    "list_repositories": {},
    "list_extensions": {},
    "list_tag_changes": {"tag": "absent"},
    "restore_tag": {"tag": "absent"},
    "list_acr_repositories": {},
    "get_repository": {},
    "change_repository": {},
    "delete_repository": {},
    "list_tag_properties": {},
    "get_tag": {"tag": "absent"},
    "change_tag": {"tag": "absent"},
    "delete_tag": {"tag": "absent"},
    "list_manifest_properties": {},
    "get_manifest_properties": {"digest": DIGEST},
    "change_manifest": {"digest": DIGEST},
    "list_deleted_repositories": {},
    "list_deleted_manifests": {},
    "list_deleted_tags": {},
    "restore_deleted_manifest": {"digest": DIGEST},
    "stream_events": {},
}
"""The variables in the path of each operation; none of them exists."""


ACTIONS = {
    "ping": "none",
    "get_blob": "pull",
    "head_blob": "pull",
    "delete_blob": "delete",
    "get_manifest": "pull",
    "head_manifest": "pull",
    "put_manifest": "push",
    "delete_manifest": "delete",
    "start_upload": "push",
    "append_upload": "push",
    "finish_upload": "push",
    "get_upload": "push",
    "cancel_upload": "push",
    "list_tags": "pull",
    "list_referrers": "pull",
    "list_repositories": "catalog",
    "list_extensions": "none",
    "list_tag_changes": "metadata_read",
    "restore_tag": "push",
    "list_acr_repositories": "catalog",
    "get_repository": "metadata_read",
    "change_repository": "metadata_write",
    "delete_repository": "delete",
    "list_tag_properties": "metadata_read",
    "get_tag": "metadata_read",
    "change_tag": "metadata_write",
    "delete_tag": "delete",
    "list_manifest_properties": "metadata_read",
    "get_manifest_properties": "metadata_read",
    "change_manifest": "metadata_write",
    "list_deleted_repositories": "catalog",
    "list_deleted_manifests": "metadata_read",
    "list_deleted_tags": "metadata_read",
    "restore_deleted_manifest": "push",
    "stream_events": "catalog",
}
"""What each operation needs, written down here so that a slip in the table of endpoints is seen."""

PUBLIC = {"root", "healthz", "readyz", "readyz_writes", "openapi"}
TOKEN_SERVER = {"get_token", "post_token", "post_exchange", "get_keys"}


@dataclass(frozen=True)
class Closed:
    """A registry with access control, and the keys that it signs with."""

    url: str
    client: httpx.Client
    keys: KeyRing
    scheme: AuthScheme

    def token(self, who: Who, *, everything: bool = True) -> str:
        """Ask the registry for a token with all that the identity may get, or with nothing."""
        scope = f"repository:{REPOSITORY}:*" if everything else ""
        answer = self.client.get(
            "/oauth2/token",
            params={"service": "portside", "scope": [scope, "registry:catalog:*"]},
            auth=(who.name, PASSWORD),
        )
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        return token

    def forged(
        self, *, keys: KeyRing | None = None, audience: str = "portside", age: int = 0
    ) -> str:
        """Sign a token that allows everything, as somebody with other keys or aims would."""
        factory = TokenFactory(keys or self.keys, audience=audience)
        grants = Grants({REPOSITORY: ALL}, catalog=True)
        start = int(time.time()) - age
        return factory.access_token(ANONYMOUS, grants, now=start, life=60)


BEARER = pytest.mark.parametrize("closed", [AuthScheme.BEARER], indirect=True)
BASIC = pytest.mark.parametrize("closed", [AuthScheme.BASIC], indirect=True)
"""Markers of tests about one scheme; a test without one is run under both."""


@pytest.fixture(scope="module", params=[AuthScheme.BEARER, AuthScheme.BASIC])
def closed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Closed]:
    """Serve the identities under each scheme."""
    data: Path = tmp_path_factory.mktemp("closed") / "data"
    settings = Settings(data=str(data))
    keys = seed_identities(settings)
    options = ("--auth-scheme", str(request.param), "--login-failures", "0")
    with (
        running_registry(data, *options, env={"PORTSIDE_PASSWORD_COST": "4"}) as registry,
        connect(registry.url) as client,
    ):
        yield Closed(registry.url, client, keys, request.param)


def test_each_endpoint_is_here() -> None:
    """No endpoint can be added without a request in this matrix."""
    assert set(VARIABLES) == {endpoint.operation for endpoint in ASKING}


def test_what_each_operation_needs() -> None:
    """No endpoint needs less than is written down here, and none is public that is not named."""
    assert {row.operation: str(row.action) for row in ASKING} == ACTIONS
    public = {row.operation for row in ENDPOINTS if row.action is None}
    assert public == PUBLIC | TOKEN_SERVER


def send(client: httpx.Client, endpoint: Endpoint, authorization: str | None) -> httpx.Response:
    """Send a request that changes nothing that another one could see."""
    path = endpoint.path.format(name=REPOSITORY, **VARIABLES[endpoint.operation])
    headers = {"Authorization": authorization} if authorization else {}
    # A stream would not end.
    query = "?follow=false" if endpoint.operation == "stream_events" else ""
    return client.request(endpoint.method, f"{path}{query}", headers=headers)


def check(
    closed: Closed,
    opened: httpx.Client,
    authorization: str | None,
    *,
    actions: Actions | None,
    otherwise: int = 403,
) -> None:
    """Send every request; `actions` is None for credentials that are not accepted at all."""
    for endpoint in ASKING:
        answer = send(closed.client, endpoint, authorization)
        if actions is None:
            expected = 401
        elif is_allowed(endpoint, actions):
            # A request without credentials may be challenged, whoever may do what.
            expected = send(opened, endpoint, basic("anybody")).status_code
        else:
            expected = 401 if endpoint.is_of_acr else otherwise
        assert answer.status_code == expected, (endpoint.operation, answer.text)
        check_challenge(closed, endpoint, answer)


def check_challenge(closed: Closed, endpoint: Endpoint, answer: httpx.Response) -> None:
    """Find one correct challenge in a 401, and none elsewhere."""
    challenges = answer.headers.get_list("www-authenticate")
    if answer.status_code != 401:
        assert challenges == []
        return
    (challenge,) = challenges
    if closed.scheme is AuthScheme.BASIC:
        assert challenge == 'Basic realm="portside"'
        return
    start = f'Bearer realm="{closed.url}/oauth2/token",service="portside"'
    assert challenge.startswith(start)
    if endpoint.method != "HEAD":
        assert [error["code"] for error in answer.json()["errors"]] == ["UNAUTHORIZED"]


@pytest.mark.parametrize("who", STORED, ids=lambda who: who.name)
def test_basic(closed: Closed, client: httpx.Client, who: Who) -> None:
    """A name and a password give what the scope map says, under both schemes."""
    actions = who.allowed if who.may_log_in else None
    check(closed, client, basic(who.name), actions=actions)


@BEARER
@pytest.mark.parametrize("who", [who for who in STORED if who.may_log_in], ids=lambda who: who.name)
def test_bearer(closed: Closed, client: httpx.Client, who: Who) -> None:
    """A token allows what the scope map of its identity says."""
    check(closed, client, f"Bearer {closed.token(who)}", actions=who.allowed)


@BEARER
def test_bearer_without_scope(closed: Closed, client: httpx.Client) -> None:
    """A token without the scope that its identity may have is asked for it, and not denied."""
    who = next(who for who in STORED if who.name == "all")
    authorization = f"Bearer {closed.token(who, everything=False)}"
    check(closed, client, authorization, actions=NOTHING, otherwise=401)
    endpoint = next(item for item in ASKING if item.operation == "start_upload")
    challenge = send(closed.client, endpoint, authorization).headers["www-authenticate"]
    assert challenge.endswith(
        f'scope="repository:{REPOSITORY}:pull,push",error="insufficient_scope"'
    )


@pytest.mark.parametrize(
    "header",
    [
        None,
        basic("all", "wrong"),
        basic("nobody"),
        basic("", ""),
        basic("all", ""),
        basic("ALL"),
        "Basic !!!",
        "Basic",
        "Bearer",
        "Bearer x",
        "Bearer a.b.c",
        "Digest username=all",
    ],
)
def test_no_credentials_that_count(
    closed: Closed, client: httpx.Client, header: str | None
) -> None:
    """Requests without valid credentials are refused."""
    check(closed, client, header, actions=None)


class TestForgedTokens:
    """Tokens that look right and are not."""

    @staticmethod
    def tokens(closed: Closed) -> dict[str, str]:
        """Forge one of each kind."""
        good = closed.forged()
        claims: dict[str, Any] = jwt.decode(good, options={"verify_signature": False})
        header = {"kid": closed.keys.newest}
        public = closed.keys.jwks["keys"][0]["x"]
        head, payload, signature = good.split(".")
        return {
            "foreign key": closed.forged(keys=KeyRing([make_key(0)])),
            "wrong audience": closed.forged(audience="another"),
            "expired": closed.forged(age=1000),
            "not yet valid": closed.forged(age=-1000),
            "alg none": jwt.encode(claims, "", algorithm="none", headers=header),
            "public key as secret": jwt.encode(claims, public, algorithm="HS256", headers=header),
            "another issuer": jwt.encode(
                {**claims, "iss": "another"}, closed.keys.signing, "ES256", headers=header
            ),
            "refresh token": TokenFactory(closed.keys, audience="portside").refresh_token(
                Identity("all", IdentityKind.TOKEN),
                now=int(time.time()),
                expires=int(time.time()) + 60,
            ),
            "no signature": f"{head}.{payload}.",
            "another signature": f"{head}.{payload}.{signature[::-1]}",
            "a removed identity": TokenFactory(closed.keys, audience="portside").access_token(
                Identity("gone", IdentityKind.TOKEN),
                Grants({REPOSITORY: ALL}),
                now=int(time.time()),
                life=60,
            ),
        }

    def test_are_refused(self, closed: Closed) -> None:
        """None of them opens anything, under either scheme."""
        for kind, token in self.tokens(closed).items():
            for endpoint in ASKING:
                answer = send(closed.client, endpoint, f"Bearer {token}")
                assert answer.status_code == 401, (kind, endpoint.operation)
                check_challenge(closed, endpoint, answer)

    @BEARER
    def test_the_forger_can_do_it_right(self, closed: Closed, client: httpx.Client) -> None:
        """With the right key and audience the same token is valid; the policy allows it nothing."""
        check(closed, client, f"Bearer {closed.forged()}", actions=NOTHING, otherwise=401)


@BASIC
def test_no_bearer_under_basic(closed: Closed, client: httpx.Client) -> None:
    """A registry that asks for Basic alone issues no token, and accepts none."""
    answer = closed.client.get("/oauth2/token", auth=("all", PASSWORD))
    assert answer.status_code == 404
    check(closed, client, f"Bearer {closed.forged()}", actions=None)
