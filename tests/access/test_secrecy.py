"""What one may not see cannot be told from what is not there; and secrets stay secret."""

from __future__ import annotations

import json

import httpx
import jwt
import pytest

from portside import __version__
from support.access import ALICE, PULLER, PUSHER, VICTIM, Login
from support.content import digest_of, image
from support.server import RunningRegistry
from support.wire import assert_error, push_blob

THERE, ABSENT = "secret/app", "secret/not"


def requests_for(repository: str) -> list[tuple[str, str]]:
    """List requests for content that is in one of the two repositories, and not in the other."""
    content = image(THERE)
    blob = digest_of(content.blobs[0])
    paths = ("manifests/v1", f"manifests/{content.digest}", f"blobs/{blob}", "tags/list")
    reads = [("GET", path) for path in (*paths, f"referrers/{content.digest}")]
    writes = [
        ("DELETE", "manifests/v1"),
        ("DELETE", f"blobs/{blob}"),
        ("PUT", "manifests/v1"),
        ("POST", "blobs/uploads/"),
        ("PATCH", f"blobs/uploads/{'0' * 32}"),
    ]
    return [(method, f"/v2/{repository}/{path}") for method, path in reads + writes]


def bearer(client: httpx.Client, pair: tuple[str, str] | None, *scopes: str) -> dict[str, str]:
    """Ask for a token; returns the header to send."""
    query = {"service": "portside", "scope": list(scopes)}
    answer = client.get("/oauth2/token", params=query, auth=pair)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


@pytest.mark.parametrize("scheme", ["none", "anonymous token", "basic", "bearer"])
def test_existence(nobody: httpx.Client, scheme: str) -> None:
    """Every answer about a private repository is the same as about one that does not exist."""
    for (method, there), (_, absent) in zip(requests_for(THERE), requests_for(ABSENT), strict=True):
        answers = []
        for path, repository in ((there, THERE), (absent, ABSENT)):
            headers: dict[str, str] = {}
            scope = f"repository:{repository}:*"
            if scheme == "anonymous token":
                headers = bearer(nobody, None, scope)
            elif scheme == "bearer":
                headers = bearer(nobody, PULLER.pair, scope)
            elif scheme == "basic":
                headers = {"Authorization": f"Basic {PULLER.encoded}"}
            answer = nobody.request(method, path, headers=headers)
            assert answer.status_code == (403 if scheme in {"basic", "bearer"} else 401)
            challenge = answer.headers.get("www-authenticate", "")
            said = answer.text.replace(answer.headers["X-Request-Id"], "ID")
            answers.append((said + challenge).replace(repository, "X"))
        assert answers[0] == answers[1], (method, there)


class TestVersion:
    """The root and the description of the API, which ask for no credentials."""

    @staticmethod
    def versions(client: httpx.Client, headers: dict[str, str]) -> list[str | None]:
        """Return what both say, having seen that neither challenges."""
        answers = [client.get(path, headers=headers) for path in ("/", "/openapi.json")]
        for answer in answers:
            assert answer.status_code == 200
            assert "www-authenticate" not in answer.headers
        root, description = (answer.json() for answer in answers)
        assert root["links"] == {"api": "/v2/", "description": "/openapi.json"}
        return [root.get("version"), description["info"]["version"]]

    def test_is_shown(self, nobody: httpx.Client) -> None:
        """Whoever is known learns the version, whatever else they may do."""
        known = [__version__, __version__]
        assert self.versions(nobody, {"Authorization": f"Basic {PULLER.encoded}"}) == known
        assert self.versions(nobody, bearer(nobody, PULLER.pair)) == known

    def test_is_hidden(self, nobody: httpx.Client) -> None:
        """Nobody else does: without credentials, with wrong ones, with an anonymous token."""
        hidden = [None, "2.0"]
        assert self.versions(nobody, {}) == hidden
        assert self.versions(nobody, {"Authorization": "Bearer wrong"}) == hidden
        assert self.versions(nobody, {"Authorization": "Basic wrong"}) == hidden
        assert self.versions(nobody, bearer(nobody, None)) == hidden


class TestMount:
    """A mount reads from its source."""

    @pytest.mark.parametrize("source", [THERE, ABSENT])
    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    def test_from_what_one_may_not_read(
        self, nobody: httpx.Client, scheme: str, source: str
    ) -> None:
        """Nothing is mounted, and an upload begins, whether the blob exists or not."""
        digest = digest_of(image(THERE).blobs[0])
        headers = {"Authorization": f"Basic {PUSHER.encoded}"}
        if scheme == "bearer":
            wanted = ("repository:team/other:pull,push", f"repository:{source}:pull")
            headers = bearer(nobody, PUSHER.pair, *wanted)
        for query in (f"mount={digest}&from={source}", f"mount={digest}"):
            answer = nobody.post(f"/v2/team/other/blobs/uploads/?{query}", headers=headers)
            assert answer.status_code == 202, answer.text
        assert nobody.head(f"/v2/team/other/blobs/{digest}", headers=headers).status_code == 404

    def test_from_what_one_may_read(self, nobody: httpx.Client, alice: httpx.Client) -> None:
        """With and without a source, what may be read is mounted."""
        for number, repository in enumerate(("team/app", "public/app")):
            digest = digest_of(image(repository).blobs[0])
            headers = {"Authorization": f"Basic {PUSHER.encoded}"}
            for query in (f"mount={digest}&from={repository}", f"mount={digest}"):
                target = f"/v2/team/mounted{number}/blobs/uploads/?{query}"
                assert nobody.post(target, headers=headers).status_code == 201
        digest = push_blob(alice, "secret/app", b"only there")
        assert alice.post(f"/v2/team/x/blobs/uploads/?mount={digest}").status_code == 201


class TestCatalog:
    """`_catalog` lists what the caller may see."""

    @pytest.mark.parametrize(
        ("pair", "seen"),
        [
            (None, {"public/app"}),
            (PULLER.pair, {"public/app", "team/app"}),
            (ALICE.pair, {"public/app", "team/app", "secret/app"}),
        ],
    )
    def test_token(
        self, nobody: httpx.Client, pair: tuple[str, str] | None, seen: set[str]
    ) -> None:
        """With a token for the catalog, and page by page."""
        headers = bearer(nobody, pair, "registry:catalog:*")
        expected = seen & {"public/app", "team/app", "secret/app"}
        found = nobody.get("/v2/_catalog", headers=headers).json()["repositories"]
        assert {name for name in found if name.endswith("/app")} == expected
        pages, target = [], "/v2/_catalog?n=1"
        while target:
            answer = nobody.get(target, headers=headers)
            pages += answer.json()["repositories"]
            link = answer.headers.get("link", "")
            target = link[1 : link.find(">")] if link else ""
        assert pages == found

    def test_without_credentials(self, nobody: httpx.Client) -> None:
        """A client that could log in is told so, and not shown less than it may see."""
        answer = nobody.get("/v2/_catalog")
        assert answer.status_code == 401
        assert 'scope="registry:catalog:*"' in answer.headers["www-authenticate"]

    def test_other_scope(self, nobody: httpx.Client) -> None:
        """A token for something else is not enough."""
        headers = bearer(nobody, ALICE.pair, "repository:team/app:pull")
        answer = nobody.get("/v2/_catalog", headers=headers)
        assert answer.status_code == 401
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


class TestWildcard:
    """Scopes wider than one repository: granted by a rule as wide, or not at all."""

    @pytest.mark.parametrize(
        "scope",
        [
            "repository:*:*",
            "repository:*:pull,push",
            "repository(plugin):*:*",
            "repository:team/*:*",
            "repository:public/*:pull",
            "repository:**:*",
            "registry:*:*",
            "registry:catalog:pull",
            "artifact:*:*",
            "*:*:*",
        ],
    )
    @pytest.mark.parametrize("login", [None, PULLER], ids=["anonymous", "token"])
    def test_narrower_rules(self, nobody: httpx.Client, login: Login | None, scope: str) -> None:
        """Rules for `public/*` and `team/*` do not grant a wildcard."""
        pair = login.pair if login else None
        answer = nobody.get("/oauth2/token", params={"scope": scope}, auth=pair).json()
        claims = jwt.decode(answer["token"], options={"verify_signature": False})
        assert (answer["scope"], claims["access"]) == ("", [])

    @pytest.mark.parametrize("scope", ["repository:*:*", "repository(plugin):*:*"])
    def test_rule_as_wide(self, nobody: httpx.Client, scope: str) -> None:
        """A user whom a rule for `*` allows everything gets one token for it, as acr-cli asks."""
        headers = bearer(nobody, ALICE.pair, scope)
        for repository in ("team/app", "secret/app"):
            path = f"/v2/{repository}/manifests/v1"
            assert nobody.get(path, headers=headers).status_code == 200

    def test_actions_of_a_repository(self, nobody: httpx.Client) -> None:
        """All actions of one repository are those that the identity may perform there."""
        for pair, name, expected in (
            (None, "public/app", "repository:public/app:pull"),
            (PULLER.pair, "team/app", "repository:team/app:pull,metadata_read"),
            (PULLER.pair, "secret/app", ""),
        ):
            query = {"scope": f"repository:{name}:*"}
            answer = nobody.get("/oauth2/token", params=query, auth=pair).json()
            assert answer["scope"] == expected


def test_secrets_are_not_logged(guarded: RunningRegistry, nobody: httpx.Client) -> None:
    """Neither passwords nor tokens are in the log or in an error, wherever they are sent."""
    token = bearer(nobody, ALICE.pair, "repository:team/app:pull")["Authorization"][7:]
    forms: list[dict[str, str]] = [
        {"grant_type": "password", "username": "alice", "password": ALICE.password},
        {"grant_type": "password", "username": "victim", "password": "wrong-secret"},
        {"grant_type": "refresh_token", "refresh_token": token},
        {"grant_type": "strange-secret"},
    ]
    answers = [nobody.post("/oauth2/token", data=form) for form in forms]
    answers.append(nobody.post("/oauth2/exchange", data={"access_token": "victim:wrong-secret"}))
    secrets = {"password": ALICE.password, "token": token, "refresh_token": "x-secret-x"}
    answers += [
        nobody.get("/oauth2/token", params=secrets),
        nobody.get("/v2/team/app/tags/list", params={"access_token": token}),
        nobody.get("/v2/", headers={"Authorization": f"Bearer {token[:-5]}wrong"}),
        nobody.get("/v2/", auth=(VICTIM.name, "wrong-secret")),
        nobody.get("/v2/", headers={"Authorization": "Basic wrong-secret"}),
    ]
    written = guarded.log + "".join(
        answer.text + json.dumps(dict(answer.headers)) for answer in answers if answer.is_error
    )
    for secret in (ALICE.password, "wrong-secret", "x-secret-x", token, token[:-5], VICTIM.encoded):
        assert secret not in written
    assert "/oauth2/token" in guarded.log


def test_finished_by_another_identity(nobody: httpx.Client, alice: httpx.Client) -> None:
    """A final PUT is repeated by who opened the session; for all others it is unknown."""
    content = b"finished by one identity"
    pusher = {"Authorization": f"Basic {PUSHER.encoded}"}
    location = nobody.post("/v2/team/app/blobs/uploads/", headers=pusher).headers["Location"]
    params = {"digest": digest_of(content)}
    for body in (content, b""):
        again = nobody.put(location, params=params, content=body, headers=pusher)
        assert again.status_code == 201, again.text
    assert_error(alice.put(location, params=params), 404, "BLOB_UPLOAD_UNKNOWN")
