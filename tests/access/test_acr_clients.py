"""ACR's clients send no credentials, and Go's no body, until they were challenged."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from access.test_secrecy import bearer
from portside.spec.endpoints import ENDPOINTS
from support.access import ALICE, PULLER, PUSHER, Login
from support.acr_clients import (
    GO_WITHOUT_NAME,
    LANGUAGES,
    PYTHON,
    AcrClient,
    Language,
    payload_of,
)
from support.commands import Commands
from support.content import digest_of, image
from support.server import running_registry
from support.wire import assert_error, connect, push

TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105  # a name, and public
ANYTHING = "eyJhbGciOiJub25lIn0.any.thing"
OPENED = {"by default": (), "--open": ("--open",), "by a rule": ("--anonymous", "*:*")}
"""The options with which everybody may do everything."""

OTHERS = [
    "docker/26.1 go/go1.21 git-commit/9dbdbd4 kernel/6.1 os/linux arch/amd64",
    "containers/5.29 (github.com/containers/image)",
    "skopeo/1.9.3",
    "oras/1.2.0",
    "curl/7.88.1",
    "python-requests/2.32.3",
    "distribution-spec-conformance-tests",
    None,
]
"""The User-Agent of clients that go on without a challenge where they need no credentials."""

by_language = pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)


@pytest.fixture(scope="module", params=OPENED)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Talk to a registry where everybody may do everything."""
    data: Path = tmp_path_factory.mktemp("opened") / "data"
    with (
        running_registry(data, *OPENED[request.param], "--workers", "2") as registry,
        connect(registry.url) as client,
    ):
        yield client


def assert_everything_works(client: AcrClient, repository: str) -> None:
    """Push a blob in a chunk, mount it, push its manifest, read, and delete all of it."""
    content = image(repository)
    for blob in content.blobs:
        start = client.request("POST", f"/v2/{repository}/blobs/uploads/")
        assert start.status_code == 202, start.text
        chunk = {"Content-Type": "application/octet-stream"}
        chunk["Content-Range"] = f"0-{len(blob) - 1}"
        sent = client.request("PATCH", start.headers["Location"], blob, chunk)
        assert (sent.status_code, sent.headers["Range"]) == (202, f"0-{len(blob) - 1}"), sent.text
        join = "&" if "?" in sent.headers["Location"] else "?"
        digest = digest_of(blob)
        done = client.request("PUT", f"{sent.headers['Location']}{join}digest={digest}")
        assert (done.status_code, done.headers["Docker-Content-Digest"]) == (201, digest)
    kind = {"Content-Type": content.media_type}
    put = client.request("PUT", f"/v2/{repository}/manifests/v1", content.manifest, kind)
    assert put.status_code == 201, put.text
    assert client.request("GET", f"/v2/{repository}/manifests/v1").content == content.manifest
    ranged = client.request(
        "GET", f"/v2/{repository}/blobs/{digest}", headers={"Range": "bytes=0-"}
    )
    assert (ranged.status_code, ranged.content) == (206, blob)
    mount = f"/v2/{repository}/other/blobs/uploads/?from={repository}&mount={digest}"
    assert client.request("POST", mount).status_code == 201
    assert client.request("GET", "/v2/_catalog").status_code == 200
    gone = client.request("DELETE", f"/v2/{repository}/other/blobs/{digest}")
    assert gone.status_code == 202
    gone = client.request("DELETE", f"/v2/{repository}/manifests/{content.digest}")
    assert gone.status_code == 202


class TestEverythingIsAllowed:
    """A registry where everybody may do everything."""

    @pytest.mark.parametrize(
        "language", [*LANGUAGES, GO_WITHOUT_NAME], ids=lambda language: language.name
    )
    def test_anonymous_client(
        self, opened: httpx.Client, repository: str, language: Language
    ) -> None:
        """The anonymous client does everything; no body is lost."""
        client = AcrClient(opened, language, None)
        assert_everything_works(client, repository)
        assert client.sent[0][2] == (401 if language is not GO_WITHOUT_NAME else 202)
        assert ("POST", "/oauth2/token", 200) in client.sent

    @pytest.mark.parametrize(
        "opened", [name for name in OPENED if name != "by a rule"], indirect=True
    )
    @pytest.mark.parametrize("credential", [ANYTHING, "no token at all", "name:password"])
    @by_language
    def test_any_credential(
        self, opened: httpx.Client, repository: str, language: Language, credential: str
    ) -> None:
        """An open registry exchanges whatever credential an application has."""
        client = AcrClient(opened, language, credential)
        assert client.request("GET", "/v2/_catalog").status_code == 200
        assert client.sent[:2] == [("GET", "/v2/_catalog", 401), ("POST", "/oauth2/exchange", 200)]
        assert_everything_works(client, repository)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v2/_catalog"),
            ("GET", "/v2/absent/tags/list"),
            ("HEAD", "/v2/absent/manifests/v1"),
            ("POST", "/v2/absent/blobs/uploads/"),
            ("DELETE", f"/v2/absent/blobs/{digest_of(b'')}"),
        ],
    )
    @by_language
    def test_every_endpoint(
        self, opened: httpx.Client, language: Language, method: str, path: str
    ) -> None:
        """Each endpoint challenges the SDKs, those that read among them."""
        headers = {"User-Agent": language.agent}
        answer = opened.request(method, path, headers=headers)
        assert answer.status_code == 401
        found = language.parse(answer.headers["WWW-Authenticate"])
        assert set(found) >= {"service", "scope"}
        again = headers | {"Authorization": f"Bearer {ANYTHING}"}
        if not _is_closed(opened):
            assert opened.request(method, path, headers=again).status_code != 401

    def test_names_that_cannot_be(self, opened: httpx.Client) -> None:
        """A name that no scope can hold is refused, as the SDKs cannot read a challenge of none."""
        answer = opened.get("/v2/TEAM/app/tags/list", headers={"User-Agent": PYTHON.agent})
        assert_error(answer, 400, "NAME_INVALID")


def _is_closed(client: httpx.Client) -> bool:
    return client.get("/v2/").status_code == 401


class TestOtherClients:
    """Clients that send what they have at once, on a registry that is open."""

    @pytest.mark.parametrize("agent", OTHERS)
    def test_are_not_challenged(
        self, client: httpx.Client, repository: str, agent: str | None
    ) -> None:
        """They push and pull, and need no token."""
        with connect(client.base_url, headers={"User-Agent": agent} if agent else {}) as other:
            if agent is None:
                del other.headers["User-Agent"]
            assert other.get("/v2/").status_code == 200
            assert other.get("/v2/_catalog").status_code == 200
            push(other, repository, image(repository), "v1")
            assert other.head(f"/v2/{repository}/manifests/v1").status_code == 200
            assert other.delete(f"/v2/{repository}/manifests/v1").status_code == 202

    def test_read_what_everybody_may(self, nobody: httpx.Client) -> None:
        """Where anonymous access answers, it answers at once."""
        assert nobody.get("/v2/public/app/manifests/v1").status_code == 200
        for language in LANGUAGES:
            headers = {"User-Agent": language.agent}
            assert nobody.get("/v2/public/app/manifests/v1", headers=headers).status_code == 401


class TestWithheldBodies:
    """A request without the body that it needs, and without credentials."""

    @staticmethod
    def requests(client: httpx.Client, repository: str) -> Iterator[httpx.Response]:
        """Send each kind of them."""
        answer = client.post(f"/v2/{repository}/blobs/uploads/")
        chunk = {"Content-Range": "0-99", "Content-Length": "0"}
        yield client.put(f"/v2/{repository}/manifests/v1", headers={"Content-Length": "0"})
        yield client.patch(answer.headers["Location"], headers=chunk)
        yield client.put(
            answer.headers["Location"], params={"digest": digest_of(b"")}, headers=chunk
        )

    def test_are_challenged(self, client: httpx.Client, repository: str) -> None:
        """They are challenged for a push."""
        for answer in self.requests(client, repository):
            assert_error(answer, 401, "UNAUTHORIZED")
            assert answer.headers["WWW-Authenticate"] == (
                f'Bearer realm="{client.base_url}/oauth2/token",service="portside",'
                f'scope="repository:{repository}:pull,push"'
            )

    def test_with_credentials(self, client: httpx.Client, repository: str) -> None:
        """A client that has sent credentials is told its mistake."""
        with connect(client.base_url, auth=("any", "thing")) as other:
            for answer in self.requests(other, repository):
                assert answer.status_code == 400, answer.text

    def test_under_basic(self, acr_client: httpx.Client, repository: str) -> None:
        """Where challenges are for Basic, nobody waits for one."""
        for answer in self.requests(acr_client, repository):
            assert answer.status_code == 400, answer.text
        for language in LANGUAGES:
            headers = {"User-Agent": language.agent}
            assert acr_client.get("/v2/_catalog", headers=headers).status_code == 200

    def test_bodies_that_may_be_empty(self, client: httpx.Client, repository: str) -> None:
        """An empty chunk and an empty last chunk are nothing that must have a body."""
        location = client.post(f"/v2/{repository}/blobs/uploads/").headers["Location"]
        assert client.patch(location).status_code == 202
        assert client.patch(location, content=iter([b""])).status_code == 202
        done = client.put(location, params={"digest": digest_of(b"")})
        assert done.status_code == 201

    def test_chunks_without_a_range(self, client: httpx.Client, repository: str) -> None:
        """The unnamed SDK for Go loses its first chunk; no blob is stored in its place."""
        go = AcrClient(client, GO_WITHOUT_NAME, "credential")
        location = client.post(f"/v2/{repository}/blobs/uploads/").headers["Location"]
        assert go.request("PATCH", location, b"chunk").headers["Range"] == "0-0"
        finished = go.request("PUT", f"{location}?digest={digest_of(b'chunk')}")
        assert_error(finished, 400, "DIGEST_INVALID")
        assert client.head(f"/v2/{repository}/blobs/{digest_of(b'chunk')}").status_code == 404


class TestUsers:
    """A registry with users, and a rule for everybody."""

    @by_language
    def test_everything(self, nobody: httpx.Client, repository: str, language: Language) -> None:
        """A user does everything, mounts among it, with two requests at most."""
        assert_everything_works(AcrClient(nobody, language, ALICE.text), repository)

    @by_language
    def test_nobody_is_served_as_anonymous(self, nobody: httpx.Client, language: Language) -> None:
        """A client with credentials uses them, also where anonymous access would answer."""
        client = AcrClient(nobody, language, ALICE.text)
        assert client.request("GET", "/v2/public/app/manifests/v1").status_code == 200
        assert client.sent[0] == ("GET", "/v2/public/app/manifests/v1", 401)
        listed = client.request("GET", "/v2/_catalog").json()["repositories"]
        assert {"public/app", "secret/app"} <= set(listed)

    @by_language
    def test_another_right(self, nobody: httpx.Client, repository: str, language: Language) -> None:
        """A token that lacks a right is exchanged for one that has it, by the second request."""
        client, name = AcrClient(nobody, language, ALICE.text), f"team/{repository}"
        assert client.request("GET", f"/v2/{name}/tags/list").status_code == 404
        assert client.request("POST", f"/v2/{name}/blobs/uploads/").status_code == 202
        assert client.request("GET", f"/v2/secret/{repository}/tags/list").status_code == 404

    @by_language
    def test_no_right(self, nobody: httpx.Client, language: Language) -> None:
        """What the user may not do is 401 with the same challenge, and never 403."""
        client = AcrClient(nobody, language, PULLER.text)
        assert client.request("GET", "/v2/team/app/manifests/v1").status_code == 200
        for method, path, scope in (
            ("POST", "/v2/team/app/blobs/uploads/", "repository:team/app:pull,push"),
            ("DELETE", "/v2/team/app/manifests/v1", "repository:team/app:delete"),
            ("GET", "/v2/secret/app/manifests/v1", "repository:secret/app:pull"),
        ):
            answer = client.request(method, path)
            assert_error(answer, 401, "UNAUTHORIZED")
            challenge = answer.headers["WWW-Authenticate"]
            assert challenge.endswith(
                f'service="portside",scope="{scope}",error="insufficient_scope"'
            )
        docker = {"User-Agent": "docker/26.1"} | bearer(
            nobody, PULLER.pair, "repository:team/app:pull"
        )
        answer = nobody.post("/v2/team/app/blobs/uploads/", headers=docker)
        assert_error(answer, 403, "DENIED")

    @by_language
    def test_anonymous(self, nobody: httpx.Client, language: Language) -> None:
        """The anonymous client reads what is public; the rest stays 401."""
        client = AcrClient(nobody, language, None)
        assert client.request("GET", "/v2/public/app/manifests/v1").status_code == 200
        for method, path in (
            ("GET", "/v2/secret/app/manifests/v1"),
            ("POST", "/v2/public/app/blobs/uploads/"),
        ):
            answer = client.request(method, path)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].endswith('error="insufficient_scope"')


TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"


@pytest.fixture(scope="module")
def trusting(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[httpx.Client, Callable[..., str]]]:
    """Trust a tenant, whose keys are published without an algorithm, as Entra's are."""
    folder = tmp_path_factory.mktemp("entra")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    del jwk["key_ops"]
    keys = {"keys": [jwk | {"use": "sig", "kid": "k1", "x5t": "k1"}]}
    (folder / "keys.json").write_text(json.dumps(keys))
    (folder / "access.toml").write_text(
        f"""
        [[issuer]]
        name = "entra"
        issuer = "https://sts.windows.net/{TENANT}/"
        audience = "https://containerregistry.azure.net"
        jwks-file = "{folder / "keys.json"}"
        identity = "{{oid}}"

        [[access]]
        identities = ["entra:0d1f"]
        repositories = ["team/*"]
        actions = ["*"]
        """
    )

    def sign(**claims: object) -> str:
        now = int(time.time())
        given = {
            "aud": "https://containerregistry.azure.net",
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "oid": "0d1f",
            "tid": TENANT,
            "xms_idrel": {"nested": "1 > ?~"},
        }
        return jwt.encode({**given, **claims}, key, "RS256", headers={"kid": "k1"})

    options = ("--access", str(folder / "access.toml"))
    with (
        running_registry(folder / "data", *options) as registry,
        connect(registry.url) as client,
    ):
        yield client, sign


class TestEntra:
    """Tokens of Entra ID, as Azure's credentials get them for ACR."""

    @by_language
    def test_sdk(
        self,
        trusting: tuple[httpx.Client, Callable[..., str]],
        repository: str,
        language: Language,
    ) -> None:
        """The token is exchanged, and opens what a rule allows to its identity."""
        http, sign = trusting
        client = AcrClient(http, language, sign())
        assert_everything_works(client, f"team/{repository}")
        assert client.request("GET", "/v2/secret/app/tags/list").status_code == 401

    def test_others(self, trusting: tuple[httpx.Client, Callable[..., str]]) -> None:
        """A token for another audience, of another tenant or without an object id is refused."""
        http, sign = trusting
        form = {"grant_type": "access_token", "tenant": "other", "service": "other"}
        good = http.post("/oauth2/exchange", data=form | {"access_token": sign()})
        assert good.status_code == 200
        assert payload_of(good.json()["refresh_token"])["sub"] == "entra:0d1f"
        for claims in (
            {"aud": "https://management.azure.com/"},
            {"iss": "https://sts.windows.net/other/"},
            {"oid": None},
            {"exp": int(time.time()) - 3600},
        ):
            token = sign(**claims)
            answer = http.post("/oauth2/exchange", data=form | {"access_token": token})
            assert_error(answer, 401, "UNAUTHORIZED")


class TestCommandLines:
    """The requests of `az` and `acr`."""

    def test_az(self, nobody: httpx.Client) -> None:
        """`az` looks for a challenge at /v2/, and sends its login server for a service."""
        challenge = nobody.get("/v2/").headers["WWW-Authenticate"]
        assert challenge == f'Bearer realm="{nobody.base_url}/oauth2/token",service="portside"'
        form = {
            "grant_type": "password",
            "username": ALICE.name,
            "password": ALICE.password,
            "service": "myregistry.azurecr.io",
            "scope": "repository:team/app:delete,pull",
        }
        token = nobody.post("/oauth2/token", data=form).json()["access_token"]
        assert payload_of(token)["access"] == [
            {"type": "repository", "name": "team/app", "actions": ["pull", "delete"]}
        ]
        headers = {"Authorization": f"Bearer {token}"}
        assert nobody.get("/v2/team/app/manifests/v1", headers=headers).status_code == 200

    def test_az_login(self, nobody: httpx.Client) -> None:
        """`az acr login` gets a refresh token, which is a password then."""
        form = {
            "grant_type": "access_token",
            "service": "myregistry.azurecr.io",
            "tenant": TENANT,
            "access_token": ALICE.text,
        }
        for grant_type in ("access_token", "access_token_refresh_token"):
            answer = nobody.post("/oauth2/exchange", data=form | {"grant_type": grant_type})
            refresh = answer.json()["refresh_token"]
        form = {"grant_type": "refresh_token", "refresh_token": refresh}
        assert nobody.post("/oauth2/exchange", data=form).status_code == 200
        pair = (TOKEN_USER, refresh)
        assert nobody.get("/v2/team/app/manifests/v1", auth=pair).status_code == 200
        query = {"service": "x", "scope": ["repository:team/app:pull", "registry:catalog:*"]}
        answer = nobody.get("/oauth2/token", params=query, auth=pair)
        named = {"grant_type": "password", "username": TOKEN_USER, "password": refresh}
        again = nobody.post("/oauth2/token", data=named | {"scope": " ".join(query["scope"])})
        for token in (answer.json()["access_token"], again.json()["access_token"]):
            access = [entry["name"] for entry in payload_of(token)["access"]]
            assert access == ["team/app", "catalog"]

    @pytest.mark.parametrize("login", [ALICE, PUSHER], ids=lambda login: login.name)
    def test_acr(self, nobody: httpx.Client, login: Login) -> None:
        """`acr` asks for the catalog and every repository, and then for one repository at a time.

        It does the latter because of a claim in the refresh token: without it, it would ask for
        every repository again. It renews a token that has less than five minutes left before each
        request.
        """
        exchange = {"grant_type": "access_token", "access_token": login.text}
        refresh = nobody.post("/oauth2/exchange", data=exchange).json()["refresh_token"]
        form = {"grant_type": "refresh_token", "refresh_token": refresh, "service": "x"}
        assert payload_of(refresh)["aad_identity"] == login.name
        every = {"scope": "registry:catalog:* repository:*:*"}
        token = nobody.post("/oauth2/token", data=form | every).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert nobody.get("/v2/_catalog", headers=headers).status_code == 200
        for actions in ("pull,push", "pull,delete,metadata_read,metadata_write"):
            scope = f"repository:team/app:{actions}"
            answer = nobody.post("/oauth2/token", data=form | {"scope": scope})
            token = answer.json()["access_token"]
            claims = payload_of(token)
            assert claims["exp"] - claims["iat"] > 300
            headers = {"Authorization": f"Bearer {token}"}
            assert nobody.get("/v2/team/app/manifests/v1", headers=headers).status_code == 200
        catalog = nobody.get("/v2/_catalog", headers=headers)
        assert 'error="insufficient_scope"' in catalog.headers["WWW-Authenticate"]
        deleted = nobody.delete("/v2/team/app/manifests/absent", headers=headers)
        assert deleted.status_code == (404 if login is ALICE else 403)


class TestOwnApi:
    """The endpoints of ACR's own API, which no other client uses."""

    @staticmethod
    def targets() -> list[tuple[str, str]]:
        """Return the method and path of each of them."""
        variable = re.compile(r"\{(\w+)\}")
        texts = {"name": "absent/app", "digest": digest_of(b"")}
        return [
            (row.method, variable.sub(lambda found: texts.get(found[1], "v1"), row.path))
            for row in ENDPOINTS
            if row.path.startswith("/acr/v1/")
        ]

    def test_is_challenged_first(self, opened: httpx.Client, nobody: httpx.Client) -> None:
        """A request without credentials is challenged, before its body is judged."""
        for method, path in self.targets():
            for asked in (opened, nobody):
                answer = asked.request(method, path)
                assert answer.status_code == 401, (method, path)
                assert ',scope="' in answer.headers["WWW-Authenticate"]

    def test_open_registry(self, client: httpx.Client) -> None:
        """With anything in the header, an open registry answers."""
        for method, path in self.targets():
            for header in ("Bearer x", "Basic !!!", "Basic Og==", "Digest a"):
                answer = client.request(method, path, headers={"Authorization": header})
                assert answer.status_code not in (401, 403), (method, path)

    def test_never_403(self, nobody: httpx.Client) -> None:
        """A user who may not do something is challenged, with a token and with a password."""
        headers = bearer(nobody, PULLER.pair, "repository:absent/app:pull")
        for method, path in self.targets():
            if path.endswith("/_catalog"):
                continue
            for options in ({"headers": headers}, {"auth": PULLER.pair}):
                answer = nobody.request(method, path, **options)
                assert answer.status_code == 401, (method, path)
                assert answer.headers["WWW-Authenticate"].endswith('error="insufficient_scope"')


Ask = Callable[[httpx.Client], httpx.Response]

SCOPES: dict[str, str] = {
    "scope": "registry:catalog:* repository:a/b:pull,push repository:*:*",
    "service": "any",
}

TOKEN_REQUESTS: dict[str, Ask] = {
    "refresh_token": lambda http: http.post(
        "/oauth2/token",
        data={"grant_type": "refresh_token", "refresh_token": ANYTHING} | SCOPES,
    ),
    "password": lambda http: http.post(
        "/oauth2/token",
        data={"grant_type": "password", "username": "a", "password": "b"} | SCOPES,
    ),
    "anonymous": lambda http: http.post(
        "/oauth2/token", data={"grant_type": "password", "refresh_token": ""} | SCOPES
    ),
    "anonymous of Java": lambda http: http.post("/token", data={"grant_type": "password"} | SCOPES),
    "Basic": lambda http: http.get("/oauth2/token", params=SCOPES, auth=("a", "b")),
    "Basic with a token": lambda http: http.get("/token", params=SCOPES, auth=(TOKEN_USER, "x")),
    "Bearer": lambda http: http.get(
        "/oauth2/token", params=SCOPES, headers={"Authorization": "Bearer x"}
    ),
    "unknown scheme": lambda http: http.get(
        "/oauth2/token", params=SCOPES, headers={"Authorization": "Digest x"}
    ),
    "GET, anonymous": lambda http: http.get("/oauth2/token", params=SCOPES),
}


class TestOpenTokenServer:
    """The token server of a registry without access control."""

    @pytest.mark.parametrize(
        "opened", [name for name in OPENED if name != "by a rule"], indirect=True
    )
    def test_grants(self, opened: httpx.Client) -> None:
        """Every grant type gives a token with all that was asked for, to nobody in particular."""
        for name, ask in TOKEN_REQUESTS.items():
            answer = ask(opened)
            assert answer.status_code == 200, (name, answer.text)
            claims = payload_of(answer.json()["access_token"])
            assert (claims["sub"], claims["kind"]) == ("", "anonymous"), name
            granted = {entry["name"]: entry["actions"] for entry in claims["access"]}
            assert granted["a/b"] == ["pull", "push"], name
            assert (set(granted), granted["catalog"]) == ({"a/b", "*", "catalog"}, ["*"])
            assert answer.json()["expires_in"] > 300
            assert answer.headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize(
        "opened", [name for name in OPENED if name != "by a rule"], indirect=True
    )
    @pytest.mark.parametrize(
        "grant_type", ["access_token", "access_token_refresh_token", "refresh_token"]
    )
    def test_exchange(self, opened: httpx.Client, grant_type: str) -> None:
        """Any text at all is exchanged."""
        for text in (ANYTHING, "a", "a:b", ":", "", "\0", "é" * 1000):
            form = {"grant_type": grant_type, "access_token": text, "tenant": "t", "service": "s"}
            answer = opened.post("/oauth2/exchange", data=form)
            assert answer.status_code == 200, answer.text
            claims = payload_of(answer.json()["refresh_token"])
            assert (claims["sub"], claims["kind"]) == ("", "anonymous")

    def test_grant_types(self, client: httpx.Client) -> None:
        """What is no grant type is refused here as well."""
        for path in ("/oauth2/token", "/oauth2/exchange"):
            answer = client.post(path, data={"grant_type": "other"})
            assert_error(answer, 400, "UNSUPPORTED")

    def test_any_credentials(self, client: httpx.Client) -> None:
        """Requests with any Authorization are served."""
        for header in ("Bearer x", "Bearer", "Basic !!!", "Basic Og==", "Digest a", "", "x" * 999):
            answer = client.get("/v2/_catalog", headers={"Authorization": header})
            assert answer.status_code == 200, header

    def test_keys(self, client: httpx.Client, tmp_path: Path) -> None:
        """No key is published that verifies what everybody can get."""
        token = TOKEN_REQUESTS["anonymous"](client).json()["access_token"]
        published = client.get("/.well-known/jwks.json").json()["keys"]
        assert all(key["kid"] != _kid(token) for key in published)
        with (
            running_registry(tmp_path / "data", "--open") as registry,
            connect(registry.url) as http,
        ):
            assert http.get("/.well-known/jwks.json").json() == {"keys": []}

    def test_access_control_comes_later(self, tmp_path: Path) -> None:
        """What was issued before is invalid from the first user on, in every worker."""
        data = tmp_path / "data"
        with (
            running_registry(data, "--workers", "2") as registry,
            connect(registry.url) as http,
        ):
            self._issue_and_close(http, data)

    @staticmethod
    def _issue_and_close(http: httpx.Client, data: Path) -> None:
        push(http, "team/app", image("team/app"), "v1")
        exchange = {"grant_type": "access_token", "access_token": ANYTHING}
        refresh = http.post("/oauth2/exchange", data=exchange).json()["refresh_token"]
        tokens = [ask(http).json()["access_token"] for ask in TOKEN_REQUESTS.values()]
        path = "/v2/team/app/manifests/v1"
        for token in [*tokens, refresh]:
            assert http.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
        Commands(data).add_user("alice", "a password")
        for token in [*tokens, refresh] * 2:
            answer = http.get(path, headers={"Authorization": f"Bearer {token}"})
            assert_error(answer, 401, "UNAUTHORIZED")
            assert answer.headers["WWW-Authenticate"].endswith('error="invalid_token"')
            assert http.get(path, auth=(TOKEN_USER, token)).status_code == 401
            for form in (
                {"grant_type": "refresh_token", "refresh_token": token},
                {"grant_type": "password", "username": TOKEN_USER, "password": token},
            ):
                assert http.post("/oauth2/token", data=form | SCOPES).status_code == 401
            exchange = {"grant_type": "access_token", "access_token": token}
            assert http.post("/oauth2/exchange", data=exchange).status_code == 401
        anonymous = TOKEN_REQUESTS["anonymous"](http).json()["access_token"]
        assert payload_of(anonymous)["access"] == []
        mine = http.get(path, headers=bearer(http, ("alice", "a password"), SCOPES["scope"]))
        assert mine.status_code == 200


def _kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])
