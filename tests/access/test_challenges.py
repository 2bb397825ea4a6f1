"""Challenges name the scope that the request needs, so that the second attempt succeeds."""

from __future__ import annotations

import re

import httpx
import pytest

from portside.spec.endpoints import ENDPOINTS
from support.access import ALICE, PULLER, PUSHER
from support.content import digest_of, image

IMAGE = image("team/app")
BLOB = digest_of(IMAGE.blobs[0])
SESSION = "0" * 32
UPLOADS = "/v2/team/new/blobs/uploads/"

PULL = "repository:team/app:pull"
PUSH = "repository:team/app:pull,push"
DELETE = "repository:team/app:delete"
READ = "repository:team/app:metadata_read"
WRITE = "repository:team/app:metadata_write"

# Written by hand: a row of the endpoint table that asks for the wrong scope must be noticed.
REQUESTS: list[tuple[str, str, str | None]] = [
    ("GET", "/v2/", None),
    ("GET", "/v2/_oci/ext/discover", None),
    ("GET", "/v2/_catalog", "registry:catalog:*"),
    ("GET", "/events?follow=false", "registry:catalog:* repository:*:pull"),
    ("GET", "/events?follow=false&repository=team/*", "registry:catalog:* repository:*:pull"),
    ("GET", "/events?follow=false&repository=team/app", f"registry:catalog:* {PULL}"),
    ("GET", "/acr/v1/_catalog", "registry:catalog:*"),
    ("GET", "/acr/v1/team/app", READ),
    ("PATCH", "/acr/v1/team/app", WRITE),
    ("DELETE", "/acr/v1/team/app", DELETE),
    ("GET", "/acr/v1/team%2Fapp/_tags", READ),
    ("GET", "/acr/v1/team/app/_tags/v1", READ),
    ("PATCH", "/acr/v1/team/app/_tags/v1", WRITE),
    ("DELETE", "/acr/v1/team/app/_tags/v1", DELETE),
    ("GET", "/acr/v1/team/app/_manifests", READ),
    ("GET", f"/acr/v1/team/app/_manifests/{IMAGE.digest}", READ),
    ("PATCH", f"/acr/v1/team/app/_manifests/{IMAGE.digest.replace(':', '%3A')}", WRITE),
    ("GET", "/acr/v1/_deleted/_catalog", "registry:catalog:*"),
    ("GET", "/acr/v1/_deleted/team/app/_manifests", READ),
    ("GET", "/acr/v1/_deleted/team%2Fapp/_tags", READ),
    ("POST", f"/acr/v1/_deleted/team/app/_manifests/{IMAGE.digest}", PUSH),
    ("GET", "/v2/team/app/_portside/tags/history/v1", READ),
    ("POST", f"/v2/team/app/_portside/tags/restore/v1?digest={IMAGE.digest}", PUSH),
    ("GET", f"/v2/team/app/blobs/{BLOB}", PULL),
    ("HEAD", f"/v2/team/app/blobs/{BLOB}", PUSH),
    ("GET", "/v2/team/app/manifests/v1", PULL),
    ("HEAD", "/v2/team/app/manifests/v1", PULL),
    ("PUT", "/v2/team/app/manifests/v1", PUSH),
    ("DELETE", "/v2/team/app/manifests/v1", DELETE),
    ("DELETE", f"/v2/team/app/blobs/{BLOB}", DELETE),
    ("GET", "/v2/team/app/tags/list", PULL),
    ("GET", f"/v2/team/app/referrers/{IMAGE.digest}", PULL),
    ("GET", f"/v2/team/app/blobs/uploads/{SESSION}", PUSH),
    ("PATCH", f"/v2/team/app/blobs/uploads/{SESSION}", PUSH),
    ("PUT", f"/v2/team/app/blobs/uploads/{SESSION}?digest={BLOB}", PUSH),
    ("DELETE", f"/v2/team/app/blobs/uploads/{SESSION}", PUSH),
    ("POST", "/v2/team/app/blobs/uploads/", PUSH),
    ("POST", f"/v2/team/app/blobs/uploads/?digest={BLOB}", PUSH),
    (
        "POST",
        f"/v2/team/new/blobs/uploads/?mount={BLOB}&from=team/app",
        "repository:team/new:pull,push repository:team/app:pull",
    ),
    (
        "POST",
        f"/v2/team/new/blobs/uploads/?from=team%2Fapp&mount={BLOB.replace(':', '%3A')}",
        "repository:team/new:pull,push repository:team/app:pull",
    ),
    (
        "POST",
        f"/v2/team/new/blobs/uploads/?mount={BLOB}",
        "repository:team/new:pull,push",
    ),
    (
        "POST",
        f"/v2/team/new/blobs/uploads/?mount={BLOB}&from=team/new",
        "repository:team/new:pull,push",
    ),
    (
        "POST",
        f"/v2/team/new/blobs/uploads/?mount={BLOB}&from=127.0.0.1:5000/team/app",
        "repository:team/new:pull,push",
    ),
    (
        "POST",
        f"/v2/team/new/blobs/uploads/?mount={BLOB}&from=TEAM/App",
        "repository:team/new:pull,push",
    ),
    ("POST", "/v2/team/new/blobs/uploads/?from=team/app", "repository:team/new:pull,push"),
]

REFUSED = {
    "nothing": None,
    "a damaged token": "Bearer a.b.c",
    "wrong password": f"Basic {PUSHER.encoded[:-4]}AAAA",
    "unknown scheme": "Digest username=all",
    "malformed": "Basic !!!",
}


def challenged_scope(answer: httpx.Response) -> str | None:
    """Return the scope that the one challenge of a 401 names."""
    assert answer.status_code == 401, answer.text
    (challenge,) = answer.headers.get_list("www-authenticate")
    assert challenge.startswith('Bearer realm="')
    found = re.search(r'scope="([^"]*)"', challenge)
    return found[1] if found else None


def token(client: httpx.Client, pair: tuple[str, str] | None, *scopes: str) -> dict[str, str]:
    """Return the header with a token of these scopes."""
    query = {"service": "portside", "scope": list(scopes)}
    answer = client.get("/oauth2/token", params=query, auth=pair)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


@pytest.mark.parametrize("authorization", REFUSED.values(), ids=REFUSED)
def test_scope(nobody: httpx.Client, authorization: str | None) -> None:
    """Whatever was wrong with the credentials, the challenge says what to ask for."""
    headers = {"Authorization": authorization} if authorization else {}
    for method, target, scope in REQUESTS:
        answer = nobody.request(method, target, headers=headers)
        assert challenged_scope(answer) == scope, (method, target)


def test_every_endpoint_is_here() -> None:
    """No endpoint that asks for credentials is missing above."""
    asking = [row for row in ENDPOINTS if row.action is not None]
    assert len({(row.method, row.path) for row in asking}) == 35


def test_another_repository(nobody: httpx.Client) -> None:
    """A token for something else is challenged for the same scope as no token."""
    headers = token(nobody, ALICE.pair, "repository:other/app:pull,push,delete")
    for method, target, scope in REQUESTS[2:]:
        answer = nobody.request(method, target, headers=headers)
        assert challenged_scope(answer) == scope, (method, target)
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


def test_second_attempt(nobody: httpx.Client) -> None:
    """With the token that the challenge names, the same request is admitted."""
    for method, target, _ in REQUESTS[:-7]:
        if method == "DELETE":
            continue
        first = nobody.request(method, target, headers={"Authorization": "Bearer expired"})
        scope = challenged_scope(first)
        headers = token(nobody, ALICE.pair, *([scope] if scope else []))
        second = nobody.request(method, target, headers=headers)
        assert second.status_code not in (401, 403), (method, target)


def test_mount_at_the_second_attempt(nobody: httpx.Client) -> None:
    """A blob is mounted with the token that the challenge of the mount names."""
    target = f"/v2/team/second/blobs/uploads/?mount={BLOB}&from=team/app"
    scope = challenged_scope(nobody.post(target, headers={"Authorization": "Bearer expired"}))
    assert scope == "repository:team/second:pull,push repository:team/app:pull"
    headers = token(nobody, PUSHER.pair, scope)
    assert nobody.post(target, headers=headers).status_code == 201


def test_malformed_repository(nobody: httpx.Client) -> None:
    """A repository that cannot exist is in no scope."""
    headers = {"Authorization": "Bearer expired"}
    answer = nobody.get('/v2/TEAM/a"b/tags/list', headers=headers)
    assert challenged_scope(answer) is None


class TestMountNeverFailsAPush:
    """What cannot be mounted opens an upload session (end-11)."""

    @pytest.mark.parametrize(
        "query",
        [
            f"mount={BLOB}&from=127.0.0.1:5000/team/app",
            f"mount={BLOB}&from=TEAM/App",
            f"mount={BLOB}&from=team%252Fapp",
            f"mount={BLOB}&from=%FF%00",
            f"mount={BLOB}&from={'a' * 300}",
            f"mount={BLOB}&from=team/unknown",
            f"mount={BLOB}&from=secret/app",
            f"mount={BLOB}&from=team/new",
            f"mount={BLOB.upper()}&from=team/app",
            f"mount=sha256:{BLOB[7:].upper()}&from=team/app",
            f"mount={BLOB[7:]}&from=team/app",
            f"mount={BLOB}%0D%0A&from=team/app",
            "mount=md5:abc&from=team/app",
            "mount=md5:abc",
            f"mount=sha512:{'0' * 128}&from=team/app",
            "mount=%FF&from=team/app",
            "mount=&from=team/app",
            "mount=",
            "mount=&from=",
            "from=team/app",
        ],
        ids=lambda query: query.replace(BLOB, "BLOB")[:40],
    )
    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    def test_not_mountable(self, nobody: httpx.Client, scheme: str, query: str) -> None:
        """The answer is 202, and the blob can be pushed through the session."""
        headers = {"Authorization": f"Basic {PUSHER.encoded}"}
        if scheme == "bearer":
            headers = token(
                nobody, PUSHER.pair, "repository:team/new:pull,push", "repository:team/app:pull"
            )
        answer = nobody.post(f"{UPLOADS}?{query}", headers=headers)
        assert answer.status_code == 202, answer.text
        location = answer.headers["location"]
        assert nobody.get(location, headers=headers).status_code == 204
        assert nobody.delete(location, headers=headers).status_code == 204

    @pytest.mark.parametrize("source", ["team/app", "secret/app", "team/unknown"])
    def test_token_for_the_target_only(self, nobody: httpx.Client, source: str) -> None:
        """A token that does not name the source pushes the blob instead."""
        headers = token(nobody, PUSHER.pair, "repository:team/lone:pull,push")
        target = f"/v2/team/lone/blobs/uploads/?mount={BLOB}&from={source}"
        answer = nobody.post(target, headers=headers)
        assert answer.status_code == 202, answer.text
        finished = nobody.put(
            answer.headers["location"],
            params={"digest": BLOB},
            content=IMAGE.blobs[0],
            headers=headers,
        )
        assert finished.status_code == 201, finished.text

    def test_digest_algorithm(self, nobody: httpx.Client) -> None:
        """A session that a client asks for with an unknown algorithm is still refused."""
        headers = {"Authorization": f"Basic {PUSHER.encoded}"}
        query = f"mount={BLOB}&from=TEAM/App&digest-algorithm=md5"
        assert nobody.post(f"{UPLOADS}?{query}", headers=headers).status_code == 400

    def test_who_may_not_push(self, nobody: httpx.Client) -> None:
        """Nobody mounts, nor opens a session, where they may not push."""
        headers = {"Authorization": f"Basic {PULLER.encoded}"}
        for query in (f"mount={BLOB}&from=team/app", "mount=md5:abc&from=TEAM/App"):
            assert nobody.post(f"{UPLOADS}?{query}", headers=headers).status_code == 403
            assert nobody.post(f"{UPLOADS}?{query}").status_code == 401
