"""Headers on which clients and caches rely for tokens, challenges and refusals."""

from __future__ import annotations

import time
from datetime import datetime

import httpx
import jwt
import pytest

from access.test_secrecy import bearer
from portside.api.errors import error_response
from portside.spec import errors
from portside.spec.dialects import Dialect
from portside.spec.endpoints import ENDPOINTS, Endpoint
from support.access import ALICE, PULLER

FORM = {"grant_type": "password", "username": ALICE.name, "password": ALICE.password}


class TestTokens:
    """Answers of the token server."""

    @pytest.mark.parametrize("path", ["/oauth2/token", "/token"])
    def test_are_not_cached(self, nobody: httpx.Client, path: str) -> None:
        """No cache may keep an answer that holds a token (RFC 6749, section 5.1)."""
        for answer in (
            nobody.get(path),
            nobody.get(path, auth=ALICE.pair, params={"offline_token": "true"}),
            nobody.post(path, data=FORM),
            nobody.post(path, data=FORM | {"access_type": "offline"}),
            nobody.post("/oauth2/exchange", data={"grant_type": "access_token"} | EXCHANGE),
        ):
            assert answer.status_code == 200, answer.text
            assert answer.headers["Cache-Control"] == "no-store"

    def test_life(self, nobody: httpx.Client) -> None:
        """Clients learn when a token ends from the answer, which says what the token says."""
        before = int(time.time())
        for answer in (
            nobody.get("/oauth2/token", auth=ALICE.pair),
            nobody.post("/oauth2/token", data=FORM),
        ):
            document = answer.json()
            claims = jwt.decode(document["access_token"], options={"verify_signature": False})
            assert document["expires_in"] == claims["exp"] - claims["iat"]
            issued = datetime.fromisoformat(document["issued_at"]).timestamp()
            assert before <= issued <= time.time()
            assert abs(issued - claims["iat"]) <= 1

    def test_keys_are_cached(self, nobody: httpx.Client) -> None:
        """What verifies tokens may be kept for a while, and no longer: keys are rotated."""
        answer = nobody.get("/.well-known/jwks.json")
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "max-age=300")

    def test_nobody_gets_no_refresh_token(self, nobody: httpx.Client) -> None:
        """A refresh token belongs to an identity, whatever an anonymous client asks for."""
        form = {"grant_type": "password", "access_type": "offline"}
        for answer in (
            nobody.get("/oauth2/token", params={"offline_token": "true"}),
            nobody.post("/oauth2/token", data=form),
        ):
            assert answer.status_code == 200
            assert "refresh_token" not in answer.json()
        named = nobody.post("/oauth2/token", data=FORM | form).json()
        assert named["refresh_token"]


EXCHANGE = {"access_token": f"{ALICE.name}:{ALICE.password}"}


class TestChallenges:
    """What a 401 says about the token that was sent (RFC 6750, section 3.1)."""

    @pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/team/app/manifests/v1"])
    def test_invalid_token(self, nobody: httpx.Client, path: str) -> None:
        """A token that is not valid is called so, and nothing else is."""
        valid = bearer(nobody, PULLER.pair)["Authorization"]
        for token in ("Bearer x", "Bearer a.b.c", f"{valid[:-8]}AAAAAAAA"):
            answer = nobody.get(path, headers={"Authorization": token})
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        wrong = nobody.get(path, auth=(PULLER.name, "wrong"))
        for answer in (nobody.get(path), wrong):
            assert answer.status_code == 401
            assert "error=" not in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: f"{row.method} {row.path}")
def test_headers_of_refusals(row: Endpoint, dialect: Dialect) -> None:
    """A 401 has a challenge, a 405 the other methods, and no other status has either."""
    for error in (
        errors.Denied("the challenge", "denied"),
        errors.Unauthorized("the challenge", "log in"),
        errors.MethodNotAllowed(),
        errors.NameUnknown(),
    ):
        answer = error_response(
            error,
            endpoint=row,
            dialect=dialect,
            allowed=lambda: ("GET", "HEAD"),
            is_head=False,
            request_id="a-1",
        )
        found = dict(answer.raw_headers)
        challenged = b"the challenge" if answer.status_code == 401 else None
        assert found.get(b"www-authenticate") == challenged
        assert found.get(b"allow") == (b"GET, HEAD" if answer.status_code == 405 else None)


@pytest.mark.parametrize(
    ("error", "status", "seconds"),
    [
        (errors.TooManyRequests(7), 429, "7"),
        (errors.Unavailable(), 503, "1"),
        (errors.NotReady(), 503, "1"),
        (errors.ReadOnly(), 503, "10"),
        (errors.UploadBusy(), 409, "1"),
    ],
)
def test_when_to_try_again(error: errors.RegistryError, status: int, seconds: str) -> None:
    """Every refusal that passes says when to come back (RFC 9110, section 10.2.3)."""
    answer = error_response(
        error, endpoint=None, dialect=Dialect.OCI, allowed=tuple, is_head=False, request_id="a-1"
    )
    assert answer.status_code == status
    assert (b"retry-after", seconds.encode()) in answer.raw_headers
